//! Why a recipe could not be had from its remote.

use std::fmt;

use crate::sys::command::CommandError;
use crate::sys::untrusted::Untrusted;

/// A failed question to a remote, or a failed fetch. The mirror is as it was, and usable if it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the recipe's remote `{remote}` {kind}{}", tail(words))]
pub struct FetchError {
    /// The remote, without user and password.
    pub remote: String,
    /// What went wrong.
    pub kind: FetchErrorKind,
    /// The end of what git and the remote said.
    pub words: Untrusted,
}

/// What went wrong with a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// No https, ssh or absolute path: it was not even asked.
    Unsupported,
    /// Nothing is there.
    Gone,
    /// It does not let us in.
    Denied,
    /// The host cannot be reached.
    Unreachable,
    /// It hung, and was left.
    TimedOut,
    /// What it sent is no recipe, or is damaged.
    Nonsense,
    /// Another process holds the mirror, for longer than we may wait.
    Busy,
    /// This machine's fault: git missing, disk full.
    Local,
    /// We were asked to end.
    Asked,
    /// git failed in a way that its words have to explain.
    Other,
}

impl fmt::Display for FetchErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "is not supported (an absolute path, https://, ssh:// or file:/// are)",
            Self::Gone => "is not there",
            Self::Denied => "does not let us in",
            Self::Unreachable => "cannot be reached",
            Self::TimedOut => "did not answer in time",
            Self::Nonsense => "sent what is no recipe",
            Self::Busy => "is being fetched by another process",
            Self::Local => "could not be fetched, for a reason on this machine",
            Self::Asked => "was left, for cc-warm was asked to end",
            Self::Other => "could not be fetched",
        })
    }
}

fn tail(words: &Untrusted) -> String {
    let lines: Vec<String> = words
        .terminal_lines()
        .lines()
        .map(|line| line.trim().to_owned())
        // What git adds to every failure says nothing.
        .filter(|line| {
            !line.is_empty() && !line.starts_with("Please make sure") && line != "and the repository exists."
        })
        .collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" / ");
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

impl FetchError {
    /// With words of ours.
    pub(super) fn new(remote: &str, kind: FetchErrorKind, words: impl Into<String>) -> Self {
        Self { remote: shown(remote), kind, words: Untrusted::new(without_password(remote, &words.into())) }
    }

    /// From a call of git that asked `remote` or fetched from it.
    pub(super) fn from_git(remote: &str, error: &CommandError) -> Self {
        match error {
            CommandError::TimedOut { deadline, .. } => {
                Self::new(remote, FetchErrorKind::TimedOut, format!("given up after {} s", deadline.as_secs()))
            }
            CommandError::Asked { .. } => Self::new(remote, FetchErrorKind::Asked, ""),
            CommandError::Failed { stderr, .. } => Self::new(remote, classify(stderr.raw()), stderr.raw()),
            CommandError::Start { .. } | CommandError::Io { .. } => {
                Self::new(remote, FetchErrorKind::Local, format!("{:#}", anyhow::anyhow!(error.to_string())))
            }
        }
    }
}

/// By git's words (in the locale C). Only what is said depends on it, never what is done.
fn classify(stderr: &str) -> FetchErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    if says(&[
        "No space left",
        "Disk quota",
        "Read-only file system",
        "insufficient permission for adding",
        "unable to create",
    ]) {
        FetchErrorKind::Local
    } else if says(&["not allowed"]) {
        FetchErrorKind::Unsupported
    } else if says(&["Operation too slow", "timed out", "Timeout"]) {
        FetchErrorKind::TimedOut
    } else if says(&[
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "Permission denied",
        "Host key verification failed",
        "returned error: 401",
        "returned error: 403",
        "dubious ownership",
        "certificate",
    ]) {
        FetchErrorKind::Denied
    } else if says(&[
        "Could not resolve",
        "Connection refused",
        "Network is unreachable",
        "No route to host",
        "Failed to connect",
    ]) {
        FetchErrorKind::Unreachable
    } else if says(&[
        "fsck error",
        "index-pack",
        "invalid index-pack",
        "bad object",
        "early EOF",
        "unexpected disconnect",
        "did not send all necessary objects",
        "mismatched algorithms",
        "protocol error",
    ]) {
        FetchErrorKind::Nonsense
    } else if says(&["does not appear to be a git repository", "does not exist", "not found", "returned error: 404"]) {
        FetchErrorKind::Gone
    } else {
        FetchErrorKind::Other
    }
}

/// `remote` as people may see it: without user and password.
#[must_use]
pub fn shown(remote: &str) -> String {
    match credentials(remote) {
        Some(secret) => Untrusted::new(remote.replacen(&format!("{secret}@"), "", 1)).terminal(),
        None => Untrusted::new(remote).terminal(),
    }
}

fn without_password(remote: &str, words: &str) -> String {
    match credentials(remote).and_then(|secret| secret.split_once(':')).filter(|(_, password)| !password.is_empty()) {
        Some((_, password)) => words.replace(password, "…"),
        None => words.to_owned(),
    }
}

/// What stands before `@` in `scheme://user:password@host/…`.
fn credentials(remote: &str) -> Option<&str> {
    let (_, rest) = remote.split_once("://")?;
    let host = rest.split('/').next()?;
    host.rsplit_once('@').map(|(secret, _)| secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_a_password() {
        let remote = "https://bot:hunter2@git.example.org/r.git";
        let error =
            FetchError::new(remote, FetchErrorKind::Gone, "unable to access 'https://bot:hunter2@git.example.org'");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("https://git.example.org/r.git"), "{error}");
        assert_eq!(shown("ssh://git@h/r"), "ssh://h/r");
        assert_eq!(shown("/a@b/r"), "/a@b/r");
    }

    #[test]
    fn the_remotes_words_cannot_reach_the_terminal_raw() {
        let error = FetchError::new("https://h/r", FetchErrorKind::Other, "remote: \u{1b}[2Jok\nfatal: x");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}
