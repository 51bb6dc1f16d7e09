//! What is noted of an app: versions that ran, that wait, that went back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::identity::{CommitId, Identity};
use crate::recipe::version::Version;
use crate::sys::untrusted::Untrusted;

/// A committed identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastGood {
    /// What ran.
    pub identity: Identity,
    /// Since when it is known to be good.
    pub at: Timestamp,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// An identity that was rolled back, or lies above what the operator downgraded to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// What was tried.
    pub identity: Identity,
    /// When.
    pub at: Timestamp,
    /// The operation that tried it.
    pub operation: String,
    /// Why it went back.
    pub reason: Untrusted,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// An update that a power cut or a signal ended after its target had started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interrupted {
    /// What was tried.
    pub identity: Identity,
    /// The operation.
    pub operation: String,
    /// When.
    pub at: Timestamp,
}

/// A version that waits for the operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The version.
    pub version: Version,
    /// Its commit.
    pub commit: CommitId,
    /// The reasons, as shown to people.
    pub reasons: Vec<String>,
    /// Whether `approve` would let it pass.
    #[serde(default = "may_be")]
    pub approvable: bool,
    /// Since when it is held.
    pub since: Timestamp,
}

/// Older programs did not write it down.
fn may_be() -> bool {
    true
}

impl Held {
    /// The same, since when it was held `before`, whatever the reasons were then.
    #[must_use]
    pub fn as_before(self, before: Option<&Self>) -> Self {
        let since = before.filter(|before| before.version == self.version && before.commit == self.commit);
        Self { since: since.map_or(self.since, |before| before.since), ..self }
    }
}

/// What waits for a window of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The version that waits now.
    pub version: Version,
    /// Since when any has.
    pub since: Timestamp,
}

impl Waiting {
    /// No window was open at any run of a whole week, so maybe none ever is.
    const TOO_LONG: SignedDuration = SignedDuration::from_hours(7 * 24);

    /// Whether that should be known by `now`.
    #[must_use]
    pub fn is_too_long(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) >= Self::TOO_LONG
    }
}

/// A published version as this host first saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The commit its tag named then.
    pub commit: CommitId,
    /// When.
    pub first: Timestamp,
}

/// A version and commit that may pass the first gate once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The version.
    pub version: Version,
    /// The commit that was approved: a moved tag is not.
    pub commit: CommitId,
    /// When.
    pub at: Timestamp,
}

/// No updates for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None`: until `resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Why an app stays down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StuckNote {
    /// The operation that became stuck.
    pub operation: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: Untrusted,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How the last operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When.
    pub at: Timestamp,
    /// In a word, as in the history.
    pub outcome: String,
    /// Why, where it ended in an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
}

impl LastRun {
    /// The outcome of a run that ended in an error before it began anything.
    pub const FAILED: &str = "failed";

    /// One that ended at `at` with `outcome`.
    pub fn new(at: Timestamp, outcome: impl Into<String>) -> Self {
        Self { at, outcome: outcome.into(), reason: None }
    }
}
