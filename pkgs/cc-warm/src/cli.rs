//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::config::DEFAULT_PATH;

/// Keeps Co-op Cloud apps warm: updates that can always go back.
///
/// Each live-warm app is brought to its latest published recipe behind two gates: before, only updates that need no
/// operator; after, healthy, or version and data go back and the operator is told.
///
/// Human text goes to stderr, results to stdout. Exit codes: 0 done or nothing to do; 1 failed, nothing harmed; 2 usage or
/// configuration; 10 held; 11 rolled back; 12 became stuck; 13 was stuck already; 14 not ready; 24 refused; 25 cancelled;
/// 30 busy.
#[derive(Debug, Parser)]
#[command(name = "cc-warm", version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file.
    #[arg(long, global = true, env = "CC_WARM_CONFIG", default_value = DEFAULT_PATH, value_name = "FILE")]
    pub config: PathBuf,
    /// Print the result as JSON (documented; fields are only ever added).
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr; twice: everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows what `update` would do, and why; touches nothing.
    Plan(commands::plan::Args),
    /// Brings apps to their latest version, behind both gates.
    Update(commands::update::Args),
    /// Tries again what was rolled back, or brings a stuck app back.
    Retry(commands::retry::Args),
    /// Lets one held version pass the first gate, once.
    Approve(commands::approve::Args),
    /// Stops updates of an app until `resume`.
    Pause(commands::pause::Args),
    /// Ends a pause, or takes an app over again that was undeployed by hand.
    Resume(commands::resume::Args),
    /// Takes what runs now as last-good.
    Adopt(commands::adopt::Args),
    /// Forgets an app that is no longer declared.
    Forget(commands::forget::Args),
    /// Takes a known-good snapshot of an app now.
    Snapshot(commands::snapshot::Args),
    /// Brings a snapshot back: its version and its data.
    Restore(commands::restore::Args),
    /// Checks snapshots against their manifests.
    Verify(commands::verify::Args),
    /// Shows every app: what runs, what waits, what is wrong.
    Status(commands::status::Args),
    /// Shows what was done to an app.
    History(commands::history::Args),
    /// Takes an app of the process deployer down.
    Undeploy(commands::undeploy::Args),
    /// Settles operations that were cut short.
    Recover(commands::recover::Args),
    /// Delivers alerts, or sends a test.
    #[command(subcommand)]
    Alert(commands::alert::Command),
    /// Rebuilds the host and updates the apps, as the night does.
    Nightly(commands::nightly::Args),
    /// Checks a configuration file.
    CheckConfig(commands::check_config::Args),
    /// Shows all of it at work in a sandbox, in under a minute.
    Demo(commands::demo::Args),
    /// Prints a completion script.
    Completions(commands::completions::Args),
    /// Runs an app of the process deployer; started by cc-warm itself.
    #[command(hide = true)]
    Supervise(commands::internal::Supervise),
    /// The little server that the demo updates.
    #[command(hide = true)]
    DemoApp(crate::demo::app::Args),
}

/// Which apps.
#[derive(Debug, Args)]
pub struct Apps {
    /// The apps; all declared ones if none is named.
    #[arg(value_name = "APP")]
    pub apps: Vec<crate::config::names::AppName>,
}

/// How long to wait for somebody else's lock.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitFlag {
    /// Wait for a busy app, at most so long.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1h", value_parser = span)]
    pub wait: Option<crate::config::duration::Span>,
}

impl WaitFlag {
    /// For the lock.
    #[must_use]
    pub fn wait(self) -> crate::lock::Wait {
        self.wait.map_or(crate::lock::Wait::No, |span| crate::lock::Wait::For(span.duration()))
    }
}

/// Parses a duration given on the command line.
pub fn span(text: &str) -> Result<crate::config::duration::Span, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(crate::config::duration::Span::seconds(seconds)),
        Err(_) => crate::config::duration::Span::parse(text),
    }
}
