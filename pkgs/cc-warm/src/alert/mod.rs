//! Alerts: on disk before they are sent, kept until delivered, told once per standing fact and then at the reminder
//! interval, and `resolved` when it is over.
//!
//! [`Outbox::raise`] puts an alert on disk; [`Outbox::deliver`] sends what is due to each sink. Delivery is at least
//! once: only a crash between a sink's answer and the note of it sends a message twice, with the same id.

pub mod command;
pub mod deliver;
pub mod kind;
pub mod message;
pub mod ntfy;
pub mod outbox;
pub mod record;
pub mod routes;
pub mod sink;
pub mod webhook;

use serde::{Deserialize, Serialize};

pub use self::deliver::{Delivery, Options};
pub use self::kind::{Kind, Nature, Severity};
pub use self::outbox::{Hearing, Outbox, Raised, Shown};
use crate::config::names::AppName;
use crate::sys::untrusted::Untrusted;

const TITLE_CAP: usize = 200;
const FACT_CAP: usize = 600;
const FACTS_CAP: usize = 24;
const NOTES_CAP: usize = 16 * 1024;

/// What the operator is to be told. It is shown escaped, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub kind: Kind,
    /// The app, if it is about one.
    pub app: Option<AppName>,
    /// What makes it another alert than the last of its kind: of an event, the operation's id, so that recovery can
    /// raise it again; of a standing fact, what it stands for (the version held).
    pub fingerprint: String,
    /// One line.
    pub title: Untrusted,
    /// What is known, in order.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// A longer text: release notes.
    #[serde(default)]
    pub notes: Option<Untrusted>,
    /// Commands to run.
    #[serde(default)]
    pub hints: Vec<Untrusted>,
}

/// One thing known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// What is known of it.
    pub value: Untrusted,
}

impl Alert {
    /// An alert about the whole host.
    pub fn new(kind: Kind, fingerprint: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            kind,
            app: None,
            fingerprint: fingerprint.into(),
            title: Untrusted::new(title),
            facts: Vec::new(),
            notes: None,
            hints: Vec::new(),
        }
    }

    /// Makes it one about `app`.
    #[must_use]
    pub fn app(mut self, app: &AppName) -> Self {
        self.app = Some(app.clone());
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push(Fact { label: label.into(), value: Untrusted::new(value) });
        self
    }

    /// Adds a longer text.
    #[must_use]
    pub fn notes(mut self, notes: Untrusted) -> Self {
        self.notes = Some(notes);
        self
    }

    /// Adds a command to run.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(Untrusted::new(hint));
        self
    }

    /// With every text cut to what a message may have; what is left out is counted in it.
    #[must_use]
    pub(crate) fn capped(mut self) -> Self {
        self.title = self.title.capped(TITLE_CAP);
        self.notes = self.notes.map(|notes| notes.capped(NOTES_CAP));
        let more = self.facts.len().saturating_sub(FACTS_CAP);
        self.facts.truncate(FACTS_CAP);
        for fact in &mut self.facts {
            Untrusted::new(fact.label.as_str()).capped(TITLE_CAP).raw().clone_into(&mut fact.label);
            fact.value = fact.value.capped(FACT_CAP);
        }
        if more > 0 {
            self = self.fact("left out", format!("{more} more facts"));
        }
        self.hints.truncate(FACTS_CAP);
        for hint in &mut self.hints {
            *hint = hint.capped(FACT_CAP);
        }
        self
    }
}
