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
/// Human text goes to stderr, results to stdout. Exit codes: 0 done or nothing to do; 1 failed, and nothing was harmed
/// unless the error says that the app may be down; 2 usage or configuration; 10 held; 11 rolled back; 12 became stuck; 13 was
/// stuck already; 14 not ready; 24 refused; 25 cancelled; 30 busy.
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

/// The commands. What `--help` says of each are the docs of its `Args`.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "docs here would take the place of those of the `Args`")]
pub enum Command {
    Plan(commands::plan::Args),
    Update(commands::update::Args),
    Retry(commands::retry::Args),
    Approve(commands::approve::Args),
    Pause(commands::pause::Args),
    Resume(commands::resume::Args),
    Adopt(commands::adopt::Args),
    Forget(commands::forget::Args),
    Snapshot(commands::snapshot::Args),
    Restore(commands::restore::Args),
    Verify(commands::verify::Args),
    Status(commands::status::Args),
    History(commands::history::Args),
    Doctor(commands::doctor::Args),
    Undeploy(commands::undeploy::Args),
    Recover(commands::recover::Args),
    #[command(subcommand)]
    Alert(commands::alert::Command),
    Nightly(commands::nightly::Args),
    CheckConfig(commands::check_config::Args),
    Demo(commands::demo::Args),
    Completions(commands::completions::Args),
    #[command(hide = true)]
    Synced(commands::synced::Args),
    #[command(hide = true)]
    Supervise(commands::internal::Supervise),
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
