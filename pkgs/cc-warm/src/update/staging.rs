//! The copy of an app's data that is made while it runs.

use anyhow::Result;

use super::context::Context;
use super::leftovers;
use crate::config::App;
use crate::deployer::Deployer;
use crate::error::Problem;
use crate::snapshot::{self, Preflight, Staged, Store, Totals, Volume};

/// Copies the volumes of an app while it runs, so that its downtime depends on what changes only. Where that fails for a
/// reason that may be gone once it is stopped, everything is copied then: `None`. Anything else would be met again with
/// the app down. `total` is what the volumes hold.
pub fn stage(
    context: &Context<'_>,
    app: &App,
    deployer: &dyn Deployer,
    store: &Store,
    total: Totals,
) -> Result<Option<Staged>> {
    let volumes = deployer.volumes()?;
    context.narrator.say("copying its data while it runs");
    let attempt = || {
        store
            .stage(&volumes, Some(total), context.work())
            .inspect_err(|_| leftovers::note(store.discard_staging(context.work())))
    };
    let mut error = match attempt() {
        Ok(staged) => return Ok(Some(staged)),
        Err(error) => error,
    };
    // What the app did to it while it was copied is not the same the next time.
    let mut chance = false;
    if let Some(first) = snapshot::differs(&error).cloned() {
        error = match attempt() {
            Ok(staged) => return Ok(Some(staged)),
            Err(error) => error,
        };
        chance = snapshot::differs(&error).is_some_and(|second| *second != first);
    }
    if chance || snapshot::is_passing(&error) {
        tracing::warn!("no copy could be made while the app runs: {error:#}");
        return Ok(None);
    }
    let what = format!("no snapshot of `{}` can be taken; the app was not touched", app.name);
    Err(Problem::new(what).hint(format!("cc-warm snapshot --dry-run {}", app.name)).because(error).into())
}

/// Whether a snapshot of `volumes` will fit, with a staging copy; if only without it, it is given up. What changes all the
/// time, or is young, is copied again, so that for as long as the app is stopped it is there three times.
pub fn preflight(
    context: &Context<'_>,
    store: &Store,
    volumes: &[Volume],
    staged: &mut Option<Staged>,
) -> Result<Preflight> {
    let preflight = store.preflight(volumes, context.host.reserve, staged.as_ref())?;
    if staged.is_none() || preflight.refusal().is_none() {
        return Ok(preflight);
    }
    context
        .narrator
        .say("there is no room for the copy that was made while it ran, too: everything is copied once it is stopped");
    *staged = None;
    leftovers::note(store.discard_staging(context.work()));
    if context.host.interrupt.is_set() {
        // How much room there is, is not known.
        return Err(Problem::cancelled().into());
    }
    // On btrfs, what was deleted counts until that is written.
    store.sync_file_systems(volumes)?;
    store.preflight(volumes, context.host.reserve, None)
}
