//! `cc-warm adopt`

use anyhow::Result;

use super::session::Session;
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::Exit;
use crate::update::manual;

/// Takes what runs now as last-good, once it is healthy.
///
/// Changes nothing that runs. After an upgrade, downgrade or repair by hand. What lies above a downgrade is not tried again until `approve` or `retry`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps.
    #[arg(required = true, value_name = "APP")]
    apps: Vec<AppName>,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let apps = session.select_live(&args.apps)?;
    session.for_each(&apps, |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        manual::adopt(context, session.config.app(name)?, &lock)
    })
}
