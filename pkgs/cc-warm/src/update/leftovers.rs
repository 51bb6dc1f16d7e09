//! What earlier runs left: it goes before room is counted, so that it keeps no update from having it.

use super::context::Context;
use crate::config::App;
use crate::deployer::Deployer;
use crate::host::Host;
use crate::snapshot::meter::Interrupted;
use crate::snapshot::{Rules, Store};

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
    let volumes = match deployer.volumes() {
        Ok(volumes) => volumes,
        Err(error) => return note([error.into()]),
    };
    note(store.tidy(&volumes, &rules(app, context.host), None));
    note(store.empty_trash(&volumes, context.work()));
}

/// Deletes the staging copy of an operation that did not begin, if there is one.
pub fn delete_staging(app: &App, host: &Host, store: &Store) {
    if !host.dirs.app(app.name.as_str()).journal().exists() {
        note(store.discard_staging());
    }
}

/// What could not be deleted is no more than that: the next run tries again.
pub(super) fn note(errors: impl IntoIterator<Item = anyhow::Error>) {
    for error in errors.into_iter().filter(|error| !error.chain().any(<dyn std::error::Error>::is::<Interrupted>)) {
        tracing::warn!("leftovers could not be deleted: {error:#}");
    }
}
