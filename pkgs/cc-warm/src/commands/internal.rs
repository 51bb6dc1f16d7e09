//! Commands that cc-warm starts itself.

use anyhow::Result;

use crate::demo::app;
use crate::deployer::process::supervisor;
use crate::error::Exit;

/// Runs an app of the process deployer.
#[derive(Debug, clap::Args)]
pub struct Supervise {
    /// What it is told by cc-warm.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs a step of the supervisor.
pub fn supervise(args: &Supervise) -> Result<Exit> {
    supervisor::supervise(&args.args)?;
    Ok(Exit::Done)
}

/// Runs the demo's app.
pub fn demo_app(args: &app::Args) -> Result<Exit> {
    app::serve(args)?;
    Ok(Exit::Done)
}
