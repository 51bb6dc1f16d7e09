//! Being asked to end, and being in somebody's way: with the real program, halted at a point of its work.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use cc_warm::sys::clock::Deadline;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::fixture::{Fixture, NOTES, Ran};

/// Halts or ends, whichever comes first: whether it has halted.
pub(crate) fn halts(child: &mut Child) -> bool {
    let deadline = Deadline::after(Duration::from_mins(1));
    let stat = format!("/proc/{}/stat", child.id());
    while child.try_wait().unwrap().is_none() {
        if std::fs::read_to_string(&stat).unwrap_or_default().contains(") T ") {
            return true;
        }
        assert!(!deadline.is_over(), "it neither halts nor ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// A cc-warm that has halted itself at a point of its work.
pub(crate) struct Halted {
    child: Child,
}

impl Halted {
    /// `cc-warm <words>`, once it has come to the first of `points`; it halts at the others, too.
    pub(crate) fn at(fixture: &Fixture, points: &[&str], words: &[&str]) -> Self {
        let rules: Vec<String> = points.iter().map(|point| format!("{point}=stop")).collect();
        Self::of(start(fixture, words, &rules.join(",")))
    }

    /// As [`Halted::at`], with these `faults`, one of which stops it, and these variables.
    pub(crate) fn with(fixture: &Fixture, faults: &str, variables: &[(&str, &str)], words: &[&str]) -> Self {
        Self::of(command(fixture, words, faults).envs(variables.iter().copied()).spawn().unwrap())
    }

    fn of(child: Child) -> Self {
        let mut halted = Self { child };
        halted.halts();
        halted
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn halts(&mut self) {
        assert!(halts(&mut self.child), "it ended, and did not halt");
    }

    /// `signal` is what it gets first when it goes on.
    pub(crate) fn gets(self, signal: Signal) -> Self {
        kill_process(self.pid(), signal).unwrap();
        self
    }

    /// Lets it go on to the next point where it halts.
    fn halts_again(mut self) -> Self {
        kill_process(self.pid(), Signal::CONT).unwrap();
        self.halts();
        self
    }

    /// Lets it go on to its end.
    pub(crate) fn goes_on(self) -> Ran {
        kill_process(self.pid(), Signal::CONT).unwrap();
        Ran::of_child(self.child)
    }

    /// Lets it go on, and comes back as soon as it has told `what` of its progress.
    pub(crate) fn goes_on_until(self, what: &str) -> Going {
        kill_process(self.pid(), Signal::CONT).unwrap();
        Going::until(self.child, what)
    }
}

/// A cc-warm that goes on.
pub(crate) struct Going {
    child: Child,
    told: BufReader<ChildStderr>,
    text: String,
}

impl Going {
    /// `cc-warm <words>`, once it has told `what` of its progress.
    pub(crate) fn of(fixture: &Fixture, words: &[&str], what: &str) -> Self {
        Self::until(start(fixture, words, ""), what)
    }

    /// `child`, once it has told `what`.
    pub(crate) fn until(mut child: Child, what: &str) -> Self {
        let told = BufReader::new(child.stderr.take().unwrap());
        let mut going = Self { told, child, text: String::new() };
        while !going.text.contains(what) {
            assert_ne!(going.told.read_line(&mut going.text).unwrap(), 0, "it never told `{what}`: {}", going.text);
        }
        going
    }

    /// It gets `signal`.
    pub(crate) fn gets(self, signal: Signal) -> Self {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self
    }

    /// Waits for its end.
    pub(crate) fn ends(mut self) -> Ran {
        self.told.read_to_string(&mut self.text).unwrap();
        let rest = Ran::of_child(self.child);
        Ran { code: rest.code, text: rest.text + &self.text }
    }
}

fn start(fixture: &Fixture, words: &[&str], faults: &str) -> Child {
    command(fixture, words, faults).spawn().unwrap()
}

pub(crate) fn command(fixture: &Fixture, words: &[&str], faults: &str) -> Command {
    let mut command = Command::new(fixture.sandbox.program());
    command
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(words)
        .env("CC_WARM_FAULT", faults)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The prior version runs on its data, and nothing is left to settle.
#[track_caller]
fn assert_is_back(fixture: &Fixture, said: &str) {
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{said}");
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES, "{said}");
    assert_eq!(fixture.journal(), "", "{said}");
}

fn with_update(behaviour: Behaviour) -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, behaviour);
    fixture
}

#[test]
fn asked_to_end_before_the_stop_nothing_is_begun() {
    for signal in [Signal::TERM, Signal::INT] {
        for point in ["recipe.mirror.fetch", "process.prepare"] {
            let fixture = with_update(Behaviour::Healthy);
            let said = Halted::at(&fixture, &[point], &["update"]).gets(signal).goes_on().expect(25);
            assert!(said.contains("cancelled before anything began"), "{said}");
            assert_is_back(&fixture, &said);
            let alerts = fixture.alerts();
            assert_eq!(alerts, "", "nothing was wrong with the app");
            fixture.run(&["update"]).expect(0);
        }
    }
}

#[test]
fn a_remote_that_hangs_is_left_when_cc_warm_is_asked_to_end() {
    let fixture = with_update(Behaviour::Healthy);
    let bin = fixture.sandbox.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let (path, pid) = (std::env::var("PATH").unwrap(), bin.join("pid"));
    let hangs = format!(
        "#!/bin/sh\ncase \" $* \" in *' fetch '*) sleep 1000 & echo $! > {}; wait;; esac\nPATH='{path}' exec git \"$@\"\n",
        pid.display()
    );
    std::fs::write(bin.join("git"), hangs).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut update = command(&fixture, &["update"], "");
    let update = update.env("PATH", format!("{}:{path}", bin.display())).spawn().unwrap();
    while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    let asked = Instant::now();
    kill_process(Pid::from_child(&update), Signal::TERM).unwrap();
    let ended = Ran::of_child(update);
    assert!(ended.expect(25).contains("cancelled before anything began"));
    assert!(asked.elapsed() < Duration::from_secs(30), "the fetch has five minutes");
    let pid = std::fs::read_to_string(pid).unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    while !(stat().is_empty() || stat().contains(") Z ")) {
        assert!(asked.elapsed() < Duration::from_secs(30), "what git had started lives");
    }
    assert!(!fixture.run(&["status"]).expect(0).contains("could not be fetched"));
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn asked_to_end_in_the_middle_the_update_goes_back_with_its_data_before_it_ends() {
    for (point, signal) in [
        ("act.stop", Signal::TERM),
        ("act.snapshot", Signal::INT),
        ("journal.snapshotted.after", Signal::TERM),
        ("act.deploy", Signal::TERM),
        ("act.health", Signal::INT),
    ] {
        let fixture = with_update(Behaviour::Healthy);
        let said = Halted::at(&fixture, &[point], &["update"]).gets(signal).goes_on().expect(11);
        assert!(said.contains("cc-warm was asked to end"), "{point}: {said}");
        assert_is_back(&fixture, &said);
        // That is nobody's fault: it is tried again.
        fixture.run(&["update"]).expect(0);
        assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
    }
}

#[test]
fn asked_to_end_on_the_way_back_it_goes_all_the_way() {
    for point in
        ["journal.rolling-back.after", "act.restore", "act.exchange", "act.redeploy", "journal.rolled-back.before"]
    {
        let fixture = with_update(Behaviour::Broken);
        let said = Halted::at(&fixture, &[point], &["update"]).gets(Signal::TERM).goes_on().expect(11);
        assert_is_back(&fixture, &said);
        assert!(said.contains("answered 500"), "{point}: {said}");
    }
}

#[test]
fn a_terminal_that_is_closed_in_the_middle_leaves_no_app_down() {
    for (behaviour, hang_up, version) in [
        (Behaviour::Healthy, None, "1.1.0+2"),
        (Behaviour::Healthy, Some(Signal::HUP), "1.0.0+1"),
        (Behaviour::Broken, None, "1.0.0+1"),
    ] {
        let fixture = with_update(behaviour);
        let mut update = Halted::at(&fixture, &["act.snapshot"], &["-v", "update"]);
        update.child.stdout.take();
        update.child.stderr.take();
        if let Some(signal) = hang_up {
            update = update.gets(signal);
        }
        let code = update.goes_on().code;
        assert_eq!(code, Some(if version == "1.1.0+2" { 0 } else { 11 }));
        assert_eq!(fixture.answering().as_deref(), Some(version));
        assert_eq!(fixture.journal(), "");
    }
}

#[test]
fn once_healthy_it_is_committed_although_asked_to_end() {
    let fixture = with_update(Behaviour::Healthy);
    let said = Halted::at(&fixture, &["journal.healthy.after"], &["update"]).gets(Signal::TERM).goes_on().expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"), "{said}");
    assert_eq!(fixture.journal(), "");
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_the_journal_to_recover() {
    let fixture = with_update(Behaviour::Broken);
    let update = Halted::at(&fixture, &["act.restore", "journal.restored.after"], &["update"]);
    let ran = update.gets(Signal::TERM).halts_again().gets(Signal::TERM).goes_on();
    assert_eq!(ran.code, Some(128 + 15), "{}", ran.text);
    assert!(fixture.journal().contains("\"restored\""));
    fixture.run(&["recover"]).expect(0);
    assert_is_back(&fixture, &ran.text);
}

#[test]
fn asked_to_end_between_two_apps_it_does_not_begin_the_next() {
    let fixture = with_update(Behaviour::Healthy);
    fixture
        .sandbox
        .configure(|config| {
            let mut second = config["apps"][APP].clone();
            second["domain"] = "second.example.org".into();
            second["env"]["PORT"] = "1".into();
            config["apps"]["second"] = second;
            config["apps"][APP]["health"]["soak"] = "200ms".into();
        })
        .unwrap();
    let update = Halted::at(&fixture, &["journal.committed.after"], &["update"]);
    let said = update.gets(Signal::TERM).goes_on().expect(25);
    assert!(said.contains("updated: 1.0.0+1 → 1.1.0+2"), "{said}");
    assert!(!fixture.sandbox.state_dir().join("apps/second").exists(), "{said}");
}

#[test]
fn a_busy_app_is_left_alone_and_its_holder_named() {
    let fixture = with_update(Behaviour::Healthy);
    let update = Halted::at(&fixture, &["act.snapshot"], &["update", APP]);
    let (pid, config) = (update.pid().as_raw_nonzero(), fixture.sandbox.config());
    let holder = format!("held by process {pid} (`cc-warm --config {} update {APP}`) since ", config.display());
    for words in [
        &["update"][..],
        &["update", "--wait", "300ms"],
        &["recover", APP],
        &["snapshot", APP],
        &["retry", APP],
        &["approve", APP, "1.1.0+2"],
        &["pause", APP],
        &["resume", APP],
        &["adopt", APP],
        &["undeploy", APP],
    ] {
        let said = fixture.run(words).expect(30);
        assert!(said.contains(&holder), "{words:?}: {said}");
    }
    let json = fixture.json(&["update"]);
    assert_eq!(json["apps"][0]["exit"], json!(30), "{json}");
    let status = fixture.status();
    let notes = status["notes"].to_string();
    assert!(notes.contains("under way, at `snapshotting`: held by process"), "{status}");
    assert_eq!(status["ok"], json!(true), "nobody has to do anything: {status}");
    // Plans and histories are shown all the same.
    assert!(fixture.run(&["plan", APP]).expect(0).contains("under way, at `snapshotting`"));
    fixture.run(&["history", APP]).expect(0);
    // One app that is busy keeps no other from being paused, or resumed.
    fixture
        .sandbox
        .configure(|config| {
            for (name, domain) in [("a-first", "first.example.org"), ("z-last", "last.example.org")] {
                config["apps"][name] = config["apps"][APP].clone();
                config["apps"][name]["domain"] = domain.into();
                config["apps"][name]["env"]["PORT"] = "1".into();
            }
        })
        .unwrap();
    for (words, wanted) in [(&["pause", "--all"][..], "paused"), (&["resume", "--all"], "updates go on")] {
        let said = fixture.run(words).expect(30);
        let others = ["a-first", "z-last"].iter().all(|app| said.contains(&format!("{app}: {wanted}")));
        assert!(others && said.contains(&holder), "{words:?}: {said}");
    }
    update.goes_on().expect(0);
}

#[test]
fn who_waits_is_told_for_whom_and_goes_on_afterwards() {
    let fixture = with_update(Behaviour::Healthy);
    let update = Halted::at(&fixture, &["act.snapshot"], &["update", APP]);
    let mut waiting = start(&fixture, &["update", "--wait"], "");
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting, it is held by process"), "{line}");
    update.goes_on().expect(0);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "notes: up to date at 1.1.0+2\n");
}

#[test]
fn a_restore_waits_while_another_app_on_the_file_system_is_stopped() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    let device = std::fs::metadata(fixture.sandbox.volume().unwrap()).unwrap().dev();
    let other = std::fs::File::open(fixture.sandbox.state_dir().join("stopped").join(device.to_string())).unwrap();
    other.lock().unwrap();
    let restore = start(&fixture, &["restore", APP, "--yes"], "");
    let restore = Going::until(restore, "waiting: another app on the same file system is stopped");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    drop(other);
    restore.ends().expect(0);
}
