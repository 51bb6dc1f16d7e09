//! `cc-warm resume`

use anyhow::Result;

use super::results::{Done, Results};
use super::session::Session;
use crate::alert::Kind;
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::Exit;
use crate::state::AppState;

/// Ends a pause, or takes over again an app that was undeployed by hand.
///
/// The next update deploys it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps.
    #[arg(required_unless_present = "all", value_name = "APP")]
    apps: Vec<AppName>,
    /// Every declared app.
    #[arg(long, conflicts_with = "apps")]
    all: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let mut results = Results::new(session.json);
    for app in session.select(&args.apps)? {
        let _lock = session.lock(&app, args.wait.wait())?;
        let mut state = AppState::load(&session.host.dirs, &app)?;
        let was_paused = state.paused.take().is_some();
        let was_down = state.down_by_hand.take().is_some();
        state.resumed |= was_down;
        state.save(&session.host.dirs, &app)?;
        session.outbox.resolve(Some(&app), &[Kind::DownByHand], session.host.clock.now())?;
        let done = match (was_paused, was_down) {
            (false, false) if state.resumed => {
                Done::new("unchanged", "is taken over again by the next update").hint(format!("cc-warm update {app}"))
            }
            (false, false) => Done::new("unchanged", "was neither paused nor down by hand"),
            (_, true) => Done::new("taken-over", "taken over again").hint(format!("cc-warm update {app}")),
            (true, false) => Done::new("resumed", "updates go on"),
        };
        results.done(&app, done);
    }
    session.deliver();
    results.finish()
}
