//! For how long an app was down, and on what that time went.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The parts of a downtime, in milliseconds. What is left to the whole is journal, checks and waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Until nothing of the app was left.
    pub stop: u64,
    /// Copying what had changed since the staging copy, or everything.
    pub copy: u64,
    /// Checking the copy.
    pub verify: u64,
    /// Making it durable.
    pub sync: u64,
    /// Bringing data back.
    pub restore: u64,
    /// Until it was deployed again.
    pub start: u64,
    /// From then until it answered.
    pub answer: u64,
}

impl Parts {
    /// Those that took any time, as people read them.
    #[must_use]
    pub fn describe(&self) -> String {
        let all = [
            ("stop", self.stop),
            ("copy", self.copy),
            ("verify", self.verify),
            ("sync", self.sync),
            ("restore", self.restore),
            ("start", self.start),
            ("answer", self.answer),
        ];
        let shown: Vec<String> =
            all.iter().filter(|(_, ms)| *ms > 0).map(|(name, ms)| format!("{name} {}", seconds(*ms))).collect();
        shown.join(", ")
    }
}

/// Milliseconds as people read them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a time for people")]
pub fn seconds(ms: u64) -> String {
    let digits = if ms < 10_000 { 2 } else { 1 };
    format!("{:.digits$} s", ms as f64 / 1000.0)
}

/// So many milliseconds.
#[must_use]
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Measures the downtime of one operation, as far as this process sees it.
#[derive(Debug, Default)]
pub struct Stopwatch {
    /// It was down before this process could see it.
    unseen: bool,
    stopped_at: Option<Instant>,
    deployed_at: Option<Instant>,
    whole: Option<Duration>,
    parts: Parts,
}

impl Stopwatch {
    /// Of a downtime that began unseen, if it is one: nothing is told of it, for the part that was seen says little.
    #[must_use]
    pub fn of_unseen(unseen: bool) -> Self {
        Self { unseen, ..Self::default() }
    }

    /// The app is about to be stopped.
    pub fn stopped(&mut self) {
        if !self.unseen {
            self.stopped_at.get_or_insert_with(Instant::now);
        }
    }

    /// It is deployed.
    pub fn deployed(&mut self) {
        self.deployed_at = Some(Instant::now());
    }

    /// It is healthy, and answered as it should from `since` on: its downtime ended then. A version that failed before
    /// served nobody.
    pub fn serves(&mut self, since: Option<Instant>) {
        let since = since.unwrap_or_else(Instant::now);
        if let Some(deployed) = self.deployed_at {
            self.add(since.saturating_duration_since(deployed), |parts| &mut parts.answer);
        }
        self.whole = self.stopped_at.map(|stopped| since.saturating_duration_since(stopped));
    }

    /// `time` of it went on something.
    pub fn add(&mut self, time: Duration, part: impl FnOnce(&mut Parts) -> &mut u64) {
        if self.stopped_at.is_some() {
            let part = part(&mut self.parts);
            *part = part.saturating_add(ms(time));
        }
    }

    /// How long it was down, in milliseconds; `None`: it was not, or this process did not see all of it.
    #[must_use]
    pub fn whole_ms(&self) -> Option<u64> {
        self.whole.map(ms)
    }

    /// On what the time went, where there is a whole.
    #[must_use]
    pub fn parts(&self) -> Option<Parts> {
        self.whole.map(|_| self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_a_stop_counts_until_it_answers() {
        let mut watch = Stopwatch::default();
        watch.add(Duration::from_secs(5), |parts| &mut parts.copy);
        watch.deployed();
        watch.serves(None);
        assert_eq!((watch.whole_ms(), watch.parts()), (None, None));
        watch.stopped();
        watch.add(Duration::from_millis(20), |parts| &mut parts.copy);
        watch.add(Duration::from_millis(30), |parts| &mut parts.copy);
        watch.deployed();
        assert_eq!(watch.parts(), None, "it does not answer yet");
        let deployed = watch.deployed_at.unwrap();
        watch.serves(Some(deployed + Duration::from_millis(700)));
        assert_eq!(watch.parts().unwrap().describe(), "copy 0.05 s, answer 0.70 s");
        assert!(watch.whole_ms().unwrap() >= 700);
    }

    #[test]
    fn nothing_is_told_of_a_downtime_that_began_unseen() {
        let mut watch = Stopwatch::of_unseen(true);
        watch.stopped();
        watch.add(Duration::from_secs(5), |parts| &mut parts.restore);
        watch.deployed();
        watch.serves(None);
        assert_eq!((watch.whole_ms(), watch.parts()), (None, None));
    }
}
