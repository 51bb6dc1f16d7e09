//! What an operator does by hand: take a snapshot, bring one back, start again, adopt.

use anyhow::{Context as _, Result};

use super::begin::Start;
use super::conditions::{must_be_healthy, must_be_suitable, must_be_whole, must_fit, must_fit_beside, must_go_back};
use super::context::Context;
pub use super::forecast::Forecast;
use super::forecast::Last;
use super::outcome::Outcome;
use super::parted;
use super::recover;
use super::saga::{EventName, Kind, Progress, StuckOn};
use super::turn::{self, Turn};
use super::{effects, forecast, journal, leftovers, staging};
use crate::alert::Kind as AlertKind;
use crate::config::{App, Warm};
use crate::deployer::{self, Convergence, Deployer, Deployment, Known, Observed, Release};
use crate::error::{Exit, Problem};
use crate::history::{self, Entry};
use crate::host::Host;
use crate::identity::Identity;
use crate::lock::AppLock;
use crate::snapshot::{Snapshot, SnapshotId, Staged, Store};
use crate::state::{AppState, LastRun};
use crate::sys::random;
use crate::sys::untrusted::Untrusted;

/// Takes a known-good of `app` now: stopped for as long as it takes.
pub fn snapshot(context: &Context<'_>, app: &App, lock: &AppLock) -> Result<Outcome> {
    if stuck_or_settled(context, app, lock)?.is_some() {
        // Its journal would be replaced: nothing would say any more that it is stuck.
        let problem = Problem::new(format!("`{}` is stuck; nothing was touched", app.name)).exit(Exit::Refused);
        return Err(problem.hint(format!("cc-warm status {}", app.name)).into());
    }
    if app.warm == Warm::Data {
        return Err(Problem::new(format!("`{}` is data-warm: only a green cold run makes its known-good", app.name))
            .exit(Exit::Refused)
            .into());
    }
    let deployer = deployer::open(context.host, app)?;
    let store = Store::new(&context.host.dirs, &app.name).full_every(app.full_every);
    must_be_in_place(context, app, deployer.as_ref())?;
    let observed = deployer.observe()?;
    let (_, identity) = running(app, &observed)?;
    let release = deployer.prepared(&identity).with_context(|| format!("{identity} could not be started again"))?;
    leftovers::delete(context, app, deployer.as_ref(), &store);
    if context.host.interrupt.is_set() {
        // How much room there is, is not known.
        return Err(Problem::cancelled().into());
    }
    let total = must_fit(context, app, deployer.as_ref(), &store, &mut None)?;
    must_go_back(app, deployer.as_ref(), &release)?;
    must_be_healthy(context, app, deployer.as_ref())?;
    let staged = staging::stage(context, app, deployer.as_ref(), &store, total)?;
    let begun = begin_snapshot(context, app, lock, (deployer.as_ref(), &observed, &release), &store, staged);
    leftovers::delete_staging(context, app, &store);
    begun
}

/// What comes after the staging copy: whatever it ends with, that copy is deleted if no operation began.
fn begin_snapshot(
    context: &Context<'_>,
    app: &App,
    lock: &AppLock,
    (deployer, observed, release): (&dyn Deployer, &Observed, &Release),
    store: &Store,
    mut staged: Option<Staged>,
) -> Result<Outcome> {
    if context.host.interrupt.is_set() {
        return Ok(Outcome::Cancelled);
    }
    let turn = Turn::take(context, app, deployer)?;
    if turn.is_none() {
        return Ok(turn::missed(context));
    }
    must_go_back(app, deployer, release)?;
    // Once more, right before the stop: minutes may have passed, and others may have taken the room.
    must_be_healthy(context, app, deployer)?;
    must_fit(context, app, deployer, store, &mut staged)?;
    Start {
        context,
        app,
        deployer,
        store,
        lock,
        kind: Kind::Snapshot,
        observed,
        to: release,
        continuity: None,
        staged,
        turn,
        restoring: None,
        was_stuck: None,
    }
    .run()
}

/// What a snapshot of `app` would be like, touching nothing.
pub fn forecast(host: &Host, app: &App) -> Result<Forecast> {
    let deployer = deployer::open(host, app)?;
    let store = Store::new(&host.dirs, &app.name).full_every(app.full_every);
    if let Observed::Present(Deployment { what: Known::Yes(identity), .. }) = deployer.observe()? {
        must_be_suitable(app, deployer.as_ref(), &deployer.prepared(&identity)?)?;
    }
    let preflight = store.preflight(&deployer.volumes()?, host.reserve, None)?;
    let history = history::read(&host.dirs, &app.name)?;
    let last = history.iter().rev().find_map(|entry| {
        let parts = entry.downtime_parts.filter(|_| matches!(entry.outcome.as_str(), "updated" | "snapshotted"))?;
        let snapshot = store.get(&SnapshotId::parse(entry.snapshot.as_ref()?).ok()?).ok()??;
        Some(Last { parts, downtime_ms: entry.downtime_ms.unwrap_or(0), totals: snapshot.totals() })
    });
    Ok(forecast::forecast(preflight, last))
}

/// Which snapshot a restore by hand means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The known-good; of a stuck app the one of the update that failed.
    Current,
    /// The one before.
    Previous,
    /// This one.
    Id(SnapshotId),
}

/// The snapshot of `app` that `which` means.
pub fn choose(context: &Context<'_>, app: &App, which: &Which) -> Result<Snapshot> {
    let store = Store::new(&context.host.dirs, &app.name);
    let journal = journal::peek(&context.host.dirs, &app.name).map_err(|error| error.into_problem(&app.name))?;
    let found = match (which, journal) {
        (Which::Current, Some(progress)) if progress.snapshotted => {
            progress.snapshot.map(|id| store.get(&id)).transpose()?.flatten()
        }
        (Which::Current, _) => store.current()?,
        (Which::Previous, _) => store.previous()?,
        (Which::Id(id), _) => store.get(id)?,
    };
    found.ok_or_else(|| {
        Problem::new(format!("app `{}` has no such snapshot; nothing was touched", app.name))
            .exit(Exit::Usage)
            .hint(format!("cc-warm status {}", app.name))
            .into()
    })
}

/// Brings the snapshot that `which` means back: its data and its version. The live data is kept as failed.
pub fn restore(context: &Context<'_>, app: &App, lock: &AppLock, which: &Which) -> Result<Outcome> {
    let was_stuck = stuck_or_settled(context, app, lock)?;
    // Whoever had the lock may have taken another one.
    let chosen = &choose(context, app, which)?;
    let deployer = deployer::open(context.host, app)?;
    let store = Store::new(&context.host.dirs, &app.name);
    must_be_in_place(context, app, deployer.as_ref())?;
    let observed = deployer.observe()?;
    let is_good = was_stuck.as_ref().is_none_or(|(_, on)| on.data.fits());
    if let Observed::Present(_) = observed {
        running(app, &observed)?;
    }
    if let Some(env) = store.env(&chosen.id)? {
        deployer.take_env_back(&chosen.tag.identity, &env)?;
    }
    let release = deployer.prepared(&chosen.tag.identity).map_err(anyhow::Error::from).map_err(|error| {
        Problem::new(format!("{} of app `{}` cannot be deployed; nothing was touched", chosen.tag.identity, app.name))
            .because(error)
    })?;
    must_be_whole(context, app, &store, chosen)?;
    // What is down already does not wait for others.
    let turn = if was_stuck.is_none() && matches!(observed, Observed::Present(_)) {
        let turn = Turn::take(context, app, deployer.as_ref())?;
        if turn.is_none() {
            return Ok(turn::missed(context));
        }
        turn
    } else {
        None
    };
    must_go_back(app, deployer.as_ref(), &release)?;
    if is_good {
        must_fit_beside(app, deployer.as_ref(), &store, chosen)?;
    }
    Start {
        context,
        app,
        deployer: deployer.as_ref(),
        store: &store,
        lock,
        kind: Kind::Restore,
        observed: &observed,
        to: &release,
        continuity: None,
        staged: None,
        turn,
        restoring: Some(chosen.id.clone()),
        was_stuck,
    }
    .run()
}

/// Brings a stuck app back: on its data where that fits the version, else from the snapshot of the update that failed.
/// `None`: it is not stuck.
pub fn unstick(context: &Context<'_>, app: &App, lock: &AppLock) -> Result<Option<Outcome>> {
    let journal = journal::peek(&context.host.dirs, &app.name).map_err(|error| error.into_problem(&app.name))?;
    let Some(progress) = journal.filter(|progress| progress.last == EventName::Stuck) else { return Ok(None) };
    stuck_or_settled(context, app, lock)?;
    if let Observed::Present(_) = deployer::open(context.host, app)?.observe()? {
        // Its data is what that version made of it since.
        let what = format!("`{}` was deployed by somebody since it became stuck; nothing was touched", app.name);
        let problem = Problem::new(what).exit(Exit::Refused).hint(format!("cc-warm adopt {}", app.name));
        return Err(problem.hint(format!("cc-warm restore {}", app.name)).into());
    }
    if !progress.stuck_data().fits() {
        let which = progress.asked_for().map_or(Which::Current, |id| Which::Id(id.clone()));
        return restore(context, app, lock, &which).map(Some);
    }
    let identity = progress.back_to().cloned().ok_or_else(|| {
        Problem::new(format!("it is not known which version wrote the data of `{}`; it stays down", app.name))
            .hint(format!("cc-warm restore {}", app.name))
    })?;
    restart(context, app, lock, &identity).map(Some)
}

/// Starts `identity` on the data that is there.
pub fn restart(context: &Context<'_>, app: &App, lock: &AppLock, identity: &Identity) -> Result<Outcome> {
    let was_stuck = stuck_or_settled(context, app, lock)?;
    let deployer = deployer::open(context.host, app)?;
    let store = Store::new(&context.host.dirs, &app.name);
    let observed = deployer.observe()?;
    let state = AppState::load(&context.host.dirs, &app.name)?;
    parted::must_be_in_place(&app.name, deployer.as_ref(), &state)?;
    parted::Facts { host: context.host, app, deployer: deployer.as_ref(), state: &state, observed: &observed }
        .must_fit(identity.into())?;
    let release = deployer.prepared(identity)?;
    Start {
        context,
        app,
        deployer: deployer.as_ref(),
        store: &store,
        lock,
        kind: Kind::Restart,
        observed: &observed,
        to: &release,
        continuity: None,
        staged: None,
        turn: None,
        restoring: None,
        was_stuck,
    }
    .run()
}

/// Takes what runs as last-good, once it is healthy; of an app that was stuck, too. Changes nothing that runs.
pub fn adopt(context: &Context<'_>, app: &App, lock: &AppLock) -> Result<Outcome> {
    let was_stuck = stuck_or_settled(context, app, lock)?;
    let deployer = deployer::open(context.host, app)?;
    // Whoever deployed it at another place by hand says so with this.
    let state = AppState { place: None, ..AppState::load(&context.host.dirs, &app.name)? };
    parted::must_be_in_place(&app.name, deployer.as_ref(), &state)?;
    let observed = deployer.observe()?;
    let (deployment, identity) = running(app, &observed)?;
    if deployment.state == Convergence::Down {
        return Err(Problem::new(format!("`{}` is deployed, but does not run", app.name))
            .exit(Exit::NotReady)
            .hint(format!("cc-warm recover {}", app.name))
            .into());
    }
    must_be_healthy(context, app, deployer.as_ref())?;
    // It must be possible to come back to it.
    deployer.prepared(&identity)?;
    note_adopted(context, app, deployer.as_ref(), &identity)?;
    if was_stuck.is_some() {
        effects::end_stuck(context, &app.name)?;
    }
    Ok(Outcome::Adopted { identity })
}

/// Writes down that `identity` was found running and healthy.
pub fn note_adopted(context: &Context<'_>, app: &App, deployer: &dyn Deployer, identity: &Identity) -> Result<()> {
    let (dirs, now) = (&context.host.dirs, context.host.clock.now());
    let mut state = AppState::load(dirs, &app.name)?;
    let operation = random::id()?;
    let before = state.last_good.as_ref().map(|good| good.identity.clone());
    state.step_down(identity, now, &operation, "downgraded by hand");
    state.commit(identity.clone(), now);
    (state.named, state.place) = (deployer.named()?, deployer.place()?);
    state.last_run = Some(LastRun::new(now, "adopted"));
    state.save(dirs, &app.name)?;
    let mut entry = Entry::new(&operation, now, "adopt", "adopted");
    entry.from = before;
    entry.to = Some(identity.clone());
    history::add(dirs, &app.name, &entry)?;
    // Whoever was let go of while stuck is stuck no longer, and what was just found healthy is neither down nor ill.
    context.resolve(&app.name, &[AlertKind::Stuck, AlertKind::DownByHand, AlertKind::UnhealthyBeforeUpdate])
}

fn must_be_in_place(context: &Context<'_>, app: &App, deployer: &dyn Deployer) -> Result<()> {
    parted::must_be_in_place(&app.name, deployer, &AppState::load(&context.host.dirs, &app.name)?)
}

/// Settles a journal, but leaves a stuck one: why and on what it is stuck, if it is.
fn stuck_or_settled(context: &Context<'_>, app: &App, lock: &AppLock) -> Result<Option<(Untrusted, StuckOn)>> {
    recover::settle(context, &app.name, lock)?;
    let journal = journal::peek(&context.host.dirs, &app.name).map_err(|error| error.into_problem(&app.name))?;
    let Some((progress, (reason, data))) = journal.and_then(|progress| Some((progress.clone(), progress.stuck?)))
    else {
        return Ok(None);
    };
    keep_what_was_live(context, app, lock, &progress)?;
    Ok(Some((reason, StuckOn { data, fits: progress.back_to().filter(|_| data.fits()).cloned() })))
}

/// Finishes what an operation, which became stuck in the middle of an exchange, could not: what was live there is kept.
fn keep_what_was_live(context: &Context<'_>, app: &App, lock: &AppLock, stuck: &Progress) -> Result<()> {
    if stuck.exchanges.is_empty() {
        return Ok(());
    }
    let deployer = deployer::open(context.host, app)?;
    let mut volumes = deployer.volumes()?;
    // What became `unmanaged` since then, too.
    for name in deployer.unmanaged_volumes()? {
        if stuck.exchanges.iter().any(|exchange| exchange.volume == name) {
            volumes.push(deployer.create_volume(&name, lock)?);
        }
    }
    for volume in volumes {
        for exchange in stuck.exchanges.iter().filter(|exchange| exchange.volume == volume.name) {
            exchange.keep_live(&volume, &stuck.begun.operation).map_err(|error| {
                let what = format!(
                    "what was live in the volume `{}` of app `{}` could not be set aside; nothing else was touched",
                    volume.name, app.name
                );
                Problem::new(what).because(error)
            })?;
        }
    }
    Ok(())
}

fn running(app: &App, observed: &Observed) -> Result<(Deployment, Identity)> {
    let refuse = |text: String, hint: String| Err(Problem::new(text).exit(Exit::Refused).hint(hint).into());
    match observed {
        Observed::Absent { .. } => refuse(
            format!("`{}` is not deployed; nothing was touched", app.name),
            format!("cc-warm status {}", app.name),
        ),
        Observed::Present(deployment) => match &deployment.what {
            Known::Yes(identity) => Ok((deployment.clone(), identity.clone())),
            Known::No { label, why } => refuse(
                format!(
                    "it is not known which version of `{}` runs ({}): {why}; nothing was touched",
                    app.name,
                    label.terminal()
                ),
                format!("deploy a published version by hand, then run `cc-warm adopt {}`", app.name),
            ),
        },
    }
}
