//! How the demo shows a step: what happens, the commands and what they print, and what was checked.

use std::time::Instant;

use anyhow::{Result, bail};

use super::sandbox::{APP, Sandbox};
use crate::sys::command::Output;
use crate::sys::out::show;
use crate::sys::untrusted::Untrusted;

/// A walk through the demo's steps.
#[derive(Debug)]
pub(super) struct Tour<'a> {
    /// Where it all happens.
    pub(super) sandbox: &'a Sandbox,
    began: Instant,
    steps: u32,
    checks: u32,
}

impl<'a> Tour<'a> {
    /// Begins the walk.
    pub(super) fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, began: Instant::now(), steps: 0, checks: 0 }
    }

    /// How many checks passed.
    pub(super) fn checks(&self) -> u32 {
        self.checks
    }

    /// Since when it lasts.
    pub(super) fn seconds(&self) -> f32 {
        self.began.elapsed().as_secs_f32()
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        show!("{}{}. {title}", if self.steps == 1 { "" } else { "\n" }, self.steps);
    }

    /// Says what happens.
    pub(super) fn say(text: &str) {
        show!("   {text}");
    }

    /// Runs cc-warm, shows what it prints, and checks what it exits with.
    pub(super) fn run(&mut self, words: &[&str], exit: i32) -> Result<String> {
        show!("   $ cc-warm {}", words.join(" "));
        let output = self.sandbox.run(words)?;
        let text = Self::show(&output);
        self.check(&format!("it exits with {exit}"), output.status.code() == Some(exit), &text)?;
        Ok(text)
    }

    fn show(output: &Output) -> String {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        for line in text.lines() {
            show!("     {}", Untrusted::new(line).terminal());
        }
        text
    }

    /// States what was checked; an error if it does not hold.
    pub(super) fn check(&mut self, claim: &str, holds: bool, evidence: &str) -> Result<()> {
        if !holds {
            show!("   FAILED: {claim}");
            bail!("the demo failed: {claim}\n{evidence}");
        }
        show!("   ✓ {claim}");
        self.checks += 1;
        Ok(())
    }

    /// Checks which version answers.
    pub(super) fn check_runs(&mut self, version: &str) -> Result<()> {
        let (status, body) = self.sandbox.get("/health")?;
        self.check(&format!("{version} answers"), status == 200 && body.trim() == format!("ok {version}"), &body)
    }

    /// Checks that exactly these notes are there.
    pub(super) fn check_notes(&mut self, wanted: &[&str]) -> Result<()> {
        let notes = self.sandbox.notes()?;
        self.check(&format!("all {} notes are there", wanted.len()), notes == wanted, &notes.join("\n"))
    }

    /// What the alerts' sink has got so far.
    pub(super) fn alerts(&self) -> String {
        std::fs::read_to_string(self.sandbox.dir().join("alerts.jsonl")).unwrap_or_default()
    }

    /// Checks that an alert of this kind was delivered, with these words in it.
    pub(super) fn check_alert(&mut self, kind: &str, words: &str) -> Result<()> {
        let alerts = self.alerts();
        let found = alerts.lines().any(|line| line.contains(&format!("\"{kind}\"")) && line.contains(words));
        self.check(&format!("the operator got an alert `{kind}` that says \"{words}\""), found, &alerts)
    }

    /// The journal of the app, as text; empty if there is none.
    pub(super) fn journal(&self) -> String {
        std::fs::read_to_string(self.sandbox.state_dir().join("apps").join(APP).join("journal.jsonl"))
            .unwrap_or_default()
    }
}
