//! `cc-warm recover`

use anyhow::Result;

use super::session::{Session, Voice};
use crate::cli::{Apps, Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::{self, Exit};
use crate::update::recover;

/// Settles operations that were cut short by a crash, a power cut or a kill.
///
/// From the state folder alone. Then starts again what ran before the machine was booted. Runs at boot. Apps whose journal is in order are not touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let apps = if args.apps.apps.is_empty() { known(&session)? } else { args.apps.apps.clone() };
    let mut settled = 0;
    let mut worst = Exit::Done;
    for app in &apps {
        let voice = Voice::of(app);
        let result =
            session.lock(app, args.wait.wait()).and_then(|lock| recover::recover(&session.context(&voice), app, &lock));
        match result {
            Ok(None) => {}
            Ok(Some(outcome)) => {
                settled += 1;
                println!("{app}: {}", outcome.describe());
                worst = worst.max(outcome.exit());
            }
            Err(error) => {
                eprint!("{app}: {}", error::report(&error));
                worst = worst.max(error::exit_of(&error));
            }
        }
    }
    if settled == 0 && worst == Exit::Done {
        println!("nothing to recover");
    }
    session.deliver();
    // Going back is what a recovery is for.
    Ok(if worst == Exit::RolledBack { Exit::Done } else { worst })
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
