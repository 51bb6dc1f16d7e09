//! What earlier runs left: it goes before room is counted, so that it keeps no update from having it.

use super::context::Context;
use crate::config::App;
use crate::deployer::Deployer;
use crate::host::Host;
use crate::snapshot::meter::Interrupted;
use crate::snapshot::{Rules, Store, Volume};

/// By which rules data of earlier operations goes.
#[must_use]
pub fn rules(app: &App, host: &Host) -> Rules {
    Rules {
        keep_failed: app.update.keep_failed,
        keep_previous: app.update.keep_previous,
        reserve: host.reserve,
        now: host.clock.now(),
    }
}

/// Deletes what is garbage, and data whose time is over. No operation on the app may be under way. What could not be
/// deleted is noted only: room is counted next.
pub fn delete(context: &Context<'_>, app: &App, deployer: &dyn Deployer, store: &Store) {
    if let Some(volumes) = volumes_of(deployer) {
        note(store.tidy(&volumes, &rules(app, context.host), None));
        note(store.empty_trash(&volumes, context.work()));
    }
}

/// Deletes what is in the trash. Cut short, the next run goes on.
pub(super) fn empty_trash(context: &Context<'_>, deployer: &dyn Deployer, store: &Store) {
    if let Some(volumes) = volumes_of(deployer) {
        note(store.empty_trash(&volumes, context.work()));
    }
}

fn volumes_of(deployer: &dyn Deployer) -> Option<Vec<Volume>> {
    deployer.volumes().map_err(|error| note([error.into()])).ok()
}

/// Deletes the staging copy of an operation that did not begin, if there is one.
pub fn delete_staging(context: &Context<'_>, app: &App, store: &Store) {
    if !context.host.dirs.app(app.name.as_str()).journal().exists() {
        note(store.discard_staging(context.work()));
    }
}

/// What could not be deleted is no more than that: the next run tries again.
pub(super) fn note(errors: impl IntoIterator<Item = anyhow::Error>) {
    for error in errors {
        if error.chain().any(<dyn std::error::Error>::is::<Interrupted>) {
            tracing::info!("what is left to delete, the next run deletes");
        } else {
            tracing::warn!("leftovers could not be deleted: {error:#}");
        }
    }
}
