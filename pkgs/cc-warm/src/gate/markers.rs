//! Phrases in release notes that mean work for the operator.

/// Regular expressions, case-insensitive, that hold an update by default.
pub const DEFAULT: &[&str] = &["manual migration", "manual step", "breaking change", "action required"];
