//! What the outbox knows of one alert: what each sink shall hear, and what it has heard. Pure: what is done with a
//! record is decided here, and performed by the outbox.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kind::Nature;
use super::{Alert, Kind};

/// The format of the file.
pub const FORMAT: u32 = 1;
const FIRST_BACKOFF: Duration = Duration::from_mins(1);
const LONGEST_BACKOFF: Duration = Duration::from_hours(1);
/// For how long a told event is remembered, lest it be told again.
const EVENTS_KEPT: Duration = Duration::from_hours(90 * 24);
/// For how long a fact is remembered whose place another has taken.
const SUPERSEDED_KEPT: Duration = Duration::from_hours(365 * 24);

/// One alert and its delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always 1.
    pub format: u32,
    /// Its name, the file's too: app, kind, and a digest of host and fingerprint.
    pub id: String,
    /// How alerts name this host.
    pub host: String,
    /// What is told.
    pub alert: Alert,
    /// Since when it stands.
    pub first_at: Timestamp,
    /// When the last message was made.
    pub at: Timestamp,
    /// The number of the last message that was made: its id is the record's with this.
    pub number: u32,
    /// How often the operator was reminded.
    pub repeats: u32,
    /// What the last message says.
    pub says: Says,
    /// Whether another fact of its kind has taken its place: kept to be remembered, not told.
    #[serde(default)]
    pub superseded: bool,
    /// Of [`Kind::AlertsDropped`]: how many.
    #[serde(default)]
    pub dropped: u64,
    /// What each sink has heard.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkState>,
    /// What a newer cc-warm has written.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It is so.
    Raised,
    /// It is over.
    Resolved,
}

/// What one sink has heard of an alert.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SinkState {
    /// The number of the last message that it took.
    #[serde(default)]
    pub heard: u32,
    /// What that said.
    #[serde(default)]
    pub last: Option<Says>,
    /// Whether a message is on its way: until the outcome is known, it may have been heard.
    #[serde(default)]
    pub trying: bool,
    /// Failed attempts since.
    #[serde(default)]
    pub attempts: u32,
    /// Not before this.
    #[serde(default)]
    pub next_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether it refused this message, rather than not answering at all.
    #[serde(default)]
    pub refused: bool,
    /// What a newer cc-warm has written.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It stays as and where it is.
    Unchanged,
    /// It waits for delivery.
    Pending(Box<Record>),
    /// It is only remembered.
    Told(Box<Record>),
    /// It is over and forgotten.
    Gone,
}

impl Record {
    /// The first of an alert.
    #[must_use]
    pub fn new(id: String, host: &str, alert: Alert, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            id,
            host: host.to_owned(),
            alert: alert.capped(),
            first_at: now,
            at: now,
            number: 1,
            repeats: 0,
            says: Says::Raised,
            superseded: false,
            dropped: 0,
            sinks: BTreeMap::new(),
            unknown: Map::new(),
        }
    }

    fn nature(&self) -> Nature {
        self.alert.kind.doc().nature
    }

    /// Whether it is told once.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.nature() == Nature::Event
    }

    /// The same alert was raised again. `told`: every sink had heard the last message.
    #[must_use]
    pub fn raised(mut self, alert: Alert, told: bool, now: Timestamp, reminder: Duration) -> Fate {
        if self.is_event() {
            return Fate::Unchanged;
        }
        let alert = alert.capped();
        if self.says == Says::Resolved {
            // It came back before everybody heard that it was over: who did not hear that knows it still.
            self.number += 1;
            for state in self.sinks.values_mut().filter(|state| state.last == Some(Says::Raised) && !state.trying) {
                state.heard = self.number;
            }
            (self.says, self.first_at, self.at, self.repeats) = (Says::Raised, now, now, 0);
            self.alert = alert;
            return Fate::Pending(Box::new(self));
        }
        // Whichever way the clock was set meanwhile.
        let due = now.duration_since(self.at).unsigned_abs() >= reminder;
        if due && self.heard_by_anyone() {
            self.number += 1;
            self.repeats += 1;
            self.at = now;
        } else if told && self.superseded {
            self.superseded = false;
            return Fate::Told(Box::new(self));
        } else if told || self.alert == alert {
            return Fate::Unchanged;
        }
        self.superseded = false;
        self.alert = alert;
        Fate::Pending(Box::new(self))
    }

    /// Another fact of its kind was raised for its app.
    #[must_use]
    pub fn superseded(mut self) -> Fate {
        if self.nature() != Nature::Fact || self.superseded {
            Fate::Unchanged
        } else if self.says == Says::Resolved || !self.heard_by_anyone() {
            Fate::Gone
        } else {
            self.superseded = true;
            Fate::Told(Box::new(self))
        }
    }

    /// The fact is over.
    #[must_use]
    pub fn resolved(mut self, now: Timestamp) -> Fate {
        if self.is_event() || self.says == Says::Resolved {
            return Fate::Unchanged;
        }
        if self.superseded || !self.heard_by_anyone() {
            return Fate::Gone;
        }
        self.number += 1;
        self.says = Says::Resolved;
        self.at = now;
        for state in self.sinks.values_mut() {
            // Another message: nobody has failed at it.
            (state.attempts, state.next_at, state.refused) = (0, None, false);
        }
        Fate::Pending(Box::new(self))
    }

    fn heard_by_anyone(&self) -> bool {
        self.sinks.values().any(|state| state.last == Some(Says::Raised) || state.trying)
    }

    /// Whether `sink` has yet to hear the last message.
    #[must_use]
    pub fn is_owed(&self, sink: &str) -> bool {
        let state = self.sinks.get(sink);
        match self.says {
            _ if self.superseded => false,
            Says::Raised => state.is_none_or(|state| state.heard < self.number),
            Says::Resolved => state.is_some_and(|state| state.last == Some(Says::Raised) || state.trying),
        }
    }

    /// Whether an attempt at `sink` is due.
    #[must_use]
    pub fn is_due(&self, sink: &str, now: Timestamp) -> bool {
        let next_at = self.sinks.get(sink).and_then(|state| state.next_at);
        // A time further away than any back-off is from before the clock was set.
        let waits = |at: Timestamp| at > now && at.duration_since(now).unsigned_abs() <= LONGEST_BACKOFF;
        self.is_owed(sink) && !next_at.is_some_and(waits)
    }

    /// How often an attempt at `sink` has failed.
    #[must_use]
    pub fn attempts(&self, sink: &str) -> u32 {
        self.sinks.get(sink).map_or(0, |state| state.attempts)
    }

    /// The last message is about to be sent to `sink`.
    pub fn trying(&mut self, sink: &str) {
        self.sinks.entry(sink.to_owned()).or_default().trying = true;
    }

    /// `sink` took message `number`, which said `says`.
    pub fn took(&mut self, sink: &str, number: u32, says: Says) {
        // What was made anew while it was sent says the same again.
        let heard = if says == self.says { self.number } else { number };
        let state = self.sinks.entry(sink.to_owned()).or_default();
        state.heard = state.heard.max(heard);
        state.last = Some(says);
        state.trying = false;
        (state.attempts, state.next_at, state.error, state.refused) = (0, None, None, false);
    }

    /// An attempt at `sink` failed; `refused`: this message was, and others may not be.
    pub fn failed(&mut self, sink: &str, error: &str, refused: bool, now: Timestamp) {
        let state = self.sinks.entry(sink.to_owned()).or_default();
        state.trying = false;
        state.attempts = state.attempts.saturating_add(1);
        state.next_at = now.checked_add(backoff(state.attempts)).ok();
        state.error = Some(error.to_owned());
        state.refused = refused;
    }

    /// Whether `sink` refused the last message.
    #[must_use]
    pub fn refused_by(&self, sink: &str) -> bool {
        self.sinks.get(sink).is_some_and(|state| state.refused)
    }

    /// Where it belongs, when these are the sinks. With no sink at all, what was raised waits.
    #[must_use]
    pub fn settled<'a>(self, sinks: impl IntoIterator<Item = &'a String>) -> Fate {
        let mut any = false;
        for sink in sinks {
            any = true;
            if self.is_owed(sink) {
                return Fate::Unchanged;
            }
        }
        match self.says {
            Says::Resolved => Fate::Gone,
            Says::Raised if !any && !self.superseded => Fate::Unchanged,
            Says::Raised if self.alert.kind == Kind::AlertsDropped => Fate::Gone,
            Says::Raised => Fate::Told(Box::new(self)),
        }
    }

    /// Whether a told record need not be remembered any longer.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        let older = |than: Duration| !age.is_negative() && age.unsigned_abs() > than;
        (self.is_event() && older(EVENTS_KEPT)) || (self.superseded && older(SUPERSEDED_KEPT))
    }

    /// What is dropped first when there are too many: the least urgent, events before facts, the oldest.
    #[must_use]
    pub fn worth(&self) -> impl Ord + use<> {
        (self.alert.kind.doc().severity, !self.is_event(), self.first_at)
    }
}

/// How long to wait after the `attempts`-th failure.
fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
