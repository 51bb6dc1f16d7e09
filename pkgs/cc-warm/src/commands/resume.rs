//! `cc-warm resume`

use anyhow::Result;

use super::results::{Done, Results};
use super::session::Session;
use crate::alert::Kind;
use crate::cli::{Global, WaitFlag};
use crate::config::Warm;
use crate::config::names::AppName;
use crate::deployer::{self, Observed};
use crate::error::Exit;
use crate::state::AppState;
use crate::update::parted;

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

/// Whether somebody undeployed it, of which no run has seen anything yet.
fn is_down_unseen(session: &Session, name: &AppName, state: &AppState) -> Result<bool> {
    let app = session.config.app(name)?;
    if app.warm != Warm::Live
        || state.last_good.is_none()
        || state.resumed
        || session.host.dirs.app(name.as_str()).journal().exists()
    {
        return Ok(false);
    }
    let observed = deployer::open(&session.host, app)?.observe()?;
    Ok(matches!(observed, Observed::Absent { .. }))
}

/// Refuses what the next update would not start.
fn must_fit(session: &Session, name: &AppName, state: &AppState) -> Result<()> {
    let (app, Some(good)) = (session.config.app(name)?, &state.last_good) else { return Ok(()) };
    let deployer = deployer::open(&session.host, app)?;
    parted::must_be_in_place(name, deployer.as_ref(), state)?;
    let observed = deployer.observe()?;
    parted::Facts { host: &session.host, app, deployer: deployer.as_ref(), state, observed: &observed }
        .must_fit((&good.identity).into())
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let mut results = Results::new(session.json);
    for app in session.select(&args.apps)? {
        let resume = || -> Result<_> {
            let _lock = session.lock(&app, args.wait.wait())?;
            let mut state = AppState::load(&session.host.dirs, &app)?;
            let was_paused = state.paused.take().is_some();
            // Where that cannot be told, the next update sees it.
            let is_unseen = || is_down_unseen(&session, &app, &state).unwrap_or(false);
            let (was_seen, was_resumed) = (state.down_by_hand.is_some(), state.resumed);
            let was_down = was_seen || is_unseen();
            state.down_by_hand = None;
            state.resumed |= was_down;
            if state.resumed
                && let Err(error) = must_fit(&session, &app, &state)
            {
                if was_paused && !was_seen && !was_resumed {
                    // The pause ends all the same, and the next run tells what else is wrong.
                    state.resumed = false;
                    state.save(&session.host.dirs, &app)?;
                }
                return Err(error);
            }
            state.save(&session.host.dirs, &app)?;
            session.outbox.resolve(Some(&app), &[Kind::DownByHand], session.host.clock.now())?;
            Ok((was_paused, was_down, state))
        };
        // One that is busy keeps no other from being resumed.
        let (was_paused, was_down, state) = match resume() {
            Ok(was) => was,
            Err(error) => {
                results.error(&app, error);
                continue;
            }
        };
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
