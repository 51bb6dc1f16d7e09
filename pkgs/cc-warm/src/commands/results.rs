//! What commands that act on apps print: a line or a few an app as they come, or one JSON document at the end.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::session::print_json;
use crate::config::names::AppName;
use crate::deployer;
use crate::error::{self, Exit};
use crate::sys::notify;
use crate::sys::out::{say, show};
use crate::update::outcome::Outcome;

/// What became of each app.
#[derive(Debug)]
pub struct Results {
    json: bool,
    rows: Vec<Value>,
    worst: Exit,
}

/// What became of one app, where that is no [`Outcome`] of an operation.
#[derive(Debug, Clone)]
pub struct Done {
    word: &'static str,
    sentence: String,
    hint: Option<String>,
    more: Map<String, Value>,
}

impl Done {
    /// `word` is for programs, `sentence` for people.
    #[must_use]
    pub fn new(word: &'static str, sentence: impl Into<String>) -> Self {
        Self { word, sentence: sentence.into(), hint: None, more: Map::new() }
    }

    /// The command to run next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Something that programs want to know, too.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }
}

impl Results {
    /// None yet.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), worst: Exit::Done }
    }

    /// An operation on `app` ended.
    pub fn outcome(&mut self, app: &AppName, outcome: &Outcome) -> Result<()> {
        self.outcome_for(app, outcome, outcome.exit())
    }

    /// The same, of a command for which that is `exit`.
    pub fn outcome_for(&mut self, app: &AppName, outcome: &Outcome, exit: Exit) -> Result<()> {
        notify::status(&format!("{app}: {}", outcome.describe()));
        self.line(app, &outcome.describe(), outcome.hint(app.as_str()).as_deref());
        self.row(app, exit, serde_json::to_value(outcome)?);
        Ok(())
    }

    /// Something was done about `app`.
    pub fn done(&mut self, app: &AppName, done: Done) {
        self.line(app, &done.sentence, done.hint.as_deref());
        let mut more = done.more;
        more.insert("outcome".to_owned(), done.word.into());
        self.row(app, Exit::Done, Value::Object(more));
    }

    /// A command failed on `app`; others may go on.
    pub fn error(&mut self, app: &AppName, error: anyhow::Error) {
        let error = deployer::classified(error);
        notify::status(&format!("{app}: {error}"));
        if !self.json {
            say!("{app}: {}", error::report(&error).trim_end());
        }
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let fields = json!({ "error": error.to_string(), "causes": causes, "hints": error::hints(&error) });
        self.row(app, error::exit_of(&error), fields);
    }

    /// Asked to end: no more apps.
    pub fn cancelled(&mut self) {
        self.worst = worse(self.worst, Exit::Cancelled);
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether results are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Shows what has not been shown yet, and gives the exit code that matters most.
    pub fn finish(self) -> Result<Exit> {
        if self.json {
            print_json(&Document { format: 1, apps: self.rows })?;
        }
        Ok(self.worst)
    }

    fn line(&self, app: &AppName, sentence: &str, hint: Option<&str>) {
        if self.json {
            return;
        }
        show!("{app}: {sentence}");
        if let Some(hint) = hint {
            show!("  hint: {hint}");
        }
    }

    fn row(&mut self, app: &AppName, exit: Exit, fields: Value) {
        let mut row = Map::new();
        row.insert("app".to_owned(), app.as_str().into());
        row.insert("exit".to_owned(), (exit as u8).into());
        if let Value::Object(fields) = fields {
            row.extend(fields);
        }
        self.rows.push(Value::Object(row));
        self.worst = worse(self.worst, exit);
    }
}

#[derive(Serialize)]
struct Document {
    format: u32,
    apps: Vec<Value>,
}

/// The exit code that matters more to whoever reads only one.
pub(super) fn worse(a: Exit, b: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Held => 1,
        Exit::Cancelled => 2,
        Exit::Busy => 3,
        Exit::NotReady => 4,
        Exit::Refused => 5,
        Exit::Failed => 6,
        Exit::Usage => 7,
        Exit::StuckAlready => 8,
        Exit::RolledBack => 9,
        Exit::BecameStuck => 10,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_app_outweighs_everything() {
        for exit in [Exit::Done, Exit::Held, Exit::RolledBack, Exit::Failed, Exit::StuckAlready] {
            assert_eq!(worse(exit, Exit::BecameStuck), Exit::BecameStuck);
            assert_eq!(worse(Exit::BecameStuck, exit), Exit::BecameStuck);
            assert_eq!(worse(Exit::Done, exit), exit);
        }
    }
}
