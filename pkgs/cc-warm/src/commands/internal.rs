//! Commands that cc-warm starts itself.

use anyhow::Result;

use crate::error::Exit;

/// Runs an app of the process deployer.
#[derive(Debug, clap::Args)]
pub struct Supervise {
    /// What it is told by cc-warm.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the demo's app.
#[derive(Debug, clap::Args)]
pub struct DemoApp {
    /// What its recipe says.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}
