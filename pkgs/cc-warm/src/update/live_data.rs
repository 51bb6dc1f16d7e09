//! What an app's live data is, and what may be started on it: pure functions of what the journal says.

use serde::{Deserialize, Serialize};

use super::saga::{Kind, Progress};
use crate::identity::Identity;
use crate::snapshot::SnapshotId;

/// What an app's live data is when it becomes stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveData {
    /// As it was at the stop.
    Untouched,
    /// The restored snapshot, perhaps with newer writes of the prior version.
    Snapshot,
    /// What the failed version left.
    Failed,
    /// Some volumes are the snapshot's, some the failed version's.
    Mixed,
    /// Given up for want of space; the snapshot is not back yet.
    Discarded,
}

/// What the data of a stuck app is, and what may be started on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckOn {
    /// What it is.
    pub data: LiveData,
    /// The version that wrote it, where it is of one.
    #[serde(default)]
    pub fits: Option<Identity>,
}

impl LiveData {
    /// Whether the version that ran before can be started on it.
    #[must_use]
    pub fn fits(self) -> bool {
        matches!(self, Self::Untouched | Self::Snapshot)
    }

    /// In words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Untouched => "its data is as it was at the stop",
            Self::Snapshot => "its data is the restored snapshot",
            Self::Failed => "its data is what the failed version left",
            Self::Mixed => "some volumes hold the snapshot, some the failed version's data",
            Self::Discarded => "its data was given up for want of space, and the snapshot is not back yet",
        }
    }
}

impl Progress {
    /// The command that brings the app back, once it is stuck.
    #[must_use]
    pub fn way_out(&self) -> String {
        let app = &self.begun.app.name;
        if self.stuck_data().fits() && self.back_to().is_some() {
            // Nothing has to be brought back.
            return if self.begun.kind == Kind::Restart && self.begun.was_stuck.is_some() && self.begun.stateful {
                format!(
                    "cc-warm retry {app}, once you mended what keeps it from being healthy; else `cc-warm restore {app}`, \
                     which goes back to the snapshot"
                )
            } else {
                format!("cc-warm retry {app}")
            };
        }
        match (self.damaged, self.asked_for()) {
            (false, None) => format!("cc-warm restore {app}"),
            (false, Some(id)) => format!("cc-warm restore {app} --snapshot {id}"),
            (true, None) => format!("cc-warm restore {app} --previous"),
            // Which others there are is told there.
            (true, Some(_)) => format!("cc-warm verify {app}"),
        }
    }

    /// What the data of a stuck app is, as was written down when it became stuck.
    #[must_use]
    pub fn stuck_data(&self) -> LiveData {
        self.stuck.as_ref().map_or(self.live_data(), |(_, data)| *data)
    }

    /// The snapshot that an operator asked for.
    #[must_use]
    pub fn asked_for(&self) -> Option<&SnapshotId> {
        self.snapshot.as_ref().or(self.begun.restoring.as_ref()).filter(|_| self.begun.kind == Kind::Restore)
    }

    /// Whether a restore has changed any live data.
    fn is_changed(&self) -> bool {
        self.restored || self.discarding || !self.exchanges.is_empty()
    }

    /// What the app goes back to: what ran before, or (restore by hand) what the snapshot holds, once any of it is live.
    #[must_use]
    pub fn back_to(&self) -> Option<&Identity> {
        let begun = &self.begun;
        match begun.kind {
            Kind::Restart => Some(&begun.to),
            Kind::Restore if self.is_changed() => Some(&begun.to),
            Kind::Restore if begun.was_stuck.is_some() => begun.stuck_on.as_ref().and_then(|on| on.fits.as_ref()),
            _ => begun.from.as_ref(),
        }
    }

    /// Whether a restore by hand can end as if it had never begun: all data is still what the app had when it ran.
    #[must_use]
    pub fn may_give_up_restore(&self) -> bool {
        self.begun.kind == Kind::Restore && self.begun.was_stuck.is_none() && !self.is_changed()
    }

    /// Whether live data may be given up for want of space: only what a failed version left, never what an operator
    /// replaces although it is good.
    #[must_use]
    pub fn may_discard(&self) -> bool {
        self.begun.kind != Kind::Restore || (self.begun.was_stuck.is_some() && !self.live_data().fits())
    }

    /// What the live data is now. What it was for a stuck app it stays until an operation changes it.
    #[must_use]
    pub fn live_data(&self) -> LiveData {
        let before = match (&self.begun.stuck_on, &self.begun.was_stuck) {
            (Some(on), _) => on.data,
            // Written by a program that did not say. A restart is only for data that fits.
            (None, Some(_)) if self.begun.kind != Kind::Restart => LiveData::Failed,
            (None, _) => LiveData::Untouched,
        };
        if self.restored {
            LiveData::Snapshot
        } else if self.discarding || before == LiveData::Discarded {
            LiveData::Discarded
        } else if !self.exchanges.is_empty() {
            LiveData::Mixed
        } else if self.touched && (self.begun.stateful || self.begun.kind == Kind::FirstDeploy) {
            LiveData::Failed
        } else {
            before
        }
    }

    /// Whether the data is of another version than the one that last ran well.
    #[must_use]
    pub fn has_parted_from_last_good(&self) -> bool {
        let restored_by_hand = self.begun.kind == Kind::Restore && self.restored;
        self.begun.stateful && (restored_by_hand || !self.live_data().fits())
    }
}
