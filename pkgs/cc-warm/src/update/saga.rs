//! The saga of one operation on an app: its events, and the pure functions that say which event may follow and what a
//! recovery has to do. Nothing in here touches the machine.
//!
//! Invariants that live here: old code is redeployed only once its data is back ([`Progress::apply`] has no way from
//! touched data to `Redeploying` but through `Restored`); a stop is an obligation (every event after `Stopping` that is
//! not terminal has a plan that ends with the app running, or stuck).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::live_data::{LiveData, StuckOn};
use crate::config::App;
use crate::deployer::Stopped;
use crate::health::Continuity;
use crate::identity::Identity;
use crate::snapshot::{Exchange, SnapshotId};
use crate::sys::untrusted::Untrusted;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Bring the app to a newer version, or a changed environment.
    Update,
    /// Deploy an app that is not there.
    FirstDeploy,
    /// Take a known-good by hand.
    Snapshot,
    /// Bring a snapshot and its version back, by hand.
    Restore,
    /// Start a known release on the data that is there: after a boot, or because the operator says so.
    Restart,
}

/// The first record: everything that recovery needs, for nothing else may be left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The operation's id: random, safe as a file name.
    pub operation: String,
    /// What it is for.
    pub kind: Kind,
    /// The app's whole resolved configuration.
    pub app: App,
    /// What ran before; `None` if nothing did.
    pub from: Option<Identity>,
    /// What shall run.
    pub to: Identity,
    /// What [`Deployer::observe`](crate::deployer::Deployer::observe) gave as the generation of what ran.
    pub generation: Option<String>,
    /// Whether the app is stopped and its data snapshotted.
    pub stateful: bool,
    /// The output of `health.continuity` before the stop.
    pub continuity: Option<Continuity>,
    /// The path of the program that wrote this.
    pub helper: String,
    /// When it began.
    pub at: Timestamp,
    /// The app was stuck before, and is again if this comes to nothing.
    #[serde(default)]
    pub was_stuck: Option<Untrusted>,
    /// What its data was while it was stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_on: Option<StuckOn>,
    /// The snapshot that a restore by hand was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<SnapshotId>,
}

/// Why an operation goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The version is bad.
    Failed,
    /// It was cut short: nothing is known of the version.
    Interrupted,
}

/// One event of the intent log. It is durable before the act that it announces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The operation begins; nothing is touched yet.
    Begun(Box<Begun>),
    /// The app will be stopped.
    Stopping,
    /// The snapshot `id` will be taken.
    Snapshotting {
        /// Its id.
        id: SnapshotId,
    },
    /// The snapshot is complete, verified, durable, and the known-good.
    Snapshotted {
        /// Its id.
        id: SnapshotId,
        /// How the stop went: after a kill the data is as after a power cut.
        stopped: Stopped,
    },
    /// The target will be deployed: from here on the data counts as touched.
    Deploying,
    /// The target is deployed.
    Deployed {
        /// The deployment's generation.
        generation: String,
    },
    /// The target is healthy and keeps what continuity asks for.
    Healthy,
    /// The target is the new last-good. Terminal.
    Committed,
    /// The way back begins.
    RollingBack {
        /// Why.
        cause: Cause,
        /// In words.
        reason: Untrusted,
    },
    /// The data of snapshot `id` will be built beside the live data.
    Restoring {
        /// Its id.
        id: SnapshotId,
    },
    /// One volume's live data will change places with the restored.
    Exchanging(Exchange),
    /// There is no room for both: the live data that has not been exchanged is given up, for the snapshot, which is whole.
    DiscardingFailed,
    /// All data is the snapshot's, durably.
    Restored,
    /// The version to go back to will be deployed.
    Redeploying,
    /// The prior version runs. Terminal.
    RolledBack,
    /// The way back failed: the app stays down. Terminal until the operator acts.
    Stuck {
        /// Why.
        reason: Untrusted,
        /// What the live data is.
        data: LiveData,
        /// The generation of what is deployed still, and is taken down next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        running: Option<String>,
        /// The snapshot turned out to be damaged.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        damaged: bool,
    },
    /// Somebody else works on the app: nothing more is done. Terminal.
    Released {
        /// What was seen.
        by: Untrusted,
    },
}

/// The name of an event; the crash matrix is derived from [`EventName::ALL`].
macro_rules! event_names {
    ($($name:ident $pattern:pat => $text:literal),* $(,)?) => {
        /// The names of all events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is the event of that name")]
        pub enum EventName { $($name),* }

        impl EventName {
            /// Every event there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As in fault points and messages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }

        impl Event {
            /// Its name.
            #[must_use]
            pub fn name(&self) -> EventName {
                match self { $($pattern => EventName::$name),* }
            }
        }
    };
}

event_names! {
    Begun Event::Begun(_) => "begun",
    Stopping Event::Stopping => "stopping",
    Snapshotting Event::Snapshotting { .. } => "snapshotting",
    Snapshotted Event::Snapshotted { .. } => "snapshotted",
    Deploying Event::Deploying => "deploying",
    Deployed Event::Deployed { .. } => "deployed",
    Healthy Event::Healthy => "healthy",
    Committed Event::Committed => "committed",
    RollingBack Event::RollingBack { .. } => "rolling-back",
    Restoring Event::Restoring { .. } => "restoring",
    Exchanging Event::Exchanging(_) => "exchanging",
    DiscardingFailed Event::DiscardingFailed => "discarding-failed",
    Restored Event::Restored => "restored",
    Redeploying Event::Redeploying => "redeploying",
    RolledBack Event::RolledBack => "rolled-back",
    Stuck Event::Stuck { .. } => "stuck",
    Released Event::Released { .. } => "released",
}

/// An event that may not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event `{}` may not follow {}", event.as_str(), after.map_or("nothing", EventName::as_str))]
pub struct IllegalEvent {
    event: EventName,
    after: Option<EventName>,
}

/// All that the events so far say: the fold of the journal.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact that an event established")]
pub struct Progress {
    /// The first record.
    pub begun: Begun,
    /// The last event.
    pub last: EventName,
    /// The snapshot that this operation takes or restores.
    pub snapshot: Option<SnapshotId>,
    /// Whether that snapshot is known to be complete.
    pub snapshotted: bool,
    /// How the stop went.
    pub stopped: Option<Stopped>,
    /// Whether code other than what ran before may have touched the data.
    pub touched: bool,
    /// The generation of the target's deployment.
    pub deployed: Option<String>,
    /// Why it goes back.
    pub back: Option<(Cause, Untrusted)>,
    /// Exchanges announced so far.
    pub exchanges: Vec<Exchange>,
    /// Whether the failed data is given up.
    pub discarding: bool,
    /// Whether all data is back.
    pub restored: bool,
    /// Why it is stuck, and on which data.
    pub stuck: Option<(Untrusted, LiveData)>,
    /// The generation of what was deployed still when it became stuck.
    pub left: Option<String>,
    /// Whether the snapshot turned out to be damaged.
    pub damaged: bool,
    /// Who took over.
    pub released: Option<Untrusted>,
}

impl Progress {
    /// What the first event says; only `Begun` may be first.
    pub fn start(event: Event) -> Result<Self, IllegalEvent> {
        let Event::Begun(begun) = event else { return Err(IllegalEvent { event: event.name(), after: None }) };
        Ok(Self {
            begun: *begun,
            last: EventName::Begun,
            snapshot: None,
            snapshotted: false,
            stopped: None,
            touched: false,
            deployed: None,
            back: None,
            exchanges: Vec::new(),
            discarding: false,
            restored: false,
            stuck: None,
            left: None,
            damaged: false,
            released: None,
        })
    }

    /// What is known after `event`; an error if it may not follow.
    pub fn apply(mut self, event: Event) -> Result<Self, IllegalEvent> {
        let name = event.name();
        if !self.may_follow(&event) {
            return Err(IllegalEvent { event: name, after: Some(self.last) });
        }
        match event {
            Event::Snapshotting { id } | Event::Restoring { id } => self.snapshot = Some(id),
            Event::Snapshotted { stopped, .. } => {
                self.snapshotted = true;
                self.stopped = Some(stopped);
            }
            Event::Deploying => self.touched = true,
            Event::Deployed { generation } => self.deployed = Some(generation),
            Event::RollingBack { cause, reason } => self.back = Some((cause, reason)),
            Event::Exchanging(exchange) => self.exchanges.push(exchange),
            Event::DiscardingFailed => self.discarding = true,
            Event::Restored => self.restored = true,
            Event::Stuck { reason, data, running, damaged } => {
                self.stuck = Some((reason, data));
                self.left = running;
                self.damaged = damaged;
            }
            Event::Released { by } => self.released = Some(by),
            Event::Begun(_)
            | Event::Stopping
            | Event::Healthy
            | Event::Committed
            | Event::Redeploying
            | Event::RolledBack => {}
        }
        self.last = name;
        Ok(self)
    }

    /// The transition table.
    fn may_follow(&self, event: &Event) -> bool {
        use EventName as E;
        let kind = self.begun.kind;
        let forward = matches!(kind, Kind::Update | Kind::FirstDeploy);
        let last = self.last;
        match event {
            Event::Begun(_) => false,
            Event::Stopping => match kind {
                Kind::Restore | Kind::Snapshot => last == E::Begun,
                Kind::Update | Kind::FirstDeploy => last == E::Begun && self.begun.stateful,
                Kind::Restart => false,
            },
            Event::Snapshotting { .. } => last == E::Stopping && kind != Kind::Restore,
            Event::Snapshotted { id, .. } => last == E::Snapshotting && self.snapshot.as_ref() == Some(id),
            Event::Deploying => forward && (last == E::Snapshotted || (last == E::Begun && !self.begun.stateful)),
            Event::Deployed { .. } => last == E::Deploying,
            Event::Healthy => last == E::Deployed,
            Event::Committed => {
                last == E::Healthy
                    || (last == E::Redeploying && !self.touched && self.back.is_none() && kind == Kind::Snapshot)
            }
            Event::RollingBack { .. } => {
                matches!(last, E::Stopping | E::Snapshotting | E::Snapshotted | E::Deploying | E::Deployed)
                    || (last == E::Restoring && self.may_give_up_restore())
            }
            // A restore begins anew as often as it must, but only with this operation's own snapshot.
            Event::Restoring { id } => match last {
                E::Stopping => kind == Kind::Restore,
                E::RollingBack => self.needs_restore() && self.snapshot.as_ref() == Some(id),
                E::Restoring => self.snapshot.as_ref() == Some(id),
                _ => false,
            },
            Event::Exchanging(exchange) => {
                matches!(last, E::Restoring | E::Exchanging | E::DiscardingFailed)
                    && !self.exchanges.iter().any(|known| known.volume == exchange.volume)
            }
            Event::DiscardingFailed => matches!(last, E::Restoring | E::Exchanging) && !self.discarding,
            Event::Restored => matches!(last, E::Restoring | E::Exchanging),
            Event::Redeploying => match last {
                E::Begun => kind == Kind::Restart,
                E::RollingBack => !self.needs_restore() && self.begun.from.is_some(),
                E::Snapshotted => kind == Kind::Snapshot,
                E::Restored | E::Redeploying => true,
                _ => false,
            },
            Event::RolledBack => last == E::Redeploying || (last == E::RollingBack && self.begun.from.is_none()),
            Event::Stuck { .. } => matches!(
                last,
                E::Begun
                    | E::Stopping
                    | E::RollingBack
                    | E::Restoring
                    | E::Exchanging
                    | E::DiscardingFailed
                    | E::Restored
                    | E::Redeploying
            ),
            Event::Released { .. } => !self.is_terminal() && last != E::Healthy,
        }
    }

    /// Whether nothing may follow.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.last, EventName::Committed | EventName::RolledBack | EventName::Stuck | EventName::Released)
    }

    /// Whether the data must be restored before any older code may start.
    #[must_use]
    pub fn needs_restore(&self) -> bool {
        self.touched && self.begun.stateful && !self.restored
    }
}

#[cfg(test)]
#[path = "saga_samples.rs"]
pub(crate) mod samples;

#[cfg(test)]
#[path = "saga_tests.rs"]
mod tests;
