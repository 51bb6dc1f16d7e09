//! What follows from a terminal event: state, history, alerts, then the journal goes. All of it can be done again.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Map;

use super::context::Context;
use super::journal::{Journal, JournalError};
use super::leftovers::note;
use super::operation::Operation;
use super::outcome::Outcome;
use super::saga::{Cause, EventName, Kind, LiveData};
use crate::alert::{Alert, Kind as AlertKind};
use crate::config::names::AppName;
use crate::deployer::{Observed, Stopped};
use crate::history::{self, Entry};
use crate::identity::Identity;
use crate::snapshot::{Store, Volume};
use crate::state::{AppState, LastRun, StuckNote};
use crate::sys::untrusted::Untrusted;

/// Finishes the effects of the journal's terminal event; the journal of a stuck app stays.
pub fn finish(context: &Context<'_>, mut operation: Operation<'_>) -> Result<Outcome> {
    let outcome = Outcome::of(operation.progress(), &operation.watch);
    let stuck = matches!(outcome, Outcome::Stuck { .. });
    // Entering stuck undeploys; done again, it does nothing.
    let left_running =
        if stuck { operation.stop_what_is_stuck().err().map(|setback| setback.to_string()) } else { None };
    let name = operation.app.name.clone();
    remember(&operation, &outcome)?;
    history::add(&context.host.dirs, &name, &entry(&operation, &outcome))?;
    tell(context, &operation, &outcome, left_running)?;
    context.resolve(&name, &[AlertKind::Unfinished])?;
    if matches!(outcome, Outcome::RolledBack { .. }) && operation.progress().restored {
        context.narrator.say(&format!("kept: {}", kept(&operation)));
    }
    if let (Outcome::RolledBack { .. } | Outcome::Restored { .. }, true) = (&outcome, operation.progress().restored)
        && let Some(left) = operation.does_not_go_back()
    {
        context.narrator.say(&left);
    }
    if stuck {
        return Ok(outcome);
    }
    let volumes = operation.deployer.volumes().unwrap_or_else(|error| {
        note([error.into()]);
        Vec::new()
    });
    tidy(&operation, &volumes);
    let (store, taken) = (operation.store, operation.progress().snapshot.clone());
    operation.journal.remove()?;
    // What takes long comes last: nothing is under way any more, and whoever kills this only leaves it to the next.
    note(store.empty_trash(&volumes, context.work()));
    if taken.is_some() {
        complete_digests(context, store);
    }
    Ok(outcome)
}

/// Digests what of the known-good was reflinked and has no digest yet, while its app runs. What is cut short, the next
/// run goes on with.
pub(super) fn complete_digests(context: &Context<'_>, store: &Store) {
    let complete = || match store.current()? {
        Some(current) => store.complete_digests(&current.id, context.work()),
        None => Ok(()),
    };
    if let Err(error) = complete() {
        tracing::warn!("the snapshot has no digests of its content yet: {error:#}");
    }
}

fn remember(operation: &Operation<'_>, outcome: &Outcome) -> Result<()> {
    let (dirs, name, now) = (&operation.host.dirs, &operation.app.name, operation.host.clock.now());
    let progress = operation.progress();
    let mut state = AppState::load(dirs, name)?;
    // What is written down once the data is known to be of one version.
    let named = || operation.deployer.named().unwrap_or_default();
    let place = || operation.deployer.place().unwrap_or_default();
    match (progress.last, progress.begun.kind) {
        (EventName::Committed, Kind::Update | Kind::FirstDeploy) => {
            state.commit(progress.begun.to.clone(), now);
            (state.named, state.place) = (named(), place());
        }
        (EventName::RolledBack, Kind::Restore | Kind::Restart) => {
            if progress.begun.kind == Kind::Restore && progress.restored {
                state.step_down(&progress.begun.to, now, &progress.begun.operation, "restored by hand");
            }
            if let Some(identity) = progress.back_to() {
                state.commit(identity.clone(), now);
                (state.named, state.place) = (named(), place());
            }
        }
        (EventName::RolledBack, Kind::FirstDeploy) => {
            // Its volumes stay, and it is known what wrote them.
            state.first_tried = Some(progress.begun.to.version.clone());
            (state.named, state.seen_other) = (named(), None);
            state.stuck = None;
        }
        (EventName::RolledBack, _) => state.stuck = None,
        // Nothing may be started on that data because it once ran well.
        (EventName::Released, _) if progress.has_parted_from_last_good() => state.last_good = None,
        (EventName::Released, _) => state.seen_other = Some(Untrusted::new("something else")),
        (EventName::Stuck, _) => {
            // Done again, long after perhaps, it says nothing new.
            let known = state.stuck.as_ref().is_some_and(|stuck| stuck.operation == progress.begun.operation);
            if let (Outcome::Stuck { reason, .. }, false) = (outcome, known) {
                let (operation, reason) = (progress.begun.operation.clone(), reason.clone());
                state.stuck = Some(StuckNote { operation, since: now, reason, unknown: Map::new() });
                // Of one that was stuck before, what is on its data is known no better than then, unless it was restored.
                if progress.begun.was_stuck.is_none() || progress.restored {
                    (state.named, state.seen_other) = (named(), None);
                }
            }
        }
        _ => {}
    }
    state.last_run = Some(LastRun::new(now, outcome.word()));
    state.save(dirs, name)
}

fn entry(operation: &Operation<'_>, outcome: &Outcome) -> Entry {
    let progress = operation.progress();
    let begun = &progress.begun;
    let kind = match begun.kind {
        Kind::Update => "update",
        Kind::FirstDeploy => "first-deploy",
        Kind::Snapshot => "snapshot",
        Kind::Restore => "restore",
        Kind::Restart => "restart",
    };
    let mut entry = Entry::new(&begun.operation, operation.host.clock.now(), kind, outcome.word());
    entry.from.clone_from(&begun.from);
    entry.to = Some(begun.to.clone());
    entry.snapshot = progress.snapshot.as_ref().map(ToString::to_string);
    entry.reason = match outcome {
        Outcome::RolledBack { reason, .. } | Outcome::Stuck { reason, .. } => Some(reason.clone()),
        Outcome::Released { by } => Some(by.clone()),
        _ => None,
    };
    // What is stuck is down still.
    if !matches!(outcome, Outcome::Stuck { .. }) {
        entry.downtime_ms = operation.watch.whole_ms();
        entry.downtime_parts = operation.watch.parts();
    }
    entry
}

fn tell(
    context: &Context<'_>,
    operation: &Operation<'_>,
    outcome: &Outcome,
    left_running: Option<String>,
) -> Result<()> {
    let (name, progress) = (&operation.app.name, operation.progress());
    let id = &progress.begun.operation;
    let alert = match outcome {
        Outcome::RolledBack { tried, to, cause, reason, .. } => {
            Some(rolled_back(operation, tried, to.as_ref(), *cause, reason))
        }
        Outcome::Stuck { reason, data, damaged, way_out } => {
            let mut alert = Alert::new(AlertKind::Stuck, id, format!("{name} is stuck: it is down and stays down"))
                .fact("tried", progress.begun.to.to_string())
                .fact("because", reason.raw());
            if let Some((_, reason)) = &progress.back {
                alert = alert.fact("it went back because", reason.raw());
            }
            alert = alert.fact("data", data.describe());
            if let Some(left) = operation.does_not_go_back().filter(|_| *data != LiveData::Untouched) {
                alert = alert.fact("does not go back", left);
            }
            if let Some(snapshot) = progress.snapshot.as_ref().filter(|_| progress.snapshotted) {
                let known = if *damaged { "damaged" } else { "verified when it was taken" };
                alert = alert.fact("known-good", format!("snapshot {snapshot}, {known}"));
            }
            if let Some(error) = left_running {
                alert = alert.fact("still there", format!("it could not be stopped: {error}"));
            }
            Some(alert.hint(format!("cc-warm status {name}")).hint(way_out.clone()))
        }
        Outcome::Released { by } => {
            let alert = Alert::new(AlertKind::Released, id, format!("{name} is left to whoever works on it"))
                .fact("seen", by.raw())
                .hint(format!("cc-warm status {name}"));
            // What is not deployed cannot be adopted.
            let is_gone = matches!(operation.deployer.observe(), Ok(Observed::Absent { .. }));
            Some(if is_gone { alert } else { alert.hint(format!("cc-warm adopt {name}, once it is healthy")) })
        }
        _ => None,
    };
    if let Some(alert) = alert {
        context.raise(name, alert)?;
    }
    if matches!(outcome, Outcome::Updated { .. } | Outcome::Restored { .. } | Outcome::Restarted { .. }) {
        context.resolve(
            name,
            &[AlertKind::UnhealthyBeforeUpdate, AlertKind::DownByHand, AlertKind::Stuck, AlertKind::Down],
        )?;
        // A higher version may still wait.
        if AppState::load(&context.host.dirs, name)?.held.is_none() {
            context.resolve(name, &[AlertKind::Held])?;
        }
    }
    Ok(())
}

fn rolled_back(
    operation: &Operation<'_>,
    tried: &Identity,
    to: Option<&Identity>,
    cause: Option<Cause>,
    reason: &Untrusted,
) -> Alert {
    let (name, progress) = (&operation.app.name, operation.progress());
    let id = &progress.begun.operation;
    let failed = cause == Some(Cause::Failed);
    let kind = match (failed, progress.begun.kind) {
        (true, Kind::FirstDeploy) => AlertKind::FirstDeployFailed,
        (true, _) => AlertKind::RolledBack,
        (false, _) => AlertKind::Recovered,
    };
    let title = match (kind, to) {
        (AlertKind::FirstDeployFailed, _) => format!("{name}: the first deployment of {} failed", tried.version),
        (_, None) => format!("{name}: {} did not come to run; nothing is deployed", tried.version),
        (_, Some(to)) if failed => format!("{name}: {} failed and went back to {}", tried.version, to.version),
        (_, Some(to)) => format!("{name}: an operation was cut short; {} runs again", to.version),
    };
    let mut alert = Alert::new(kind, id, title).fact("tried", tried.to_string()).fact("because", reason.raw());
    if let Some(to) = to {
        alert = alert.fact("runs again", to.to_string());
    }
    if progress.restored {
        let begun = progress.begun.at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let lost = format!("what users wrote after the stop, soon after {begun}");
        alert = alert.fact("no longer seen", lost).fact("kept", kept(operation));
        if let Some(left) = operation.does_not_go_back() {
            alert = alert.fact("did not go back", left);
        }
    }
    if progress.stopped == Some(Stopped::Killed) {
        alert = alert.fact("unclean", "the app had to be killed before the snapshot: its data is as after a power cut");
    }
    if failed {
        alert = alert.hint(format!("cc-warm retry {name}"));
    }
    alert.hint(format!("cc-warm history {name}"))
}

/// Where what the failed version left is, in words.
fn kept(operation: &Operation<'_>) -> String {
    let id = operation.id();
    if operation.progress().discarding {
        return "nothing: there was no room for the failed version's data beside the snapshot's".to_owned();
    }
    let volumes = operation.deployer.volumes().unwrap_or_default();
    let elsewhere: Vec<String> = operation
        .store
        .failed_data(&volumes)
        .into_iter()
        .filter(|kept| kept.operation == id && kept.path.starts_with(operation.store.failed_folder()))
        .map(|kept| format!("`{}`", kept.path.display()))
        .collect();
    let beside = format!("the failed version's data, as `.cc-warm-failed-{id}` beside the `_data` of each volume");
    if elsewhere.is_empty() { beside } else { format!("{beside}, and {}", elsewhere.join(", ")) }
}

/// Sets apart what nobody needs any more. The app runs; a failure here is only noted.
fn tidy(operation: &Operation<'_>, volumes: &[Volume]) {
    let rules = operation.rules();
    note(operation.store.tidy(volumes, &rules, Some(operation.id())));
    let tidied = || -> Result<()> {
        let listing = operation.store.list()?;
        if !listing.unreadable.is_empty() {
            // It is not known which release such a snapshot is of, so none is dropped.
            return Ok(());
        }
        let mut needed: BTreeSet<Identity> = BTreeSet::new();
        needed.extend(operation.progress().begun.from.clone());
        needed.insert(operation.progress().begun.to.clone());
        // Of an app that is undeployed, what ran last is neither of these, and only that may run on its data.
        needed.extend(AppState::load(&operation.host.dirs, &operation.app.name)?.last_good.map(|good| good.identity));
        needed.extend(listing.snapshots.into_iter().map(|snapshot| snapshot.tag.identity));
        let needed: Vec<Identity> = needed.into_iter().collect();
        Ok(operation.deployer.keep_only(&needed, operation.lock)?)
    };
    note(tidied().err());
}

/// Ends what is stuck: what runs was deployed by an operator, and is taken as good. The journal goes last, so that it can
/// be done again.
pub fn end_stuck(context: &Context<'_>, name: &AppName) -> Result<()> {
    context.resolve(
        name,
        &[AlertKind::Stuck, AlertKind::Unfinished, AlertKind::UnhealthyBeforeUpdate, AlertKind::DownByHand],
    )?;
    match Journal::open(&context.host.dirs, context.host.clock, name).map_err(|error| error.into_problem(name))? {
        Some(journal) if journal.progress().last == EventName::Stuck => journal.remove(),
        _ => Ok(()),
    }
}

/// Tells the operator of a journal that cannot be used.
pub fn tell_of_bad_journal(context: &Context<'_>, name: &AppName, error: &JournalError) -> Result<()> {
    if matches!(error, JournalError::Io(_)) {
        return Ok(());
    }
    let title = format!("{name}: its journal cannot be used; nothing is done to the app");
    let alert = Alert::new(AlertKind::CorruptState, "journal", title)
        .fact("because", error.to_string())
        .hint(format!("cc-warm status {name}"));
    context.raise(name, alert)
}
