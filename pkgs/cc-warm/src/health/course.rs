//! From the outcomes of rounds to a verdict: a pure state machine over times that it is given.

use std::time::Duration;

use crate::config::Health;

/// What counts as healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many rounds in a row must pass, at least 1.
    pub successes: u32,
    /// The pause between two rounds.
    pub interval: Duration,
    /// For so long nothing may fail after that.
    pub soak: Duration,
    /// All that within this.
    pub deadline: Duration,
}

impl Rules {
    /// As configured: what a version must prove before it is committed.
    #[must_use]
    pub fn of(health: &Health) -> Self {
        Self {
            successes: health.successes.max(1),
            interval: health.interval.duration(),
            soak: health.soak.duration(),
            deadline: health.deadline.duration(),
        }
    }

    /// One passed round within the deadline: whether an app that is still starting is well.
    #[must_use]
    pub fn one_success(health: &Health) -> Self {
        Self { successes: 1, soak: Duration::ZERO, ..Self::of(health) }
    }

    /// The least time between a round that did not pass and the end of a proof.
    fn shortest_proof(&self) -> Duration {
        self.interval.saturating_mul(self.successes).saturating_add(self.soak)
    }
}

/// How one round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything runs, every probe passed.
    Passed,
    /// It starts still, or a probe failed.
    Failed,
    /// Some of it died.
    Died,
    /// Nothing can be known of the app, and that is not its fault.
    Unknown,
}

/// What to do after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Begin the next round at this time.
    Round(Duration),
    /// It is healthy.
    Healthy,
    /// It is not, and no time is left to become so.
    Unhealthy,
    /// It died.
    Died,
    /// For as long as the deadline, nothing could be known of it.
    NotReady,
}

/// The course of a wait. All times count from its beginning.
#[derive(Debug, Clone)]
pub struct Course {
    rules: Rules,
    /// Passed rounds in a row.
    row: u32,
    /// When the first of them ended.
    row_since: Option<Duration>,
    /// When the soak began, in the app's own time.
    soaking_since: Option<Duration>,
    /// How much of the time was not the app's.
    lost: Duration,
    /// When the last round ended.
    last_end: Duration,
}

impl Course {
    /// Before the first round, which is due at once.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, row: 0, row_since: None, soaking_since: None, lost: Duration::ZERO, last_end: Duration::ZERO }
    }

    /// Takes in a round from `began` to `ended`.
    pub fn round(&mut self, outcome: Outcome, began: Duration, ended: Duration) -> Next {
        if outcome == Outcome::Unknown {
            self.lost += ended.saturating_sub(self.last_end);
        }
        self.last_end = ended;
        let next = ended + self.rules.interval;
        match outcome {
            Outcome::Died => Next::Died,
            Outcome::Unknown if self.lost >= self.rules.deadline => Next::NotReady,
            Outcome::Unknown => Next::Round(next),
            Outcome::Failed => {
                (self.row, self.row_since) = (0, None);
                self.soaking_since = None;
                let over = self.own(ended) + self.rules.shortest_proof() > self.rules.deadline;
                if over { Next::Unhealthy } else { Next::Round(next) }
            }
            Outcome::Passed => self.passed(began, ended),
        }
    }

    fn passed(&mut self, began: Duration, ended: Duration) -> Next {
        self.row = self.row.saturating_add(1);
        self.row_since.get_or_insert(ended);
        let soak_end = match self.soaking_since {
            Some(since) => Some(since + self.rules.soak),
            None if self.row >= self.rules.successes => {
                self.soaking_since = Some(self.own(ended));
                Some(self.own(ended) + self.rules.soak)
            }
            None => None,
        };
        match soak_end {
            // A slow last answer is still an answer of the time in which it was asked for.
            Some(_) if self.rules.soak.is_zero() => Next::Healthy,
            Some(end) if self.own(began) >= end => Next::Healthy,
            Some(end) if end > self.rules.deadline => Next::Unhealthy,
            _ if self.own(ended) >= self.rules.deadline => Next::Unhealthy,
            Some(end) => Next::Round((ended + self.rules.interval).min(end + self.lost).max(ended)),
            None => Next::Round(ended + self.rules.interval),
        }
    }

    /// `at` in the app's own time: without what was lost so far.
    fn own(&self, at: Duration) -> Duration {
        at.saturating_sub(self.lost)
    }

    /// What is left of the app's own time at `now`: no probe may take longer.
    #[must_use]
    pub fn left(&self, now: Duration) -> Duration {
        self.rules.deadline.saturating_sub(self.own(now))
    }

    /// Passed rounds in a row.
    #[must_use]
    pub fn row(&self) -> u32 {
        self.row
    }

    /// When the first of these ended.
    #[must_use]
    pub fn row_since(&self) -> Option<Duration> {
        self.row_since
    }

    /// While soaking, how much of it is left at `now`.
    #[must_use]
    pub fn soak_left(&self, now: Duration) -> Option<Duration> {
        self.soaking_since.map(|since| (since + self.rules.soak).saturating_sub(self.own(now)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(successes: u32, interval: u64, soak: u64, deadline: u64) -> Rules {
        Rules { successes, interval: s(interval), soak: s(soak), deadline: s(deadline) }
    }

    /// Plays rounds of `each` seconds, one outcome a character (the last one again and again); gives the verdict and
    /// the second at which it came.
    fn play(rules: Rules, each: u64, outcomes: &str) -> (Next, u64) {
        let mut course = Course::new(rules);
        let mut at = Duration::ZERO;
        let mut outcomes = outcomes.chars().map(|c| match c {
            '+' => Outcome::Passed,
            '-' => Outcome::Failed,
            '?' => Outcome::Unknown,
            _ => Outcome::Died,
        });
        let mut last = Outcome::Passed;
        loop {
            last = outcomes.next().unwrap_or(last);
            let end = at + s(each);
            match course.round(last, at, end) {
                Next::Round(next) => {
                    assert!(next >= end, "a round in the past");
                    at = next;
                }
                verdict => return (verdict, end.as_secs()),
            }
        }
    }

    #[test]
    fn tells_healthy_from_unhealthy() {
        use Next::{Died, Healthy, NotReady, Unhealthy};
        let usual = rules(3, 2, 60, 600);
        for (name, rules, each, outcomes, verdict) in [
            ("three in a row, then the soak", usual, 0, "+", (Healthy, 64)),
            ("a late start", usual, 0, "-----+", (Healthy, 74)),
            ("a failure breaks the row", usual, 0, "++-+", (Healthy, 70)),
            ("a failure breaks the soak", usual, 0, "+++++-+", (Healthy, 76)),
            ("never: given up when no proof fits any more", usual, 0, "-", (Unhealthy, 536)),
            ("probes that hang", usual, 10, "-", (Unhealthy, 538)),
            ("death ends it at once", usual, 0, "+++x", (Died, 6)),
            ("death before anything", usual, 0, "x", (Died, 0)),
            ("no soak", rules(1, 2, 0, 600), 0, "--+", (Healthy, 4)),
            ("the last round of a soak begins at its end", rules(1, 7, 10, 60), 0, "+", (Healthy, 10)),
            ("a failure at the end of the soak counts", rules(1, 7, 10, 60), 0, "++-+", (Healthy, 27)),
            ("a soak that would end after the deadline", rules(3, 2, 10, 20), 5, "+", (Unhealthy, 19)),
            ("a row that takes too long", rules(9, 2, 1, 20), 5, "+", (Unhealthy, 26)),
            ("not ready for a deadline", rules(1, 2, 0, 10), 0, "?", (NotReady, 10)),
            ("not ready is no failure in the row", rules(3, 2, 0, 10), 0, "+?+?+", (Healthy, 8)),
            ("not ready stops the soak and the deadline", rules(1, 5, 10, 15), 0, "++??++", (Healthy, 20)),
            ("not ready is not held against it", rules(1, 2, 4, 10), 0, "-????+", (Healthy, 14)),
            ("death seen after a gap", rules(1, 2, 4, 10), 0, "+??x", (Died, 6)),
        ] {
            assert_eq!(play(rules, each, outcomes), verdict, "{name}");
        }
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            6 => Just(Outcome::Passed),
            2 => Just(Outcome::Failed),
            1 => Just(Outcome::Unknown),
        ]
    }

    proptest! {
        /// Whatever happens: it ends within the deadline, what was lost and one round; and healthy is only said after
        /// `successes` passes and a soak with no failure in it.
        #[test]
        fn always_ends_and_never_calls_a_failing_app_healthy(
            successes in 1..5u32, interval in 1..10u64, soak in 0..40u64, deadline in 41..200u64,
            rounds in prop::collection::vec((outcome(), 0..15u64), 1..40),
        ) {
            let rules = rules(successes, interval, soak, deadline);
            let mut course = Course::new(rules);
            let mut at = Duration::ZERO;
            // Passed rounds since the last failure, and when the proof's row was complete, without unknown time.
            let (mut row, mut lost, mut last_end) = (0u32, Duration::ZERO, Duration::ZERO);
            let mut complete: Option<Duration> = None;
            for (outcome, took) in rounds.iter().copied().chain(std::iter::repeat((Outcome::Failed, 1))) {
                let end = at + s(took);
                let next = course.round(outcome, at, end);
                match outcome {
                    Outcome::Unknown => lost += end.saturating_sub(last_end),
                    Outcome::Failed => (row, complete) = (0, None),
                    _ => {
                        row += 1;
                        if row == successes { complete = Some(end.saturating_sub(lost)); }
                    }
                }
                last_end = end;
                match next {
                    Next::Round(next) => {
                        prop_assert!(end <= rules.deadline + lost + s(15), "goes on at {end:?}");
                        at = next;
                    }
                    Next::Healthy => {
                        prop_assert!(outcome == Outcome::Passed && row >= successes);
                        prop_assert!(soak == 0 || at.saturating_sub(lost) >= complete.unwrap() + rules.soak);
                        break;
                    }
                    Next::Unhealthy => { prop_assert!(outcome != Outcome::Unknown); break; }
                    Next::NotReady => { prop_assert!(lost >= rules.deadline); break; }
                    Next::Died => prop_assert!(false, "nothing died"),
                }
            }
        }
    }
}
