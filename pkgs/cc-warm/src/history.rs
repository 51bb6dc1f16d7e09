//! The history of an app (`history.jsonl`, format 1): one line an operation, oldest first, capped.

use std::fs;

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::names::AppName;
use crate::downtime::Parts;
use crate::identity::Identity;
use crate::sys::dirs::Dirs;
use crate::sys::durable;
use crate::sys::untrusted::Untrusted;

/// The format of a line.
const FORMAT: u32 = 1;
/// So many lines are kept; the file is cut down to them when it has twice as many.
const KEPT: usize = 500;

/// One operation that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Always 1.
    pub format: u32,
    /// The operation's id.
    pub operation: String,
    /// When it ended.
    pub at: Timestamp,
    /// What it was: `update`, `first-deploy`, `snapshot`, `restore`, `adopt`.
    pub kind: String,
    /// How it ended: `updated`, `rolled-back`, `stuck`, `released`, …
    pub outcome: String,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Identity>,
    /// What was to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Identity>,
    /// Why, where it did not go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// The snapshot taken or restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// For how long the app was down, in milliseconds, where one process saw all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
    /// On what that time went, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_parts: Option<Parts>,
}

impl Entry {
    /// A line about `operation`, without details.
    #[must_use]
    pub fn new(operation: &str, at: Timestamp, kind: &str, outcome: &str) -> Self {
        Self {
            format: FORMAT,
            operation: operation.to_owned(),
            at,
            kind: kind.to_owned(),
            outcome: outcome.to_owned(),
            from: None,
            to: None,
            reason: None,
            snapshot: None,
            downtime_ms: None,
            downtime_parts: None,
        }
    }
}

/// Adds `entry` to the history of `app`, once: a recovery may say it again.
pub fn add(dirs: &Dirs, app: &AppName, entry: &Entry) -> Result<()> {
    let path = dirs.app(app.as_str()).history();
    let known = read(dirs, app)?;
    if known.iter().rev().take(10).any(|e| e.operation == entry.operation && e.outcome == entry.outcome) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    // A line torn by a power cut must not swallow this one.
    if !durable::read(&path)?.unwrap_or_default().ends_with(b"\n") && path.exists() {
        line.insert(0, b'\n');
    }
    durable::append(&path, &line)?;
    if known.len() + 1 > 2 * KEPT {
        let text = fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        let kept: String = lines[lines.len() - KEPT..].iter().map(|line| format!("{line}\n")).collect();
        durable::replace(&path, kept.as_bytes())?;
    }
    Ok(())
}

/// The history of `app`, oldest first. It decides nothing, so a line that does not parse is passed over.
pub fn read(dirs: &Dirs, app: &AppName) -> Result<Vec<Entry>> {
    let bytes = durable::read(&dirs.app(app.as_str()).history())?.unwrap_or_default();
    Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_operation_once_survives_a_torn_line_and_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (dirs, app) = (Dirs::new(dir.path()), "login".parse::<AppName>().unwrap());
        durable::make_dir(dirs.app("login").root()).unwrap();
        let entry = |n: usize| Entry::new(&format!("op{n}"), Timestamp::UNIX_EPOCH, "update", "updated");
        add(&dirs, &app, &entry(0)).unwrap();
        add(&dirs, &app, &entry(0)).unwrap();
        assert_eq!(read(&dirs, &app).unwrap().len(), 1);
        durable::append(&dirs.app("login").history(), b"{\"torn").unwrap();
        add(&dirs, &app, &entry(1)).unwrap();
        assert_eq!(read(&dirs, &app).unwrap().len(), 2);
        let many: String = (0..=2 * KEPT).map(|n| serde_json::to_string(&entry(n)).unwrap() + "\n").collect();
        durable::replace(&dirs.app("login").history(), many.as_bytes()).unwrap();
        add(&dirs, &app, &entry(9999)).unwrap();
        let kept = read(&dirs, &app).unwrap();
        assert_eq!((kept.len(), kept.last().unwrap().operation.as_str()), (KEPT, "op9999"));
    }
}
