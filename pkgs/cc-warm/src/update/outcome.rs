//! How an operation on one app ended: the exit code, the word in the history, and the sentence.

use serde::Serialize;

use super::saga::{Cause, EventName, Kind, LiveData, Progress};
use crate::downtime::{Parts, Stopwatch, seconds};
use crate::error::Exit;
use crate::identity::Identity;
use crate::recipe::version::Version;
use crate::sys::untrusted::Untrusted;

/// How an operation on one app ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The latest version runs.
    UpToDate {
        /// What runs.
        version: Version,
        /// Versions that are not tried, and why, in words.
        notes: Vec<String>,
    },
    /// The target runs and is healthy.
    Updated {
        /// What ran before; `None`: a first deployment.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Identity>,
        /// What runs now.
        to: Identity,
        /// For how long the app was down, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_ms: Option<u64>,
        /// On what that time went, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_parts: Option<Parts>,
    },
    /// The app runs what it ran before, and that is now the last-good.
    Adopted {
        /// What runs.
        identity: Identity,
    },
    /// Waits for the operator.
    Held {
        /// What runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
        /// What waits.
        #[serde(skip_serializing_if = "Option::is_none")]
        candidate: Option<Version>,
        /// Why.
        reasons: Vec<String>,
        /// Whether `approve` would let it pass.
        approvable: bool,
    },
    /// Waits for a window of time in which it may be stopped.
    Waiting {
        /// What runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        current: Option<Version>,
        /// What waits.
        candidate: Version,
    },
    /// The prior version and its data are back.
    RolledBack {
        /// What runs again.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<Identity>,
        /// What was tried.
        tried: Identity,
        /// Whether the version is to blame.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
        /// Why.
        reason: Untrusted,
        /// For how long the app was down, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_ms: Option<u64>,
        /// On what that time went, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_parts: Option<Parts>,
    },
    /// A snapshot's version and data are back, as the operator asked.
    Restored {
        /// What runs.
        to: Identity,
        /// Where the replaced data is kept, by operation.
        operation: String,
        /// There was no room to keep it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        given_up: bool,
    },
    /// What was deployed runs again, on the data that was there.
    Restarted {
        /// What runs.
        identity: Identity,
    },
    /// A new known-good was taken.
    Snapshotted {
        /// Its id.
        snapshot: String,
        /// For how long the app was down, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_ms: Option<u64>,
        /// On what that time went, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        downtime_parts: Option<Parts>,
    },
    /// The way back failed in this run; the app is down.
    Stuck {
        /// Why.
        reason: Untrusted,
        /// What the live data is.
        data: LiveData,
        /// The snapshot turned out to be damaged.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        damaged: bool,
        /// The command that brings it back.
        #[serde(skip)]
        way_out: String,
    },
    /// It was stuck before this run.
    StuckAlready {
        /// Why.
        reason: Untrusted,
    },
    /// Somebody else works on the app.
    Released {
        /// What was seen.
        by: Untrusted,
    },
    /// Updates of the app are paused.
    Paused {
        /// The operator's words.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It was never deployed here, and is only to be adopted.
    NotDeployed,
    /// It was undeployed by somebody: left alone.
    DownByHand {
        /// Why `resume` would be refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        doubt: Option<String>,
    },
    /// It was unhealthy before the update: left alone.
    UnhealthyBefore {
        /// What the probe said.
        reason: Untrusted,
    },
    /// The recipe could not be fetched: nothing touched.
    FetchFailed {
        /// Why.
        reason: Untrusted,
    },
    /// The machinery, or an app before this one, is not ready.
    NotReady {
        /// What.
        reason: Untrusted,
    },
    /// Asked to end before anything began.
    Cancelled,
}

impl Outcome {
    /// What a terminal journal says.
    #[must_use]
    pub fn of(progress: &Progress, watch: &Stopwatch) -> Self {
        let begun = &progress.begun;
        let (downtime_ms, downtime_parts) = (watch.whole_ms(), watch.parts());
        match progress.last {
            EventName::Stuck => {
                let (reason, data) = progress.stuck.clone().unwrap_or((Untrusted::default(), LiveData::Failed));
                Self::Stuck { reason, data, damaged: progress.damaged, way_out: progress.way_out() }
            }
            EventName::Released => Self::Released { by: progress.released.clone().unwrap_or_default() },
            EventName::Committed if begun.kind == Kind::Snapshot => Self::Snapshotted {
                snapshot: progress.snapshot.as_ref().map(ToString::to_string).unwrap_or_default(),
                downtime_ms,
                downtime_parts,
            },
            EventName::RolledBack if begun.kind == Kind::Restore && progress.restored => {
                let given_up = progress.discarding;
                Self::Restored { to: begun.to.clone(), operation: begun.operation.clone(), given_up }
            }
            EventName::RolledBack if begun.kind == Kind::Restart => Self::Restarted { identity: begun.to.clone() },
            EventName::RolledBack => {
                let (cause, reason) = progress.back.clone().map_or_else(
                    || (None, Untrusted::new("it was cut short before anything changed")),
                    |(cause, reason)| (Some(cause), reason),
                );
                Self::RolledBack {
                    to: progress.back_to().cloned(),
                    tried: begun.to.clone(),
                    cause,
                    reason,
                    downtime_ms,
                    downtime_parts,
                }
            }
            _ => Self::Updated { from: begun.from.clone(), to: begun.to.clone(), downtime_ms, downtime_parts },
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::UpToDate { .. }
            | Self::Updated { .. }
            | Self::Adopted { .. }
            | Self::Restored { .. }
            | Self::Restarted { .. }
            | Self::Snapshotted { .. }
            | Self::Paused { .. }
            | Self::Waiting { .. }
            | Self::NotDeployed
            | Self::DownByHand { .. } => Exit::Done,
            Self::Held { .. } => Exit::Held,
            Self::RolledBack { .. } => Exit::RolledBack,
            Self::Stuck { .. } => Exit::BecameStuck,
            Self::StuckAlready { .. } => Exit::StuckAlready,
            Self::NotReady { .. } => Exit::NotReady,
            Self::Released { .. } | Self::UnhealthyBefore { .. } | Self::FetchFailed { .. } => Exit::Failed,
            Self::Cancelled => Exit::Cancelled,
        }
    }

    /// Whether it is certain that nothing waits for a window any more.
    #[must_use]
    pub fn leaves_nothing_waiting(&self) -> bool {
        matches!(
            self,
            Self::UpToDate { .. }
                | Self::Updated { .. }
                | Self::Held { .. }
                | Self::RolledBack { .. }
                | Self::Stuck { .. }
                | Self::NotDeployed
                | Self::DownByHand { .. }
        )
    }

    /// Whether an update came as far as it could: whatever ended a run in an error before is over.
    #[must_use]
    pub fn got_through(&self) -> bool {
        match self {
            Self::UpToDate { .. }
            | Self::Updated { .. }
            | Self::Adopted { .. }
            | Self::Held { .. }
            | Self::RolledBack { .. }
            | Self::Restored { .. }
            | Self::Restarted { .. }
            | Self::Snapshotted { .. }
            | Self::Stuck { .. }
            | Self::NotDeployed
            | Self::DownByHand { .. } => true,
            Self::StuckAlready { .. }
            | Self::Released { .. }
            | Self::Paused { .. }
            | Self::Waiting { .. }
            | Self::UnhealthyBefore { .. }
            | Self::FetchFailed { .. }
            | Self::NotReady { .. }
            | Self::Cancelled => false,
        }
    }

    /// In a word, as in the history and in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::UpToDate { .. } => "up-to-date",
            Self::Updated { .. } => "updated",
            Self::Adopted { .. } => "adopted",
            Self::Held { .. } => "held",
            Self::Waiting { .. } => "waiting",
            Self::RolledBack { .. } => "rolled-back",
            Self::Restored { .. } => "restored",
            Self::Restarted { .. } => "restarted",
            Self::Snapshotted { .. } => "snapshotted",
            Self::Stuck { .. } => "stuck",
            Self::StuckAlready { .. } => "stuck-already",
            Self::Released { .. } => "released",
            Self::Paused { .. } => "paused",
            Self::NotDeployed => "not-deployed",
            Self::DownByHand { .. } => "down-by-hand",
            Self::UnhealthyBefore { .. } => "unhealthy-before",
            Self::FetchFailed { .. } => "fetch-failed",
            Self::NotReady { .. } => "not-ready",
            Self::Cancelled => "cancelled",
        }
    }

    /// In a sentence or a few lines, for a terminal.
    #[must_use]
    pub fn describe(&self) -> String {
        let down = |ms: &Option<u64>, parts: &Option<Parts>| {
            let parts = parts.as_ref().map(Parts::describe).filter(|parts| !parts.is_empty());
            let parts = parts.map_or(String::new(), |parts| format!(" ({parts})"));
            ms.map_or(String::new(), |ms| format!(", down for {}{parts}", seconds(ms)))
        };
        match self {
            Self::UpToDate { version, notes } => lines(&format!("up to date at {version}"), notes),
            Self::Updated { from: None, to, .. } => format!("deployed {to} for the first time"),
            Self::Updated { from: Some(from), to, downtime_ms, downtime_parts } if from.version == to.version => {
                format!(
                    "updated: {} with its changed environment or commit{}",
                    to.version,
                    down(downtime_ms, downtime_parts)
                )
            }
            Self::Updated { from: Some(from), to, downtime_ms, downtime_parts } => {
                format!("updated: {} → {}{}", from.version, to.version, down(downtime_ms, downtime_parts))
            }
            Self::Adopted { identity } => format!("adopted: {identity} runs and is healthy; nothing was changed"),
            Self::Held { current, candidate, reasons, .. } => {
                let at = current.as_ref().map_or(String::new(), |current| format!(" at {current}"));
                let waits = candidate.as_ref().map_or(String::new(), |c| format!(": {c} waits for you"));
                lines(&format!("held{at}{waits}"), reasons)
            }
            Self::Waiting { current, candidate } => {
                let current = current.as_ref().map_or("an unknown version".to_owned(), ToString::to_string);
                format!("{current} runs on: {candidate} waits for a window in which the app may be stopped")
            }
            Self::RolledBack { to, tried, cause, reason, downtime_ms, downtime_parts } => {
                let what = if *cause == Some(Cause::Failed) { "failed" } else { "was cut short" };
                let now =
                    to.as_ref().map_or("nothing is deployed".to_owned(), |to| format!("{} runs again", to.version));
                lines(
                    &format!("rolled back: {} {what}, {now}{}", tried.version, down(downtime_ms, downtime_parts)),
                    &[reason.terminal_lines()],
                )
            }
            Self::Restored { to, given_up: true, .. } => {
                format!(
                    "restored: {to} runs on its snapshot; there was no room to keep what was live, so it was given up"
                )
            }
            Self::Restored { to, operation, .. } => {
                format!("restored: {to} runs on its snapshot; what was live is kept as .cc-warm-failed-{operation}")
            }
            Self::Restarted { identity } => format!("started again: {identity}"),
            Self::Snapshotted { snapshot, downtime_ms, downtime_parts } => {
                format!("snapshot {snapshot} is the known-good{}", down(downtime_ms, downtime_parts))
            }
            Self::Stuck { reason, data, .. } => lines(
                &format!("STUCK: the app is down and stays down ({})", data.describe()),
                &[reason.terminal_lines()],
            ),
            Self::StuckAlready { reason } => {
                lines("still stuck since an earlier run: nothing is done to it", &[reason.terminal_lines()])
            }
            Self::Released { by } => lines("left to whoever works on it", &[by.terminal_lines()]),
            Self::Paused { reason } => reason
                .as_ref()
                .map_or("paused".to_owned(), |reason| format!("paused: {}", Untrusted::new(reason).terminal())),
            Self::NotDeployed => "left alone: it is not deployed, and `ensure` is off".to_owned(),
            Self::DownByHand { doubt } => {
                let doubt = doubt.as_ref().map(|why| format!("it would not be started again: {why}"));
                lines("left alone: somebody undeployed it", doubt.as_slice())
            }
            Self::UnhealthyBefore { reason } => {
                lines("left alone: it is unhealthy, before any update", &[reason.terminal_lines()])
            }
            Self::FetchFailed { reason } => {
                lines("nothing was touched: the recipe could not be fetched", &[reason.terminal_lines()])
            }
            Self::NotReady { reason } => lines("not ready; nothing was touched", &[reason.terminal_lines()]),
            Self::Cancelled => "cancelled before anything began".to_owned(),
        }
    }

    /// The command to run next, where there is one.
    #[must_use]
    pub fn hint(&self, app: &str) -> Option<String> {
        match self {
            Self::Held { candidate: Some(candidate), approvable: true, .. } => {
                Some(format!("read `cc-warm plan {app}`, then `cc-warm approve {app} {candidate}`"))
            }
            // There the ways out are.
            Self::Held { .. } | Self::FetchFailed { .. } | Self::DownByHand { doubt: Some(_) } => {
                Some(format!("cc-warm plan {app}"))
            }
            Self::RolledBack { cause: Some(Cause::Failed), .. } => {
                Some(format!("it is not tried again until a newer version, or `cc-warm retry {app}`"))
            }
            Self::Stuck { way_out, .. } => Some(way_out.clone()),
            Self::StuckAlready { .. } | Self::Released { .. } => Some(format!("cc-warm status {app}")),
            // That asks its probes, and says what they say now.
            Self::UnhealthyBefore { .. } => Some("cc-warm doctor".to_owned()),
            Self::Waiting { .. } => Some(format!("cc-warm update --now {app}")),
            Self::DownByHand { doubt: None } | Self::Paused { .. } => Some(format!("cc-warm resume {app}")),
            _ => None,
        }
    }
}

fn lines(first: &str, rest: &[String]) -> String {
    rest.iter().fold(first.to_owned(), |text, line| format!("{text}\n  - {}", line.replace('\n', "\n    ")))
}
