//! How an operation begins: its first record, with everything that recovery needs.

use anyhow::Result;

use super::context::Context;
use super::effects;
use super::journal::Journal;
use super::notice;
use super::operation::Operation;
use super::outcome::Outcome;
use super::saga::{Begun, EventName, Kind, StuckOn};
use super::turn::Turn;
use crate::config::App;
use crate::deployer::{Convergence, Deployer, Deployment, Known, Observed, Release};
use crate::downtime::Stopwatch;
use crate::health::Continuity;
use crate::identity::Identity;
use crate::lock::AppLock;
use crate::snapshot::{SnapshotId, Staged, Store};
use crate::sys::random;
use crate::sys::untrusted::Untrusted;

/// An operation that is about to begin.
pub struct Start<'a> {
    /// Shared things.
    pub context: &'a Context<'a>,
    /// The app.
    pub app: &'a App,
    /// What runs it.
    pub deployer: &'a dyn Deployer,
    /// Its snapshots.
    pub store: &'a Store,
    /// Its lock.
    pub lock: &'a AppLock,
    /// What for.
    pub kind: Kind,
    /// What is deployed now.
    pub observed: &'a Observed,
    /// What shall run.
    pub to: &'a Release,
    /// The output of the continuity command before the stop.
    pub continuity: Option<Continuity>,
    /// What was copied while the app ran.
    pub staged: Option<Staged>,
    /// The right to be the one app that is stopped.
    pub turn: Option<Turn>,
    /// The snapshot that shall come back.
    pub restoring: Option<SnapshotId>,
    /// The app is stuck now: why, and on what.
    pub was_stuck: Option<(Untrusted, StuckOn)>,
}

impl Start<'_> {
    /// Writes the first record, performs the operation to its end, and finishes its effects.
    pub fn run(self) -> Result<Outcome> {
        let (context, app) = (self.context, self.app);
        self.perform().map_err(|error| notice::of_unfinished(context, &app.name, error))
    }

    /// Whether the app is not down yet, as far as that is known.
    fn is_up(&self) -> bool {
        let runs = |deployment: &Deployment| deployment.state != Convergence::Down;
        self.was_stuck.is_none() && matches!(self.observed, Observed::Present(deployment) if runs(deployment))
    }

    fn perform(self) -> Result<Outcome> {
        let (from, generation) = match self.observed {
            Observed::Present(deployment) => (known(&deployment.what), Some(deployment.generation.clone())),
            Observed::Absent { .. } => (None, None),
        };
        let is_up = self.is_up();
        let host = self.context.host;
        let (was_stuck, stuck_on) = self.was_stuck.unzip();
        let begun = Begun {
            operation: random::id()?,
            kind: self.kind,
            app: self.app.clone(),
            from,
            to: self.to.identity(),
            generation,
            stateful: self.app.stateful && self.kind != Kind::FirstDeploy,
            continuity: self.continuity,
            helper: host.exe.to_string_lossy().into_owned(),
            at: host.clock.now(),
            was_stuck,
            stuck_on,
            restoring: self.restoring,
        };
        let journal = Journal::begin(&host.dirs, host.clock, begun)?;
        let mut operation = Operation {
            host,
            app: self.app,
            deployer: self.deployer,
            store: self.store,
            predecessors: self.context.predecessors(self.app),
            lock: self.lock,
            journal,
            narrator: self.context.narrator,
            staged: self.staged,
            turn: self.turn,
            watch: Stopwatch::of_unseen(!is_up),
            shutdown: host.interrupt.by_shutdown(),
        };
        if let Err(error) = operation.run(self.to) {
            // At the first record nothing is touched, so nothing must be left to settle.
            if operation.progress().last == EventName::Begun && operation.progress().begun.was_stuck.is_none() {
                operation.journal.remove()?;
            }
            return Err(error);
        }
        effects::finish(self.context, operation)
    }
}

fn known(what: &Known) -> Option<Identity> {
    match what {
        Known::Yes(identity) => Some(identity.clone()),
        Known::No { .. } => None,
    }
}
