//! What a wait found, and how it goes while it lasts.

use std::time::{Duration, Instant};

use super::probe::{Answer, Condition};
use crate::sys::untrusted::Untrusted;

/// What the last round found, after how much effort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The last round's answer: of a round that failed, its first failure.
    pub answer: Answer,
    /// How many rounds there were.
    pub attempts: u32,
    /// How long all of it took.
    pub elapsed: Duration,
    /// Since when it answers as it should, without a failed round since; `None`: it does not.
    pub serves_since: Option<Instant>,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is healthy, and was for the whole soak.
    Healthy(Report),
    /// It is not.
    Unhealthy(Report),
    /// Some of it died, or nothing of it runs.
    Died(Report),
    /// Somebody asked us to end.
    Interrupted,
}

/// How far a wait is, after each round.
#[derive(Debug, Clone)]
pub struct Progress<'a> {
    /// Since when it lasts.
    pub elapsed: Duration,
    /// The number of the round, from 1.
    pub round: u32,
    /// What is waited for.
    pub phase: Phase,
    /// What this round found.
    pub answer: &'a Answer,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `passed` rounds in a row passed, of `wanted`.
    Counting {
        /// So many passed.
        passed: u32,
        /// So many must.
        wanted: u32,
    },
    /// Nothing may fail for so much longer.
    Soaking {
        /// What is left of the soak.
        left: Duration,
    },
}

impl Verdict {
    /// Its report; none if it was interrupted.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Healthy(report) | Self::Unhealthy(report) | Self::Died(report) => Some(report),
            Self::Interrupted => None,
        }
    }
}

impl Report {
    /// In one line, safe to show.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Answer { condition, summary, detail } = &self.answer;
        let mut aside = vec![];
        if self.attempts > 1 {
            aside.push(format!("attempt {}, {} s", self.attempts, self.elapsed.as_secs()));
        }
        let quote = Untrusted::new(detail.raw().trim()).terminal();
        if !quote.is_empty() {
            let what = if summary.starts_with("http ") { "body begins" } else { "it said" };
            aside.push(format!("{what}: {quote}"));
        } else if *condition == Condition::Failed && summary.starts_with("http ") && summary.contains(" answered ") {
            aside.push("the body is empty".to_owned());
        }
        if aside.is_empty() { summary.clone() } else { format!("{summary} ({})", aside.join("; ")) }
    }
}

impl Progress<'_> {
    /// In one line, safe to show: `round 3, 6 s: 2 of 3 passed: …`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let phase = match self.phase {
            Phase::Counting { passed, wanted } => format!("{passed} of {wanted} in a row"),
            Phase::Soaking { left } => format!("healthy, {} s of soak left", left.as_secs()),
        };
        format!("round {}, {} s: {phase}: {}", self.round, self.elapsed.as_secs(), self.answer.summary)
    }
}
