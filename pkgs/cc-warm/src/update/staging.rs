//! The copy of an app's data that is made while it runs.

use anyhow::Result;

use super::context::Context;
use super::leftovers;
use crate::config::App;
use crate::deployer::Deployer;
use crate::error::Problem;
use crate::snapshot::{self, Staged, Store, Totals, Work};

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
    let work = Work { reporter: context.narrator, interrupt: &context.host.interrupt };
    let error = match store.stage(&volumes, Some(total), work) {
        Ok(staged) => return Ok(Some(staged)),
        Err(error) => error,
    };
    leftovers::note(store.discard_staging());
    if snapshot::is_passing(&error) {
        tracing::warn!("no copy could be made while the app runs: {error:#}");
        return Ok(None);
    }
    let what = format!("no snapshot of `{}` can be taken; the app was not touched", app.name);
    Err(Problem::new(what).hint(format!("cc-warm snapshot --dry-run {}", app.name)).because(error).into())
}
