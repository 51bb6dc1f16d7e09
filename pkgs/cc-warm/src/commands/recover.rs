//! `cc-warm recover`

use std::time::Duration;

use anyhow::Result;

use super::results::{Results, worse};
use super::session::{Session, Voice};
use crate::cli::{Apps, Global, WaitFlag};
use crate::config::names::AppName;
use crate::deployer::{self, DeployError};
use crate::error::{self, Exit, Problem};
use crate::sys::clock::Deadline;
use crate::sys::notify;
use crate::sys::out::{say, show};
use crate::update::outcome::Outcome;
use crate::update::saga::EventName;
use crate::update::{failed, journal, operation, recover};

/// The longest that a recovery waits for what does not answer: by then, a night's updates have met it, too.
const A_DAY: Duration = Duration::from_hours(24);
/// So often is tried what fails for another reason than that nobody answers, an app that comes before, say. The next update
/// tries again.
const TRIES: u32 = 2;
/// How long it waits before it asks again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_mins(1));

/// Settles operations that were cut short by a crash, a power cut or a kill.
///
/// From the state folder alone: a configuration that cannot be used only has to name that. Then starts again what ran before the machine was booted. Runs at boot. Apps whose journal is in order are not touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    #[command(flatten)]
    wait: WaitFlag,
    /// Wait until docker, its swarm and this node are ready, for a day at most, as at boot.
    ///
    /// No app is busy meanwhile. After two minutes the operator is told. What fails although all these are ready is tried twice.
    #[arg(long)]
    until_ready: bool,
}

/// An app that is to be recovered, and why that did not come about yet.
struct Left {
    app: AppName,
    error: Option<anyhow::Error>,
    /// How often it came to nothing although what runs the app answers: each time it was busy for as long as an app may take
    /// to become healthy.
    tries: u32,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let end = Deadline::after(if args.until_ready { A_DAY } else { Duration::ZERO });
    let (session, unusable) = open(global, end)?;
    let apps = if args.apps.apps.is_empty() { known(&session)? } else { args.apps.apps.clone() };
    for app in &apps {
        session.must_be_known(app)?;
    }
    let mut results = Results::new(session.json);
    let interrupt = &session.host.interrupt;
    let mut left: Vec<Left> = apps.into_iter().map(|app| Left { app, error: None, tries: 0 }).collect();
    let untold = Deadline::after(operation::patience());
    let mut pause = PAUSES.0;
    loop {
        let may_wait = !end.is_over() && !interrupt.is_set();
        let mut later = Vec::new();
        for Left { app, error, tries } in left {
            if unusable.is_some()
                && let Some(problem) = needs_the_configuration(&session, &app)
            {
                results.error(&app, problem);
                continue;
            }
            if may_wait && (error.is_some() || !untold.is_over()) && !answers(&session, &app) {
                later.push(Left { app, error, tries });
                continue;
            }
            match attempt(&session, args, &app).map_err(deployer::classified) {
                Ok(None) => {}
                Ok(Some(outcome)) => results.outcome_for(&app, &outcome, exit_of(&outcome))?,
                Err(error) if may_wait && error::exit_of(&error) == Exit::NotReady => {
                    let tries = tries + u32::from(answers(&session, &app));
                    if tries == TRIES {
                        results.error(&app, error);
                        continue;
                    }
                    say!("{app}: {}", error::report(&error).trim_end());
                    later.push(Left { app, error: Some(error), tries });
                }
                Err(error) => results.error(&app, error),
            }
        }
        left = later;
        if left.is_empty() {
            break;
        }
        session.deliver();
        tell(&left);
        if !interrupt.is_set_within(pause.min(end.left())) {
            pause = (pause * 2).min(PAUSES.1);
            continue;
        }
        for Left { app, error, .. } in left {
            match error {
                Some(error) => results.error(&app, error),
                None => results.cancelled(),
            }
        }
        break;
    }
    if results.is_empty() && !session.json {
        show!("nothing to recover");
    }
    let exit = results.finish()?;
    session.deliver();
    let Some(error) = unusable else { return Ok(exit) };
    let what = "only what was cut short was looked at: the configuration, which says what else runs, cannot be used";
    let error = anyhow::Error::from(Problem::new(what).exit(error::exit_of(&error)).because(error));
    say!("{}", error::report(&error).trim_end());
    Ok(worse(exit, error::exit_of(&error)))
}

/// Whether the state folder is the right one, docker has to say, where nothing in it does.
fn open(global: &Global, end: Deadline) -> Result<(Session, Option<anyhow::Error>)> {
    let mut pause = PAUSES.0;
    loop {
        match Session::recovering(global) {
            Err(error) if error::exit_of(&error) == Exit::NotReady && !end.is_over() => {
                std::thread::sleep(pause.min(end.left()));
                pause = (pause * 2).min(PAUSES.1);
            }
            opened => return opened,
        }
    }
}

/// Going back is what a recovery is for. What became of another app is no better for it.
fn exit_of(outcome: &Outcome) -> Exit {
    match outcome.exit() {
        Exit::RolledBack => Exit::Done,
        exit => exit,
    }
}

fn attempt(session: &Session, args: &Args, app: &AppName) -> Result<Option<Outcome>> {
    let voice = Voice::of(app);
    let context = session.context(&voice);
    let lock = session.lock(app, args.wait.wait())?;
    recover::recover(&context, app, &lock).map_err(|error| failed::note(&context, app, error))
}

/// Whether what runs `app` can say anything of it.
fn answers(session: &Session, name: &AppName) -> bool {
    let of_journal = || Some(journal::peek(&session.host.dirs, name).ok()??.begun.app);
    let Some(app) = session.config.apps.get(name).cloned().or_else(of_journal) else { return true };
    let observed = deployer::open(&session.host, &app).map(|deployer| deployer.observe());
    !matches!(observed, Ok(Err(DeployError::NotReady(_))))
}

/// Why the journal of `name` cannot be settled without a configuration: an app that comes before may be what keeps it from
/// being healthy, and only the configuration says how that one is asked.
fn needs_the_configuration(session: &Session, name: &AppName) -> Option<anyhow::Error> {
    let progress = journal::peek(&session.host.dirs, name).ok()??;
    let before = progress.begun.app.after.first().filter(|_| progress.last != EventName::Stuck)?;
    let what = format!(
        "what was cut short of app `{name}` was left as it is: only the configuration says how `{before}`, which comes before it, is"
    );
    Some(Problem::new(what).exit(Exit::NotReady).hint(format!("cc-warm recover {name}, once it can be used")).into())
}

fn tell(left: &[Left]) {
    let names: Vec<&str> = left.iter().map(|left| left.app.as_str()).collect();
    notify::status(&format!("waiting until what runs these apps is ready: {}", names.join(", ")));
}

/// Every declared app, and every one that left something in the state folder.
fn known(session: &Session) -> Result<Vec<AppName>> {
    let mut all = session.config.in_order();
    for name in crate::state::known_apps(&session.host.dirs)? {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}
