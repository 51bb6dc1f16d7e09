//! `cc-warm recover`

use anyhow::Result;

use super::results::{Results, worse};
use super::session::{Session, Voice};
use crate::cli::{Apps, Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::{self, Exit, Problem};
use crate::sys::out::{say, show};
use crate::update::outcome::Outcome;
use crate::update::{failed, recover};

/// Settles operations that were cut short by a crash, a power cut or a kill.
///
/// From the state folder alone: a configuration that cannot be used only has to name that. Then starts again what ran before the machine was booted. Runs at boot. Apps whose journal is in order are not touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let (session, unusable) = Session::recovering(global)?;
    let apps = if args.apps.apps.is_empty() { known(&session)? } else { args.apps.apps.clone() };
    let mut results = Results::new(session.json);
    for app in &apps {
        session.must_be_known(app)?;
        let voice = Voice::of(app);
        let context = session.context(&voice);
        let recovered = session.lock(app, args.wait.wait()).and_then(|lock| {
            recover::recover(&context, app, &lock).map_err(|error| failed::note(&context, app, error))
        });
        match recovered {
            Ok(None) => {}
            Ok(Some(outcome)) => results.outcome_for(app, &outcome, exit_of(&outcome))?,
            Err(error) => results.error(app, error),
        }
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
