//! What users see: commands run at a time that stands still, with what differs from run to run replaced by its name.

use std::fmt::Write;

use cc_warm::demo::maker::{Behaviour, Release};
use cc_warm::demo::sandbox::APP;
use cc_warm::sys::command::Program;
use serde_json::Value;

use crate::fixture::Fixture;

/// When all of it happens: a Friday, in the night.
pub(crate) const NOW: &str = "2026-03-06T03:40:00Z";

/// A sandbox, and the operator's terminal in it.
pub(crate) struct Screen {
    pub(crate) fixture: Fixture,
    now: String,
}

/// What is different in each run, and its name.
const FILTERS: [(&str, &str); 15] = [
    (r"/[^ `'\x22\n]*/cc-warm-sandbox-[A-Za-z0-9]+", "$SANDBOX"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"commit [0-9a-f]{10,40}\b", "commit COMMIT"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"down for [\d.]+ (?:m?s|min)(?: \([a-z0-9., ]+\))?", "down for N s"),
    (r"\(down [^)]*\)", "(down N s)"),
    (r", \d+ deaths in all", ""),
    (r" \(attempt \d+, \d+ s\)", ""),
    (r"attempt \d+, \d+ s; ", ""),
    (r"process \d+", "process PID"),
    (r"\b[0-9a-f]{32}\b", "DIGEST"),
    (r"\x22(downtimeMs|downtime_ms)\x22: \d+", "\"downtime\": N"),
    (r"\x22(?:downtimeParts|downtime_parts)\x22: \{[^}]*\}", "\"downtimeParts\": PARTS"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
];

impl Screen {
    /// A sandbox in which nothing is deployed yet.
    pub(crate) fn empty() -> Self {
        Self { fixture: Fixture::empty(), now: NOW.to_owned() }
    }

    /// A sandbox in which `1.0.0+1` runs.
    pub(crate) fn running() -> Self {
        let mut screen = Self::empty();
        screen.fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
        screen.program(&["update"]).run().unwrap();
        screen
    }

    /// From now on, it is `now`.
    pub(crate) fn at(&mut self, now: &str) -> &mut Self {
        now.clone_into(&mut self.now);
        self
    }

    /// A version with a note.
    pub(crate) fn publish_with_note(&self, version: &str, format: u32, note: &str) {
        let release = Release { version, format, behaviour: Behaviour::Healthy, note: Some(note) };
        self.fixture.sandbox.maker.publish(&release).unwrap();
    }

    pub(crate) fn program(&mut self, words: &[&str]) -> Program {
        self.fixture.sandbox.cc_warm(words).env("CC_WARM_NOW", &self.now).env("TZ", "UTC")
    }

    /// What a terminal shows of `cc-warm <words>`: the command, stderr, stdout, and the exit code if it is not 0.
    pub(crate) fn shows(&mut self, words: &[&str]) -> String {
        self.shows_with(words, |program| program)
    }

    /// Likewise, with `change`d surroundings.
    pub(crate) fn shows_with(&mut self, words: &[&str], change: impl FnOnce(Program) -> Program) -> String {
        let output = change(self.program(words)).run().unwrap();
        let mut text = format!("$ cc-warm {}\n", words.join(" "));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let _ = writeln!(text, "| {line}");
        }
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        match output.status.code() {
            Some(0) => {}
            code => {
                writeln!(text, "[exit {}]", code.map_or("by a signal".to_owned(), |code| code.to_string())).unwrap();
            }
        }
        self.named(&text)
    }

    /// `text`, with what is different in each run replaced by its name.
    pub(crate) fn named(&self, text: &str) -> String {
        let mut text = text.replace(&*self.fixture.sandbox.dir().to_string_lossy(), "$SANDBOX");
        for (pattern, name) in FILTERS {
            text = regex(pattern).replace_all(&text, regex_literal(name)).into_owned();
        }
        text
    }

    /// The document of `cc-warm <words> --json`, checked to be all that stdout holds.
    pub(crate) fn document(&mut self, words: &[&str]) -> String {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = self.program(&words).run().unwrap();
        let document: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
        let text = format!("$ cc-warm {}\n{document:#}\n", words.join(" "));
        self.named(&text)
    }

    /// The alerts that were delivered since the last time, as the operator reads them.
    pub(crate) fn alerts(&mut self) -> String {
        let path = self.fixture.sandbox.dir().join("alerts.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        let messages: Vec<String> = serde_json::Deserializer::from_str(&text)
            .into_iter::<Value>()
            .map(|message| message.unwrap()["text"].as_str().unwrap().to_owned())
            .collect();
        self.named(&messages.join("\n\n"))
    }
}

fn regex(pattern: &str) -> regex::Regex {
    regex::Regex::new(pattern).unwrap()
}

fn regex_literal(text: &str) -> regex::NoExpand<'_> {
    regex::NoExpand(text)
}

/// The name of the app in every sandbox.
pub(crate) const NOTES: &str = APP;
