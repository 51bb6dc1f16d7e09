//! The machine goes down in the middle of an update.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::fixture::{Fixture, NOTES, Ran};
use crate::signals::Halted;

/// A service manager that says what state the machine is in: as [`say`] says later.
fn systemctl_that_says(fixture: &Fixture, state: &str) -> String {
    let dir = fixture.sandbox.dir().join("bin");
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("systemctl");
    std::fs::write(&path, format!("#!/bin/sh\ncat {}/state\nexit 1\n", dir.display())).unwrap();
    say(fixture, state);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

fn say(fixture: &Fixture, state: &str) {
    std::fs::write(fixture.sandbox.dir().join("bin/state"), state).unwrap();
}

/// An update whose target soaks for an hour, once the journal says so.
fn soaking(fixture: &Fixture, path: &str) -> Child {
    fixture
        .sandbox
        .configure(|config| {
            config["apps"][APP]["health"]["soak"] = json!("1h");
            config["apps"][APP]["health"]["deadline"] = json!("2h");
        })
        .unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let update = Command::new(fixture.sandbox.program())
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(["update", APP])
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    while !fixture.journal().contains("\"deployed\"") || fixture.answering().as_deref() != Some("1.1.0+2") {
        assert!(Instant::now() < end, "{}", fixture.journal());
        std::thread::yield_now();
    }
    update
}

fn terminate(mut update: Child) -> Option<i32> {
    kill_process(Pid::from_child(&update), Signal::TERM).unwrap();
    update.wait().unwrap().code()
}

#[test]
fn leaves_an_update_to_the_recovery_at_the_next_boot() {
    let fixture = Fixture::running();
    let path = systemctl_that_says(&fixture, "stopping");
    assert_eq!(terminate(soaking(&fixture, &path)), Some(14));
    assert!(fixture.journal().contains("\"deployed\"") && !fixture.journal().contains("rolling-back"));
    fixture.run(&["recover"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn an_update_that_is_only_asked_to_end_goes_back_first() {
    let fixture = Fixture::running();
    let path = systemctl_that_says(&fixture, "running");
    assert_eq!(terminate(soaking(&fixture, &path)), Some(11));
    assert_eq!(fixture.journal(), "");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_version_whose_processes_a_shutdown_ends_is_not_to_blame() {
    let fixture = Fixture::running();
    let path = systemctl_that_says(&fixture, "stopping");
    fixture.publish("1.1.0+2", 2, Behaviour::Dies);
    // The app's own unit may be stopped first: nobody has asked cc-warm to end yet.
    let said = Ran::of(&fixture.sandbox.cc_warm(&["update", APP]).env("PATH", path).run().unwrap()).expect(14);
    assert!(said.contains("the machine is going down"), "{said}");
    assert!(!fixture.journal().contains("rolling-back"), "{}", fixture.journal());
    fixture.run(&["recover"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    // It is tried again, and shows then what it is.
    fixture.run(&["update"]).expect(11);
}

#[test]
fn a_check_that_a_shutdown_cuts_short_gives_nothing_up() {
    let fixture = Fixture::running();
    let path = systemctl_that_says(&fixture, "running");
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let faults = "snapshot.build.begun#1=enospc,snapshot.build.begun#2=enospc,snapshot.audit.volume=stop";
    let update = Halted::with(&fixture, faults, &[("PATH", &path)], &["update", APP]);
    say(&fixture, "stopping");
    let said = update.gets(Signal::TERM).goes_on().expect(14);
    assert!(!said.contains("is given up"), "{said}");
    assert!(!fixture.journal().contains("discarding-failed"), "{}", fixture.journal());
    fixture.run(&["recover"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}
