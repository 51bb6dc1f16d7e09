//! What a journey's steps do to the sandbox: the maintainer's, the users', the operator's, and cc-warm's commands with what
//! comes in between.

use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use cc_warm::sys::clock::Deadline;
use cc_warm::sys::command::Output;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::look::{lines, read};
use super::model::{End, Now, Published};
use super::world::World;
use super::{Action, Command, Fault, Then, Trouble};
use crate::fixture::Ran;
use crate::signals::halts;

/// A command that ended, and what came in between.
pub(super) struct Ended {
    pub(super) ran: Ran,
    pub(super) json: Option<Value>,
    /// The point at which a fault was.
    pub(super) point: Option<String>,
    /// Whether it fails there, on the way back, so that trying again does not help.
    pub(super) may_be_stuck: bool,
    /// What was on disk when a user wrote a note in the middle, with that.
    pub(super) written: Option<(String, Vec<String>)>,
}

pub(super) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

impl World {
    pub(super) fn publish(&self) -> Result<()> {
        let (maker, one) = (&self.fixture.sandbox.maker, self.model.highest());
        let behaviour = match one.behaviour {
            Behaviour::Healthy => "healthy",
            Behaviour::Broken => "broken",
            Behaviour::Dies => "dies",
        };
        let (version, format) = (&one.version, one.format);
        let process = format!(
            "web: ${{CC_WARM_PROGRAM}} demo-app --release {version} --format {format} --behaviour {behaviour}\n"
        );
        maker.write("Procfile", &process)?;
        maker.write("Volumes", "data: DATA_DIR\nextra: EXTRA_DIR\n")?;
        maker.write(".env.sample", "PORT=\nCC_WARM_PROGRAM=\n")?;
        if one.asks {
            maker.write(&format!("release/{version}"), "Manual migration: rebuild the index.\n")?;
        }
        maker.git(&["add", "--all"])?;
        maker.git(&["commit", "--quiet", "--message", version])?;
        maker.git(&["tag", "--annotate", "--message", "release", version])
    }

    /// A user writes a note, if the app is up.
    pub(super) fn write(&mut self) -> Result<()> {
        if self.model.at.now == Now::Up {
            let note = self.write_note()?;
            self.model.at.notes.push(note);
            self.seen = self.look()?;
        }
        Ok(())
    }

    pub(super) fn write_note(&mut self) -> Result<String> {
        self.written += 1;
        let note = format!("note {}", self.written);
        self.fixture.sandbox.write_note(&note)?;
        let mut copied = lines(&self.data("extra"));
        copied.push(note.clone());
        std::fs::write(self.data("extra"), copied.join("\n") + "\n")?;
        Ok(note)
    }

    pub(super) fn kill_app(&mut self) -> Result<()> {
        let supervisor = read(&self.app("status.json"))["supervisor"]["pid"].as_i64();
        if let (Now::Up, Some(pid)) = (self.model.at.now, supervisor) {
            let pid = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
            kill_process(pid, Signal::KILL)?;
            let deadline = Deadline::after(Duration::from_secs(20));
            while self.fixture.sandbox.get("/health").is_ok() {
                ensure!(!deadline.is_over(), "the app outlives who keeps it");
                std::thread::sleep(Duration::from_millis(5));
            }
            self.model.at.now = Now::Down;
            self.seen = self.look()?;
        }
        Ok(())
    }

    /// The hand is cc-warm's own: what it wrote down of that is put back.
    pub(super) fn deploy_by_hand(&mut self) -> Result<()> {
        let fits = |one: &&Published| one.behaviour == Behaviour::Healthy && one.format >= self.seen.format;
        let Some(one) = self.model.published.iter().rfind(fits).cloned() else { return Ok(()) };
        if self.model.at.now == Now::Parted {
            return Ok(());
        }
        let (app, dir) = (self.fixture.app_dir(), self.fixture.sandbox.dir().join("by-hand"));
        let outbox = self.fixture.sandbox.state_dir().join("outbox");
        let copy = |words: &[&str], from: &Path, to: &Path| -> Result<()> {
            ensure!(
                Process::new("cp").args(words).arg(from).arg(to).status()?.success(),
                "cannot copy {}",
                from.display()
            );
            Ok(())
        };
        std::fs::create_dir(&dir)?;
        copy(&["--archive"], &app, &dir.join("app"))?;
        copy(&["--archive"], &self.app("releases"), &dir.join("releases"))?;
        std::fs::rename(&outbox, dir.join("outbox"))?;
        std::fs::remove_file(app.join("journal.jsonl")).ok();
        std::fs::write(app.join("state.json"), r#"{ "format": 1, "first_tried": "0.0.0+0" }"#)?;
        self.perform(&["undeploy", APP, "--json"], Trouble::None)?.ran.expect(0);
        self.fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ "pin": one.version }))?;
        self.perform(&["update", APP, "--json"], Trouble::None)?.ran.expect(0);
        self.fixture.configure_deadline("6s");
        for file in ["state.json", "history.jsonl", "journal.jsonl"] {
            std::fs::remove_file(app.join(file)).ok();
        }
        std::fs::remove_dir_all(dir.join("app/snapshots")).ok();
        copy(&["--archive", "--no-target-directory"], &dir.join("app"), &app)?;
        copy(&["--archive", "--no-target-directory"], &dir.join("releases"), &self.app("releases"))?;
        std::fs::remove_dir_all(&outbox)?;
        std::fs::rename(dir.join("outbox"), &outbox)?;
        std::fs::remove_dir_all(&dir)?;
        let is_stuck = matches!(self.model.at.now, Now::Stuck | Now::Mended);
        self.seen = self.look()?;
        self.model.at = End {
            now: if is_stuck { Now::Mended } else { Now::Up },
            version: self.model.index(&one.version).context("an unknown version")?,
            // Of an app that was stuck, whatever its operator found.
            notes: self.seen.notes.clone(),
        };
        self.model.by_hand = self.seen.last_good.as_ref() != Some(&one.version);
        Ok(())
    }

    pub(super) fn start(&self, words: &[&str], faults: &str) -> Child {
        let sandbox = &self.fixture.sandbox;
        let hours = jiff::SignedDuration::from_hours(24 * self.model.day);
        let now = sandbox.dir().join("now");
        std::fs::write(&now, (jiff::Timestamp::now() + hours).to_string()).unwrap();
        std::fs::remove_file(sandbox.dir().join("trace")).ok();
        let mut process = Process::new(sandbox.program());
        process.arg("--config").arg(sandbox.config()).args(words);
        process.env("CC_WARM_NOW_FILE", now).env("CC_WARM_PATIENCE_MS", "1000").env("CC_WARM_FAULT", faults);
        if !faults.is_empty() {
            process.env("CC_WARM_FAULT_TRACE", sandbox.dir().join("trace"));
        }
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(super) fn words(&self, command: Command) -> Vec<String> {
        let words: &[&str] = match command {
            Command::Update => &["update", APP],
            Command::Snapshot => &["snapshot", APP],
            Command::Restore { previous: false } => &["restore", APP, "--yes"],
            Command::Restore { previous: true } => &["restore", APP, "--yes", "--previous"],
            Command::Retry => &["retry", APP],
            Command::Pause => &["pause", APP],
            Command::Resume => &["resume", APP],
            Command::Undeploy => &["undeploy", APP],
            Command::Approve => &["approve", APP, &self.model.highest().version],
            Command::Adopt => &["adopt", APP],
            Command::Recover => &["recover", APP],
        };
        words.iter().chain(&["--json"]).map(ToString::to_string).collect()
    }

    /// Runs cc-warm, with what comes in between.
    pub(super) fn perform(&mut self, words: &[&str], trouble: Trouble) -> Result<Ended> {
        let (fault, is_stop) = match trouble {
            Trouble::None => (None, false),
            Trouble::Written { point, .. } => (Some(Fault { points: point, nth: Some(1), action: Action::Kill }), true),
            Trouble::Fault { fault, .. } => {
                (Some(fault), matches!(fault.action, Action::Terminate | Action::Interrupt))
            }
        };
        let rule = fault.map_or(String::new(), |fault| fault.rule(is_stop));
        let mut child = self.start(words, &rule);
        let mut written = None;
        if is_stop && halts(&mut child) {
            match trouble {
                Trouble::Written { then, .. } => {
                    written = self.write_in_between()?;
                    match then {
                        Then::GoesOn => {}
                        Then::IsKilled => signal(&child, Signal::KILL),
                        Then::IsAskedToEnd => signal(&child, Signal::TERM),
                    }
                }
                Trouble::Fault { fault: Fault { action: Action::Interrupt, .. }, .. } => signal(&child, Signal::INT),
                _ => signal(&child, Signal::TERM),
            }
            signal(&child, Signal::CONT);
        }
        let (ran, json) = end(child)?;
        self.said.push(format!("{words:?} {rule}: {:?}\n{}", ran.code, ran.text));
        ensure!(!ran.text.contains("panicked"), "it panicked");
        let trace = lines(&self.fixture.sandbox.dir().join("trace"));
        self.maybe_told_twice |= trace.iter().any(|point| point == "outbox.sent");
        let (point, on_the_way_back) = fault.and_then(|fault| self.met(fault)).unzip();
        let fails = fault.is_some_and(|fault| [Action::Fail, Action::NoSpace, Action::BadDisk].contains(&fault.action));
        let is_over = point.as_deref().is_some_and(|point| {
            // What is tried twice does not fail for good by one fault, nor is the journal a fact about the app.
            let is_twice = ["act.redeploy", "act.deploy", "act.health"].iter().any(|twice| point.starts_with(twice));
            !(point.starts_with("journal.") || is_twice && fault.is_some_and(|fault| fault.nth.is_some()))
        });
        let may_be_stuck = fails && is_over && (on_the_way_back == Some(true) || words[0] == "recover");
        if fails && fault.is_some_and(|fault| fault.action == Action::NoSpace) && point.is_some() {
            // Room is made for the way back.
            self.model.kept.clear();
        }
        Ok(Ended { ran, json, point, may_be_stuck, written })
    }

    /// At which point `fault` was, if it was reached, and whether the way back had begun by then.
    pub(super) fn met(&self, fault: Fault) -> Option<(String, bool)> {
        let trace = lines(&self.fixture.sandbox.dir().join("trace"));
        let mut met = trace.iter().enumerate().filter(|(_, name)| name.starts_with(fault.points));
        let (index, name) = match fault.nth {
            Some(nth) => met.nth(nth as usize - 1)?,
            None => met.next_back()?,
        };
        let back = ["journal.rolling-back.before", "journal.restoring.before", "journal.redeploying.before"];
        Some((name.clone(), trace[..index].iter().any(|name| back.contains(&name.as_str()))))
    }

    /// A user writes while cc-warm halts, if the app that runs then takes it.
    pub(super) fn write_in_between(&mut self) -> Result<Option<(String, Vec<String>)>> {
        let version = read(&self.app("deployment.json"))["identity"]["version"].as_str().unwrap_or_default().to_owned();
        let is_healthy = |one: &&Published| one.version == version && one.behaviour == Behaviour::Healthy;
        if !self.model.published.iter().any(|one| is_healthy(&one)) {
            return Ok(None);
        }
        let deadline = Deadline::after(Duration::from_secs(20));
        while self.fixture.answering().is_none() {
            ensure!(!deadline.is_over(), "{version} does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.write_note()?;
        Ok(Some((version, lines(&self.data("extra")))))
    }
}

/// Waits for the end of `child`: how it ended, and the document that it printed.
pub(super) fn end(child: Child) -> Result<(Ran, Option<Value>)> {
    let std::process::Output { status, stdout, stderr } = child.wait_with_output()?;
    let json = serde_json::from_slice(&stdout).ok();
    Ok((Ran::of(&Output { status, stdout, stderr }), json))
}
