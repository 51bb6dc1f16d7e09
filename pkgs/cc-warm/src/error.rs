//! Errors for a person at 3 a.m.: a sentence, numbered causes, `hint:` lines, and a kind that decides the exit code.

use std::fmt::{self, Write};
use std::process::ExitCode;

/// Why a command ended as it did; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed. Nothing was harmed, unless the error says that an operation was left unfinished.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The update is held for the operator.
    Held = 10,
    /// The update was rolled back.
    RolledBack = 11,
    /// The rollback failed in this run; the app is down.
    BecameStuck = 12,
    /// The app was stuck before this run.
    StuckAlready = 13,
    /// Docker, the swarm or a predecessor is not ready.
    NotReady = 14,
    /// A policy or a guard says no.
    Refused = 24,
    /// Somebody asked us to end, and nothing was under way.
    Cancelled = 25,
    /// Somebody else holds the lock.
    Busy = 30,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with a kind and advice. Make one with [`Problem::new`], wrap a cause with [`Because::problem`].
#[derive(Debug)]
pub struct Problem {
    message: String,
    exit: Exit,
    hints: Vec<String>,
    told: bool,
    source: Option<anyhow::Error>,
}

impl Problem {
    /// A failure that harmed nothing (exit code 1). `message` is a sentence without a full stop: what failed, on
    /// which app, what state it is in now.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Failed, hints: Vec::new(), told: false, source: None }
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Somebody asked the program to end, in time.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new("cancelled before anything began").exit(Exit::Cancelled)
    }

    /// Adds advice: the command to run next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// An alert tells of it already.
    #[must_use]
    pub fn told(mut self) -> Self {
        self.told = true;
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(AsRef::as_ref)
    }
}

/// Wraps the error of a result in a [`Problem`].
pub trait Because<T> {
    /// `problem()`, because of this error.
    fn problem(self, problem: impl FnOnce() -> Problem) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Because<T> for Result<T, E> {
    fn problem(self, problem: impl FnOnce() -> Problem) -> anyhow::Result<T> {
        self.map_err(|source| problem().because(source).into())
    }
}

/// The exit code of `error`: that of the outermost [`Problem`] in it, else 1.
#[must_use]
pub fn exit_of(error: &anyhow::Error) -> Exit {
    problems(error).next().map_or(Exit::Failed, |problem| problem.exit)
}

/// `error` as people read it: `error: …`, numbered causes, then hints.
#[must_use]
pub fn report(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for (number, cause) in error.chain().skip(1).enumerate() {
        let _ = writeln!(text, "  {}. {cause}", number + 1);
    }
    for hint in problems(error).flat_map(|problem| &problem.hints) {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// The advice in `error`.
#[must_use]
pub fn hints(error: &anyhow::Error) -> Vec<String> {
    problems(error).flat_map(|problem| problem.hints.clone()).collect()
}

/// Whether an alert tells of `error` already.
#[must_use]
pub fn is_told(error: &anyhow::Error) -> bool {
    problems(error).any(|problem| problem.told)
}

fn problems(error: &anyhow::Error) -> impl Iterator<Item = &Problem> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Problem>())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn reports_sentence_causes_and_hints_in_order() {
        let inner = Problem::new("the disk is full").hint("free some space").because(anyhow!("ENOSPC"));
        let outer: anyhow::Result<()> = Err(inner).context("cannot take a snapshot");
        let error = outer
            .problem(|| Problem::new("update of `login` failed").exit(Exit::NotReady).hint("try again"))
            .unwrap_err();
        assert_eq!(exit_of(&error), Exit::NotReady);
        assert_eq!(
            report(&error),
            "error: update of `login` failed\n  1. cannot take a snapshot\n  2. the disk is full\n  3. ENOSPC\nhint: try again\nhint: free some space\n"
        );
    }
}
