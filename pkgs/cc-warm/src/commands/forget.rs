//! `cc-warm forget`

use anyhow::Result;

use super::results::{Done, Results};
use super::session::{Session, Voice};
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::snapshot::Store;
use crate::sys::out::say;
use crate::update::journal;

/// Forgets an app that is no longer declared: its state, its history and its snapshots.
///
/// Nothing that runs is touched, and its volumes stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// Do it, although its snapshots are deleted.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let app = &args.app;
    let refuse = |text: String, hint: String| Err(Problem::new(text).exit(Exit::Refused).hint(hint).into());
    if session.config.apps.contains_key(app) {
        return refuse(
            format!("app `{app}` is declared; nothing was forgotten"),
            format!("to stop its updates: cc-warm pause {app}; to forget it, remove it from the configuration first"),
        );
    }
    let dir = session.host.dirs.app(app.as_str());
    if !dir.root().exists() {
        return refuse(format!("nothing is known of an app `{app}`"), "cc-warm status".to_owned());
    }
    let _lock = session.lock(app, args.wait.wait())?;
    if journal::peek(&session.host.dirs, app).map_err(|error| error.into_problem(app))?.is_some() {
        return refuse(
            format!("app `{app}` has an unfinished operation; nothing was forgotten"),
            format!("cc-warm recover {app}"),
        );
    }
    let store = Store::new(&session.host.dirs, app);
    let listing = store.list()?;
    let snapshots = listing.snapshots.len() + listing.unreadable.len();
    if snapshots > 0 && !args.yes {
        return refuse(
            format!("app `{app}` has {snapshots} snapshot(s), which would be deleted; nothing was forgotten"),
            format!("cc-warm forget {app} --yes"),
        );
    }
    session.outbox.forget(app)?;
    let voice = Voice::of(app);
    for error in store.forget(session.context(&voice).work())? {
        say!("warning: something is left of it: {error:#}");
    }
    let mut results = Results::new(session.json);
    results.done(app, Done::new("forgotten", "forgotten; its volumes and whatever runs were not touched"));
    results.finish()
}
