//! `cc-warm approve`

use anyhow::Result;

use super::results::{Done, Results};
use super::session::Session;
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::gate;
use crate::recipe::version::Version;
use crate::state::{AppState, Approved};
use crate::sys::untrusted::Untrusted;

/// Lets one version, at the commit that its tag names now, pass the first gate once.
///
/// Do what its notes ask for first. The second gate still stands: if it is not healthy, it goes back. `update` applies it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// The version, as `plan` and `status` show it.
    version: Version,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let app = session.config.app(&args.app)?;
    let _lock = session.lock(&args.app, args.wait.wait())?;
    let mut state = AppState::load(&session.host.dirs, &args.app)?;
    let published = session.recipes.published(&app.remote)?;
    let Some(found) = published.versions.get(&args.version) else {
        return Err(Problem::new(format!(
            "`{}` publishes no version {}; nothing was approved",
            app.recipe, args.version
        ))
        .exit(Exit::Usage)
        .hint(format!("cc-warm plan {}", args.app))
        .into());
    };
    if let Some(why) = gate::excluded(&app.update, &args.version) {
        let problem = format!("{} would not be tried, approved or not ({why}); nothing was approved", args.version);
        let hint = format!("services.ccWarm.apps.{}.update.pin and .ignore say which versions are", args.app);
        return Err(Problem::new(problem).exit(Exit::Refused).hint(hint).into());
    }
    let approved =
        Approved { version: args.version.clone(), commit: found.commit.clone(), at: session.host.clock.now() };
    state.approved.retain(|known| known.version != args.version);
    state.approved.push(approved);
    // Approving is also the word that a version rolled back before may be tried again.
    state.rejected.retain(|rejected| rejected.identity.version != args.version);
    state.save(&session.host.dirs, &args.app)?;
    let mut results = Results::new(session.json);
    let mut sentence = format!("{} (commit {}) may pass, once", args.version, found.commit.short());
    let mut next = "update";
    let held = state.held.as_ref().filter(|held| held.version == args.version && held.commit == found.commit);
    if let Some(held) = held.filter(|held| !held.approvable) {
        let reasons = held.reasons.iter().map(|reason| format!("\n  - {}", Untrusted::new(reason).terminal()));
        sentence = format!("{sentence}; but it was held for what no approval lifts:{}", reasons.collect::<String>());
        next = "plan";
    }
    let done = Done::new("approved", sentence)
        .hint(format!("cc-warm {next} {}", args.app))
        .with("version", args.version.to_string())
        .with("commit", found.commit.to_string());
    results.done(&args.app, done);
    results.finish()
}
