//! `cc-warm snapshot`

use anyhow::Result;

use super::session::Session;
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::Exit;
use crate::update::manual;

/// Takes a known-good snapshot of an app now. The app is stopped for as long as that takes.
///
/// Only of an app that is healthy and whose version is known: a snapshot never replaces a known-good by worse.
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
    let apps = session.select(&args.apps)?;
    session.for_each(&apps, |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        manual::snapshot(context, session.config.app(name)?, &lock)
    })
}
