//! `cc-warm nightly`

use anyhow::Result;

use super::session::Session;
use crate::cli::{self, Global};
use crate::config::duration::Span;
use crate::error::Exit;
use crate::nightly::Night;
use crate::sys::notify;
use crate::sys::out::say;

/// Rebuilds the host, if it is told how, and then updates the apps, as the night does.
///
/// The update units of all live-warm apps that have not run since it began are started, whatever became of the rebuild.
/// Test runs wait meanwhile.
///
/// `cc-warm-nightly.timer` starts it. It needs the units that the NixOS module makes; elsewhere, `cc-warm update` updates
/// the apps.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to wait for test runs that are under way.
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = cli::span)]
    max_wait: Span,
    /// The command that rebuilds and switches the host.
    #[arg(last = true, value_name = "REBUILD")]
    rebuild: Vec<String>,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let say = |text: &str| {
        say!("{text}");
        notify::status(text);
    };
    Night {
        dirs: &session.host.dirs,
        config: &global.config,
        max_wait: args.max_wait.duration(),
        rebuild: &args.rebuild,
        systemctl: "systemctl".into(),
        interrupt: &session.host.interrupt,
        shutdown: &session.host.interrupt.by_shutdown(),
        say: &say,
    }
    .run()
}
