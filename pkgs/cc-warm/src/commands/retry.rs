//! `cc-warm retry`

use anyhow::Result;

use super::results::{Done, Results};
use super::session::{Session, Voice};
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::Exit;
use crate::recipe::version::Version;
use crate::state::AppState;
use crate::update::manual;

/// Forgets that versions were rolled back, so that the next update tries them again; or brings a stuck app back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// Only this version.
    version: Option<Version>,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let app = session.config.app(&args.app)?;
    let voice = Voice::of(&args.app);
    let context = session.context(&voice);
    let lock = session.lock(&args.app, args.wait.wait())?;
    if let Some(outcome) = manual::unstick(&context, app, &lock)? {
        let mut results = Results::new(session.json);
        results.outcome(&args.app, &outcome)?;
        session.deliver();
        return results.finish();
    }
    let mut state = AppState::load(&session.host.dirs, &args.app)?;
    let chosen = |version: &Version| args.version.as_ref().is_none_or(|wanted| wanted == version);
    let forgotten: Vec<String> = state
        .rejected
        .iter()
        .map(|rejected| &rejected.identity.version)
        .filter(|version| chosen(version))
        .map(ToString::to_string)
        .collect();
    state.rejected.retain(|rejected| !chosen(&rejected.identity.version));
    state.interrupted.retain(|interrupted| !chosen(&interrupted.identity.version));
    state.save(&session.host.dirs, &args.app)?;
    let mut results = Results::new(session.json);
    results.done(
        &args.app,
        if forgotten.is_empty() {
            Done::new("nothing-rejected", "nothing was rejected")
        } else {
            Done::new("may-be-tried-again", format!("may be tried again: {}", forgotten.join(", ")))
                .hint(format!("cc-warm update {}", args.app))
                .with("versions", forgotten)
        },
    );
    results.finish()
}
