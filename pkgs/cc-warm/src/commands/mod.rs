//! One file a subcommand, thin: read the arguments, call the part that does it, show the result.

pub mod adopt;
pub mod alert;
pub mod approve;
pub mod check_config;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod forget;
pub mod history;
pub mod internal;
pub mod nightly;
pub mod pause;
pub mod plan;
pub mod recover;
pub mod restore;
pub mod results;
pub mod resume;
pub mod retry;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod synced;
pub mod undeploy;
pub mod update;
pub mod verify;
pub mod voice;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::error::Exit;

/// Runs the command that was given.
pub fn run(cli: Cli) -> Result<Exit> {
    let global = &cli.global;
    let done = match cli.command {
        Command::Plan(args) => plan::run(global, &args),
        Command::Update(args) => update::run(global, &args),
        Command::Retry(args) => retry::run(global, &args),
        Command::Approve(args) => approve::run(global, &args),
        Command::Pause(args) => pause::run(global, &args),
        Command::Resume(args) => resume::run(global, &args),
        Command::Adopt(args) => adopt::run(global, &args),
        Command::Forget(args) => forget::run(global, &args),
        Command::Snapshot(args) => snapshot::run(global, &args),
        Command::Restore(args) => restore::run(global, &args),
        Command::Verify(args) => verify::run(global, &args),
        Command::Status(args) => status::run(global, &args),
        Command::History(args) => history::run(global, &args),
        Command::Doctor(args) => doctor::run(global, &args),
        Command::Recover(args) => recover::run(global, &args),
        Command::Alert(command) => alert::run(global, &command),
        Command::Nightly(args) => nightly::run(global, &args),
        Command::CheckConfig(args) => check_config::run(global, &args),
        Command::Undeploy(args) => undeploy::run(global, &args),
        Command::Demo(args) => demo::run(global, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Synced(args) => synced::run(global, &args),
        Command::Supervise(args) => internal::supervise(&args),
        Command::DemoApp(args) => internal::demo_app(&args),
    };
    done.map_err(crate::deployer::classified)
}

/// An age as people say it.
fn age(span: jiff::SignedDuration) -> String {
    let minutes = span.as_mins();
    match minutes {
        ..1 => "less than a minute".to_owned(),
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
