//! `cc-warm forget`

use std::path::PathBuf;

use anyhow::Result;

use super::results::{Done, Results};
use super::session::{Session, Voice};
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::deployer;
use crate::error::{Because, Exit, Problem};
use crate::snapshot::Store;
use crate::sys::out::say;
use crate::update::journal;
use crate::update::saga::{EventName, Progress};

/// Forgets an app that is no longer declared: its state, its history and its snapshots.
///
/// Nothing that runs is touched, and its volumes stay. Cut short, it goes on when it is run again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// Do it, although its snapshots are deleted, and although it is stuck.
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
    let dirs = &session.host.dirs;
    let store = Store::new(dirs, app);
    if !dirs.app(app.as_str()).root().exists() && !store.has_trash() && !deployer::keeps_any_of(dirs, app) {
        return refuse(format!("nothing is known of an app `{app}`"), "cc-warm status".to_owned());
    }
    let _lock = session.lock(app, args.wait.wait())?;
    let journal = journal::peek(dirs, app).map_err(|error| error.into_problem(app))?;
    if journal.as_ref().is_some_and(|progress| progress.last != EventName::Stuck) {
        return refuse(
            format!("app `{app}` has an unfinished operation; nothing was forgotten"),
            format!("cc-warm recover {app}"),
        );
    }
    let listing = store.list()?;
    let snapshots = listing.snapshots.len() + listing.unreadable.len();
    if !args.yes
        && let Some(lost) = lost(journal.as_ref(), snapshots)
    {
        return refuse(format!("app `{app}` {lost}; nothing was forgotten"), format!("cc-warm forget {app} --yes"));
    }
    let spared = of_others(&session)?;
    session.outbox.forget(app)?;
    let voice = Voice::of(app);
    let (others, stay) = deployer::left_of(dirs, app);
    let forgotten = store.forget(&others, &spared, session.context(&voice).work()).map_err(|error| {
        if !session.host.interrupt.is_set() {
            return error;
        }
        let problem = Problem::new(format!("app `{app}` is not forgotten whole: deleting was cut short"));
        problem.exit(Exit::Cancelled).hint(format!("cc-warm forget {app} --yes")).because(error).into()
    });
    for error in stay.iter().chain(forgotten.as_ref().into_iter().flatten()) {
        say!("warning: something is left of it: {error:#}");
    }
    forgotten?;
    let mut results = Results::new(session.json);
    results.done(app, Done::new("forgotten", "forgotten; its volumes and whatever runs were not touched"));
    results.finish()
}

/// The folders of the volumes that declared apps have: the one that is forgotten may be one of them by another name, and what
/// is kept beside its data is theirs.
fn of_others(session: &Session) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for (name, app) in &session.config.apps {
        let volumes = deployer::open(&session.host, app).and_then(|deployer| Ok(deployer.volumes()?));
        let volumes = volumes.map_err(deployer::classified).problem(|| {
            Problem::new(format!("it is not known which volumes `{name}` has; nothing was forgotten"))
                .hint(format!("cc-warm status {name}"))
        })?;
        folders.extend(volumes.into_iter().map(|volume| volume.dir));
    }
    Ok(folders)
}

/// What nobody can get back once the app is forgotten, in words.
fn lost(stuck: Option<&Progress>, snapshots: usize) -> Option<String> {
    let data = stuck.map(|progress| progress.stuck_data().describe());
    match (data, snapshots) {
        (None, 0) => None,
        (None, count) => Some(format!("has {count} snapshot(s), which would be deleted")),
        (Some(data), 0) => Some(format!("is stuck ({data}), and nothing would bring it back any more")),
        (Some(data), count) => Some(format!("is stuck ({data}), and its {count} snapshot(s) would be deleted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::untrusted::Untrusted;
    use crate::update::saga::samples::begun;
    use crate::update::saga::{Event, LiveData};

    #[test]
    fn what_would_be_lost_is_said() {
        let stuck = Event::Stuck { reason: Untrusted::new("x"), data: LiveData::Mixed, running: None, damaged: false };
        let stuck = Progress::start(Event::Begun(Box::new(begun()))).unwrap().apply(stuck).unwrap();
        let data = "some volumes hold the snapshot, some the failed version's data";
        for (progress, snapshots, wanted) in [
            (None, 0, None),
            (None, 2, Some("has 2 snapshot(s), which would be deleted".to_owned())),
            (Some(&stuck), 0, Some(format!("is stuck ({data}), and nothing would bring it back any more"))),
            (Some(&stuck), 1, Some(format!("is stuck ({data}), and its 1 snapshot(s) would be deleted"))),
        ] {
            assert_eq!(lost(progress, snapshots), wanted);
        }
    }
}
