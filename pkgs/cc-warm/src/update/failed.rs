//! What becomes of an error that ended a run before it began anything: systemd takes it for a success, and the next run
//! ends likewise, so it is written down, and told until it is over.

use anyhow::Result;

use super::context::Context;
use super::notice;
use crate::alert::{Alert, Kind};
use crate::config::names::AppName;
use crate::deployer::{self, Convergence, Observed};
use crate::error::{self, Exit};
use crate::history::{self, Entry};
use crate::state::{AppState, LastRun, Unusable};
use crate::sys::random;
use crate::sys::untrusted::Untrusted;

/// Tells of `error`, which ended a run on an app whose lock is held, and gives it back.
#[must_use]
pub fn note(context: &Context<'_>, name: &AppName, error: anyhow::Error) -> anyhow::Error {
    let told = tell(context, name, &error);
    notice::told(error, told)
}

fn tell(context: &Context<'_>, name: &AppName, error: &anyhow::Error) -> Result<()> {
    if let Some(unusable) = error.chain().find_map(|cause| cause.downcast_ref::<Unusable>()) {
        let title = format!("{name}: its state cannot be used; nothing is done to the app");
        let alert = Alert::new(Kind::CorruptState, "state", title).fact("because", unusable.to_string());
        return context.raise(name, alert.hint(format!("cc-warm status {name}")));
    }
    if notice::unfinished(context, name, error).is_some() {
        // Told where it was left.
        return Ok(());
    }
    let reason = format!("{error:#}");
    match error::exit_of(error) {
        Exit::NotReady => {
            let alert = Alert::new(Kind::NotReady, "not-ready", format!("{name}: nothing can be known of it"))
                .fact("because", reason);
            context.raise(name, alert.hint(format!("cc-warm status {name}")))
        }
        // Whoever is asked to end ends in errors.
        Exit::Failed | Exit::Refused if !context.host.interrupt.is_set() => {
            // First what is told: the disk may be full.
            if let Some(way_up) = way_up(context, name) {
                notice::down(context, name, &reason, way_up)?;
            } else if !error::is_told(error) {
                notice::update_failed(context, name, &reason)?;
            }
            write_down(context, name, Untrusted::new(reason))
        }
        _ => Ok(()),
    }
}

/// The command that starts the app, if it should run and does not, as far as that can be known.
fn way_up(context: &Context<'_>, name: &AppName) -> Option<String> {
    let app = context.config.apps.get(name)?;
    let observed = deployer::open(context.host, app).ok()?.observe().ok()?;
    match observed {
        Observed::Present(deployment) if deployment.state == Convergence::Down => {
            Some(format!("cc-warm recover {name}"))
        }
        Observed::Absent { .. } if is_wanted_back(context, name) => Some(format!("cc-warm update {name}")),
        _ => None,
    }
}

/// Whether the operator wants an app back that was undeployed.
pub(super) fn is_wanted_back(context: &Context<'_>, name: &AppName) -> bool {
    AppState::load(&context.host.dirs, name).is_ok_and(|state| state.resumed)
}

/// In the state, which the apps that come after go by, and in the history, where the same every night is one line.
fn write_down(context: &Context<'_>, name: &AppName, reason: Untrusted) -> Result<()> {
    let (dirs, now) = (&context.host.dirs, context.host.clock.now());
    let mut state = AppState::load(dirs, name)?;
    let last = LastRun { reason: Some(reason.clone()), ..LastRun::new(now, LastRun::FAILED) };
    let before = state.last_run.replace(last);
    state.save(dirs, name)?;
    if before.is_some_and(|run| run.outcome == LastRun::FAILED && run.reason.as_ref() == Some(&reason)) {
        return Ok(());
    }
    let mut entry = Entry::new(&random::id()?, now, "update", LastRun::FAILED);
    entry.reason = Some(reason);
    history::add(dirs, name, &entry)
}
