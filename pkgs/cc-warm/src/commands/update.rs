//! `cc-warm update`

use anyhow::Result;

use super::session::Session;
use crate::cli::{Apps, Global, WaitFlag};
use crate::error::Exit;
use crate::update::run;

/// Brings apps to their latest published version, behind two gates.
///
/// Before: only updates that need no operator; others are held, and you are told with their notes. After: the app must be
/// healthy, or its version and its data go back, and you are told. An interrupted update is settled first.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    #[command(flatten)]
    wait: WaitFlag,
    /// Also outside of the windows in which a stateful app may be stopped.
    #[arg(long)]
    now: bool,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let apps = session.select_live(&args.apps.apps)?;
    session.ask_remotes(&apps);
    session.for_each(&apps, |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        run::update(context, session.config.app(name)?, &lock, args.now)
    })
}
