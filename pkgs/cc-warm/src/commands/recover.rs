//! `cc-warm recover`

use anyhow::Result;

use super::results::Results;
use super::session::{Session, Voice};
use crate::cli::{Apps, Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::Exit;
use crate::sys::out::show;
use crate::update::{failed, recover};

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
            Ok(Some(outcome)) => results.outcome(app, &outcome)?,
            Err(error) => results.error(app, error),
        }
    }
    if results.is_empty() && !session.json {
        show!("nothing to recover");
    }
    let exit = results.finish()?;
    session.deliver();
    // Going back is what a recovery is for.
    Ok(if exit == Exit::RolledBack { Exit::Done } else { exit })
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
