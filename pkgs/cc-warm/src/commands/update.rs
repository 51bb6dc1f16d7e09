//! `cc-warm update`

use anyhow::Result;

use super::results::worse;
use super::session::Session;
use crate::cli::{Apps, Global, WaitFlag};
use crate::config::names::AppName;
use crate::config::{Config, Warm};
use crate::error::Exit;
use crate::sys::out::say;
use crate::update::run;

/// Brings apps to their latest published version, behind two gates.
///
/// Before: only updates that need no operator; others are held, and you are told with their notes. After: the app must be
/// healthy, or its version and its data go back, and you are told. An interrupted update is settled first. If the
/// configuration changed meanwhile, all of it is done once more (not with `--json`).
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    #[command(flatten)]
    wait: WaitFlag,
    /// Also outside of the windows in which a stateful app may be stopped.
    #[arg(long)]
    now: bool,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let exit = pass(&session, args, &session.select_live(&args.apps.apps)?)?;
    // A switch that starts a unit which is running starts nothing: what it changed would wait for the night.
    if session.json || session.host.interrupt.is_set() {
        return Ok(exit);
    }
    let config = match Config::load(&global.config) {
        Ok(config) => config,
        Err(error) => {
            // A newer cc-warm's, most likely: its own units go by it. What was done here was done.
            say!("the configuration that is there now cannot be used by this cc-warm, which is done: {error:#}");
            return Ok(exit);
        }
    };
    if config == session.config {
        return Ok(exit);
    }
    say!("the configuration changed meanwhile: once more");
    // The unit was given its credentials when it started.
    let session = Session { config: config.without_credentials(), ..session };
    let is_live = |name: &AppName| session.config.apps.get(name).is_some_and(|app| app.warm == Warm::Live);
    let left: Vec<AppName> = args.apps.apps.iter().filter(|name| is_live(name)).cloned().collect();
    if left.is_empty() && !args.apps.apps.is_empty() {
        return Ok(exit);
    }
    Ok(worse(exit, pass(&session, args, &session.select_live(&left)?)?))
}

fn pass(session: &Session, args: &Args, apps: &[AppName]) -> Result<Exit> {
    session.ask_remotes(apps);
    session.for_each(apps, |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        run::update(context, session.config.app(name)?, &lock, args.now)
    })
}
