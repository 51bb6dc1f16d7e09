//! `cc-warm synced`

use anyhow::Result;

use super::session::Session;
use crate::cli::Global;
use crate::error::Exit;
use crate::snapshot::synced;
use crate::sys::out::say;
use crate::sys::shutdown;

/// Notes at shutdown that all was synced, and at boot that this is the boot after it.
///
/// For the service manager: before the first app at boot, after the last one at shutdown.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which of them it is.
    when: When,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum When {
    /// Before any app starts.
    Boot,
    /// After all apps have stopped.
    Shutdown,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let dirs = Session::look(global)?.host.dirs;
    match args.when {
        When::Boot => synced::find(&dirs)?,
        When::Shutdown if shutdown::is_under_way() => match synced::leave(&dirs)? {
            None => say!("all is synced; the next boot may rely on it"),
            Some(why) => say!("the next snapshots copy everything: {why}"),
        },
        // Stopped by somebody, while apps go on.
        When::Shutdown => synced::forget(&dirs)?,
    }
    Ok(Exit::Done)
}
