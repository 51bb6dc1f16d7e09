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
use crate::update::{failed, operation, recover};

/// The longest that a recovery waits for what does not answer: by then, a night's updates have met it, too.
const A_DAY: Duration = Duration::from_hours(24);
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
    /// No app is busy meanwhile. After two minutes the operator is told.
    #[arg(long)]
    until_ready: bool,
}

/// An app that is to be recovered, and why that did not come about yet.
struct Left {
    app: AppName,
    error: Option<anyhow::Error>,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let (session, unusable) = Session::recovering(global)?;
    let apps = if args.apps.apps.is_empty() { known(&session)? } else { args.apps.apps.clone() };
    for app in &apps {
        session.must_be_known(app)?;
    }
    let mut results = Results::new(session.json);
    let interrupt = &session.host.interrupt;
    let mut left: Vec<Left> = apps.into_iter().map(|app| Left { app, error: None }).collect();
    let untold = Deadline::after(operation::patience());
    let end = Deadline::after(if args.until_ready { A_DAY } else { Duration::ZERO });
    let mut pause = PAUSES.0;
    loop {
        let may_wait = !end.is_over() && !interrupt.is_set();
        let mut later = Vec::new();
        for Left { app, error } in left {
            if may_wait && (error.is_some() || !untold.is_over()) && !answers(&session, &app) {
                later.push(Left { app, error });
                continue;
            }
            match attempt(&session, args, &app).map_err(deployer::classified) {
                Ok(None) => {}
                Ok(Some(outcome)) => results.outcome_for(&app, &outcome, exit_of(&outcome))?,
                Err(error) if may_wait && error::exit_of(&error) == Exit::NotReady => {
                    say!("{app}: {}", error::report(&error).trim_end());
                    later.push(Left { app, error: Some(error) });
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
        for Left { app, error } in left {
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
fn answers(session: &Session, app: &AppName) -> bool {
    let Some(app) = session.config.apps.get(app) else { return true };
    let observed = deployer::open(&session.host, app).map(|deployer| deployer.observe());
    !matches!(observed, Ok(Err(DeployError::NotReady(_))))
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
