//! What a sink gets: one alert, or a digest of several. This is the JSON that webhooks and commands read (format 1);
//! it only grows.
//!
//! ```json
//! {
//!   "format": 1,
//!   "id": "login.held.0123456789abcdef.1788393600.1",
//!   "host": "warm1", "app": "login", "kind": "held", "severity": "notice",
//!   "title": "login: update to 2.0.0+26.0 is held",
//!   "facts": [{ "label": "reason", "value": "a major step" }],
//!   "notes": "…", "hints": ["cc-warm approve login 2.0.0+26.0"],
//!   "first_at": "2026-09-02T00:00:00Z", "at": "2026-09-02T00:00:00Z",
//!   "resolved": false, "repeats": 0,
//!   "text": "…"
//! }
//! ```
//! - `id` is the same when a message comes twice, and never the same otherwise.
//! - `app` is null for an alert about the host; `notes` is null if there are none.
//! - `repeats` counts reminders; `resolved` says that what was told before is over.
//! - `text` is all of it as plain text, with invisible characters made visible. Every string may hold foreign text:
//!   whoever renders it as HTML or Markdown must escape it.
//!
//! More than three alerts at once come as a digest: `{"format": 1, "id", "host", "digest": true, "count", "title",
//! "severity", "alerts": […], "text"}`, with the alerts as above but for `notes` and `text`.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::record::{Record, Says};
use super::{Fact, Kind, Severity};
use crate::sys::untrusted::Untrusted;

/// Most alerts in a digest.
pub const DIGEST_CAP: usize = 50;

/// What a sink gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Message {
    /// One alert.
    One(Box<One>),
    /// Several.
    Digest(Digest),
}

/// One alert, as a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "documented with the format")]
pub struct One {
    pub format: u32,
    pub id: String,
    pub host: String,
    pub app: Option<String>,
    pub kind: Kind,
    pub severity: Severity,
    pub title: Untrusted,
    pub facts: Vec<Fact>,
    #[serde(skip_serializing_if = "is_left_out")]
    pub notes: Notes,
    pub hints: Vec<Untrusted>,
    pub first_at: Timestamp,
    pub at: Timestamp,
    pub resolved: bool,
    pub repeats: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Notes, or their absence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Notes {
    /// As they are.
    Whole(Option<Untrusted>),
    /// A digest has none.
    LeftOut,
}

/// Several alerts, as a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "documented with the format")]
pub struct Digest {
    pub format: u32,
    pub id: String,
    pub host: String,
    pub digest: bool,
    pub count: usize,
    pub title: String,
    pub severity: Severity,
    pub alerts: Vec<One>,
    pub text: String,
}

fn is_left_out(notes: &Notes) -> bool {
    *notes == Notes::LeftOut
}

impl Message {
    /// The last message of `record`.
    #[must_use]
    pub fn one(record: &Record) -> Self {
        let mut one = One::of(record);
        one.text = Some(one.plain());
        Self::One(Box::new(one))
    }

    /// One message for the last ones of `records`, at most [`DIGEST_CAP`], at least one.
    #[must_use]
    pub fn digest(records: &[&Record]) -> Self {
        let alerts: Vec<One> = records.iter().map(|record| One { notes: Notes::LeftOut, ..One::of(record) }).collect();
        let host = alerts.first().map(|one| one.host.clone()).unwrap_or_default();
        let severity = alerts.iter().map(One::urgency).max().unwrap_or(Severity::Notice);
        let title = format!("{} alerts", alerts.len());
        let mut text = String::new();
        for one in &alerts {
            let _ = writeln!(text, "{}\n", one.plain());
        }
        // The same alerts make the same id, so that a digest that comes twice can be told.
        let mut hasher = blake3::Hasher::new();
        for one in &alerts {
            hasher.update(one.id.as_bytes()).update(b"\n");
        }
        let id = format!("digest.{}", &hasher.finalize().to_hex()[..16]);
        Self::Digest(Digest { format: 1, id, host, digest: true, count: alerts.len(), title, severity, alerts, text })
    }

    /// What tells it from every other message; safe in a header.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::One(one) => &one.id,
            Self::Digest(digest) => &digest.id,
        }
    }

    /// One line for people, escaped: `[host] …`.
    #[must_use]
    pub fn title(&self) -> String {
        let (host, title) = match self {
            Self::One(one) => (&one.host, one.headline()),
            Self::Digest(digest) => (&digest.host, digest.title.clone()),
        };
        format!("[{}] {title}", Untrusted::new(host.as_str()).terminal())
    }

    /// All of it as plain text, escaped.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::One(one) => one.text.as_deref().unwrap_or_default(),
            Self::Digest(digest) => &digest.text,
        }
    }

    /// How urgent it is; that something is over is a notice.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::One(one) => one.urgency(),
            Self::Digest(digest) => digest.severity,
        }
    }

    /// Whether it says that something is over.
    #[must_use]
    pub fn resolved(&self) -> bool {
        matches!(self, Self::One(one) if one.resolved)
    }
}

impl One {
    fn of(record: &Record) -> Self {
        let alert = &record.alert;
        let mut facts = alert.facts.clone();
        if record.dropped > 0 {
            facts.push(Fact { label: "dropped".to_owned(), value: Untrusted::new(record.dropped.to_string()) });
        }
        Self {
            format: 1,
            id: format!("{}.{}.{}", record.id, record.first_at.as_second(), record.number),
            host: record.host.clone(),
            app: alert.app.as_ref().map(ToString::to_string),
            kind: alert.kind,
            severity: alert.kind.doc().severity,
            title: alert.title.clone(),
            facts,
            notes: Notes::Whole(alert.notes.clone()),
            hints: alert.hints.clone(),
            first_at: record.first_at,
            at: record.at,
            resolved: record.says == Says::Resolved,
            repeats: record.repeats,
            text: None,
        }
    }

    fn urgency(&self) -> Severity {
        if self.resolved { Severity::Notice } else { self.severity }
    }

    fn headline(&self) -> String {
        let title = self.title.terminal();
        if self.resolved {
            format!("resolved: {title}")
        } else if self.repeats > 0 {
            format!("still: {title}")
        } else {
            title
        }
    }

    fn plain(&self) -> String {
        let mut text = format!("{} ({}, {})\n", self.headline(), self.kind, self.severity);
        if self.resolved || self.repeats > 0 {
            let _ = writeln!(text, "since: {}", self.first_at);
        }
        if !self.resolved {
            for Fact { label, value } in &self.facts {
                let value = value.terminal_lines().replace('\n', "\n    ");
                let _ = writeln!(text, "{}: {value}", Untrusted::new(label.as_str()).terminal());
            }
            if let Notes::Whole(Some(notes)) = &self.notes {
                let _ = writeln!(text, "notes:\n    {}", notes.terminal_lines().trim_end().replace('\n', "\n    "));
            }
            for hint in &self.hints {
                let _ = writeln!(text, "hint: {}", hint.terminal());
            }
        }
        text.trim_end().to_owned()
    }
}
