//! How much a tree holds.

use std::path::Path;

use anyhow::Result;

use crate::sys::command::Program;

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) bytes: u64,
}

/// Of the tree `path`.
pub(super) fn tree(path: &Path) -> Result<Totals> {
    let used = Program::new("du").args(["-s", "-B1", "--"]).arg(path).run_ok()?;
    let text = String::from_utf8_lossy(&used.stdout).into_owned();
    Ok(Totals { bytes: text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0) })
}
