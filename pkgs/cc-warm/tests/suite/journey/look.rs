//! What is there after a step, and what was told, with as little help of cc-warm as there can be.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cc_warm::demo::sandbox::APP;
use serde_json::Value;

use super::act::end;
use super::model::{Now, Seen};
use super::world::World;

pub(super) fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

pub(super) fn read(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    values.into_iter().filter_map(text).collect()
}

impl World {
    pub(super) fn volume(&self, name: &str) -> PathBuf {
        self.fixture.sandbox.state_dir().join(format!("process/volumes/notes_example_org_{name}"))
    }

    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.volume(name).join("_data/notes")
    }

    pub(super) fn app(&self, file: &str) -> PathBuf {
        self.fixture.sandbox.state_dir().join("process/apps").join(APP).join(file)
    }

    /// Looks at everything, with as little help of cc-warm as there can be.
    pub(super) fn look(&mut self) -> Result<Seen> {
        let status = self.json(&["status"])?["apps"][0].clone();
        self.json(&["history", APP])?;
        let current = text(&status["knownGood"]["id"]);
        let mut previous = None;
        if current.is_some() {
            let (ran, verified) = end(self.start(&["verify", APP, "--json"], ""))?;
            ensure!(ran.code == Some(0), "the known-good is not whole: {}", ran.text);
            let verified = verified.context("`verify` prints no document")?;
            let snapshots = verified["apps"][0]["snapshots"].as_array().cloned().unwrap_or_default();
            previous = snapshots.iter().find(|one| one["role"] == "previous").and_then(|one| text(&one["id"]));
        }
        let (deployment, state) =
            (read(&self.app("deployment.json")), read(&self.fixture.app_dir().join("state.json")));
        let mut notes = lines(&self.data("data"));
        let format = if notes.is_empty() { String::new() } else { notes.remove(0) };
        let versions = |key: &str, at: &str| -> Vec<String> {
            texts(state[key].as_array().into_iter().flatten().map(|one| one.pointer(at).unwrap_or(&Value::Null)))
        };
        Ok(Seen {
            answers: self.fixture.answering(),
            deployed: text(&deployment["identity"]["version"]),
            generation: text(&deployment["generation"]),
            journal: self.fixture.journal(),
            format: format.trim_start_matches("format ").parse().unwrap_or(0),
            notes,
            copied: lines(&self.data("extra")),
            kept: self.failed_data(),
            refused: ["log", "log.1"]
                .iter()
                .any(|log| lines(&self.app(log)).iter().any(|l| l.contains("it refuses the data"))),
            last_good: text(&state["last_good"]["identity"]["version"]),
            rejected: versions("rejected", "/identity/version"),
            approved: versions("approved", "/version"),
            paused: !state["paused"].is_null(),
            resumed: state["resumed"] == true,
            current,
            previous,
        })
    }

    pub(super) fn failed_data(&self) -> Vec<Vec<String>> {
        let entries = std::fs::read_dir(self.volume("data")).into_iter().flatten().flatten();
        let failed = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".cc-warm-failed-"));
        failed.map(|entry| lines(&entry.path().join("notes")).into_iter().skip(1).collect()).collect()
    }

    /// The document that a command prints.
    pub(super) fn json(&mut self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let (ran, json) = end(self.start(&words, ""))?;
        json.with_context(|| format!("{words:?} prints no document: {}", ran.text))
    }

    pub(super) fn alerts(&self) -> Vec<Value> {
        let text = self.fixture.alerts();
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect()
    }

    /// What an operator has to know was told.
    pub(super) fn alerts_tell(&mut self, code: Option<i32>, told: usize) -> Result<()> {
        let alerts = self.alerts();
        let has = |alerts: &[Value], kind: &str| alerts.iter().any(|alert| alert["kind"] == kind);
        match code {
            Some(10) => ensure!(has(&alerts, "held"), "held, and not told"),
            Some(11) => ensure!(has(&alerts[told..], "rolled-back"), "rolled back, and not told"),
            _ => {}
        }
        if self.model.at.now == Now::Stuck {
            ensure!(has(&alerts, "stuck"), "stuck, and not told");
        }
        let status = self.json(&["status"])?["apps"][0].clone();
        if matches!(self.model.at.now, Now::Away | Now::Down | Now::Stuck | Now::Mended) {
            let hints = !status["hints"].as_array().is_none_or(Vec::is_empty);
            ensure!(status["ok"] == false && hints, "{:?}, and status says: {status}", self.model.at.now);
        }
        let mut once: Vec<String> = alerts
            .iter()
            .filter(|alert| ["rolled-back", "recovered", "released"].iter().any(|kind| alert["kind"] == *kind))
            .map(|alert| format!("{} {}", alert["kind"], alert["id"]))
            .collect();
        let count = once.len();
        if self.maybe_told_twice {
            return Ok(());
        }
        once.sort();
        once.dedup();
        ensure!(once.len() == count, "told twice: {alerts:#?}");
        Ok(())
    }
}
