//! `recover`: settles the journal of an operation that was cut short, from the state folder alone. Also the first step of
//! every operation on an app.

use anyhow::{Result, anyhow};

use super::context::Context;
use super::effects;
use super::failed;
use super::journal::Journal;
use super::notice;
use super::operation::{Operation, Setback};
use super::outcome::Outcome;
use super::recovery::{Plan, plan};
use super::saga::{Cause, Event, EventName};
use crate::alert::{Alert, Kind as AlertKind};
use crate::config::names::AppName;
use crate::deployer;
use crate::deployer::{Convergence, Known, Observed};
use crate::downtime::Stopwatch;
use crate::error::{Exit, Problem};
use crate::lock::AppLock;
use crate::snapshot::Store;
use crate::sys::untrusted::Untrusted;

/// Settles the journal of `app`. `None`: there was none, or it had touched nothing.
pub fn settle(context: &Context<'_>, name: &AppName, lock: &AppLock) -> Result<Option<Outcome>> {
    settle_quietly(context, name, lock).map_err(|error| notice::of_unfinished(context, name, error))
}

fn settle_quietly(context: &Context<'_>, name: &AppName, lock: &AppLock) -> Result<Option<Outcome>> {
    let journal = match Journal::open(&context.host.dirs, context.host.clock, name) {
        Ok(None) => return Ok(None),
        Ok(Some(journal)) => journal,
        Err(error) => {
            effects::tell_of_bad_journal(context, name, &error)?;
            return Err(error.into_problem(name));
        }
    };
    let plan = plan(journal.progress());
    if plan == Plan::Close {
        journal.remove()?;
        return Ok(None);
    }
    let app = journal.progress().begun.app.clone();
    let deployer = deployer::open(context.host, &app)?;
    let store = Store::new(&context.host.dirs, name);
    let was_stuck = plan == Plan::LeaveStuck;
    let mut operation = Operation {
        host: context.host,
        app: &app,
        deployer: deployer.as_ref(),
        store: &store,
        predecessors: context.predecessors(&app),
        lock,
        journal,
        narrator: context.narrator,
        staged: None,
        turn: None,
        // Whoever began it saw the stop.
        watch: Stopwatch::of_unseen(true),
        shutdown: context.host.interrupt.by_shutdown(),
    };
    if !matches!(plan, Plan::Finish | Plan::LeaveStuck) {
        let progress = operation.progress();
        operation.say(&format!(
            "recovering: operation {} was cut short at `{}`",
            progress.begun.operation,
            progress.last.as_str()
        ));
    }
    let performed = match perform(&mut operation, plan) {
        Err(Setback::Released(by)) => operation.write(&Event::Released { by }).map_err(Setback::from),
        other => other,
    };
    match performed {
        Ok(()) => {}
        Err(Setback::NotReady(error)) => return Err(operation.left_to_recover(error, Exit::NotReady)),
        Err(Setback::Broken(error)) => return Err(operation.left_to_recover(error, Exit::Failed)),
        Err(Setback::Back(_, reason) | Setback::Released(reason)) => {
            return Err(operation.left_to_recover(anyhow!(reason.terminal()), Exit::Failed));
        }
    }
    let was_cut = matches!(plan, Plan::Commit | Plan::StartRestored);
    let (id, at) = (operation.id().to_owned(), operation.progress().begun.at);
    let outcome = effects::finish(context, operation)?;
    // What goes back tells of it itself.
    if was_cut && !matches!(outcome, Outcome::RolledBack { .. } | Outcome::Stuck { .. }) {
        let title = format!("{name}: an operation of {at} was cut short, and has been settled");
        let alert = Alert::new(AlertKind::Recovered, id, title).fact("now", outcome.describe());
        context.raise(name, alert.hint(format!("cc-warm history {name}")))?;
    }
    Ok(Some(match outcome {
        Outcome::Stuck { reason, .. } if was_stuck => Outcome::StuckAlready { reason },
        other => other,
    }))
}

/// [`settle`], and then: a declared app that is deployed but does not run, because the machine was booted, is started.
pub fn recover(context: &Context<'_>, name: &AppName, lock: &AppLock) -> Result<Option<Outcome>> {
    let settled = settle(context, name, lock)?;
    if matches!(settled, Some(Outcome::Stuck { .. } | Outcome::StuckAlready { .. } | Outcome::Released { .. })) {
        return Ok(settled);
    }
    let Some(app) = context.config.apps.get(name) else { return Ok(settled) };
    let deployer = deployer::open(context.host, app)?;
    let observed = deployer.observe().map_err(|error| deployer::classified(error.into()))?;
    notice::answers(context, app)?;
    let what = match observed {
        Observed::Present(deployment) if deployment.state == Convergence::Down => deployment.what,
        // Whether anything may be started on its data, an update finds out.
        Observed::Absent { .. } if failed::is_wanted_back(context, name) => {
            context.narrator.say(&format!("it is not deployed, and wanted back: `cc-warm update {name}` starts it"));
            return Ok(settled);
        }
        _ => {
            context.resolve(name, &[AlertKind::Down])?;
            return Ok(settled);
        }
    };
    match what {
        Known::Yes(identity) => super::manual::restart(context, app, lock, &identity).map(Some),
        Known::No { label, why } => {
            let what = format!("`{name}` is down, and it is not known what was deployed ({}): {why}", label.terminal());
            let hint = format!("deploy a published version by hand, then run `cc-warm adopt {name}`");
            Err(Problem::new(what).hint(hint).into())
        }
    }
}

fn perform(operation: &mut Operation<'_>, plan: Plan) -> Result<(), Setback> {
    match plan {
        Plan::Close | Plan::Finish => Ok(()),
        Plan::Commit => Ok(operation.write(&Event::Committed)?),
        // It may have been killed between the word and the deed.
        Plan::LeaveStuck => {
            if !operation.stop_what_is_stuck()? {
                let name = &operation.app.name;
                operation.say(&format!("somebody deployed it since it became stuck: `cc-warm adopt {name}` ends that"));
            }
            Ok(())
        }
        Plan::StuckAgain => {
            let reason = operation.progress().begun.was_stuck.clone().unwrap_or_default();
            operation.become_stuck(&anyhow!(reason.raw().to_owned()))?;
            operation.stop_what_is_stuck().map(drop)
        }
        Plan::StartPrior | Plan::GoBack | Plan::Undeploy => {
            let on_the_way_back =
                [EventName::RollingBack, EventName::Restoring, EventName::Exchanging, EventName::DiscardingFailed];
            if !on_the_way_back.contains(&operation.progress().last) {
                operation.turn_back(
                    Cause::Interrupted,
                    Untrusted::new("it was cut short (a crash, a power cut or a kill)"),
                )?;
            }
            operation.go_back()
        }
        Plan::StartRestored => operation.go_back(),
    }
}
