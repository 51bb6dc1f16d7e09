//! Somebody who is not the app uses its data: a shell, a backup.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Fixture, NOTES};
use crate::signals::Halted;

/// Somebody's shell in the volume, until it is dropped.
struct Shell(Child);

impl Shell {
    fn in_the_volume_of(fixture: &Fixture) -> Self {
        let data = fixture.sandbox.volume().unwrap().join("_data");
        Self(Command::new("sleep").arg("600").current_dir(data).spawn().unwrap())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn an_app_whose_data_somebody_uses_is_not_stopped() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let shell = Shell::in_the_volume_of(&fixture);
    let who = format!("process {} (`sleep`) has a volume of it as its cwd", shell.0.id());
    let text = fixture.run(&["update"]).expect(10);
    assert!(text.contains(&who) && text.contains("end that first"), "{text}");
    let text = fixture.run(&["snapshot", APP]).expect(24);
    assert!(text.contains(&who), "{text}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert!(!fixture.run(&["history", APP]).text.contains("rolled-back"));
    drop(shell);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn an_app_whose_data_somebody_uses_once_it_is_stopped_runs_again_soon() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let mut update = Command::new(fixture.sandbox.program())
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(["update", APP])
        .env("CC_WARM_FAULT", "journal.stopping.after=stop")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", update.id())).unwrap();
    while !state().contains(") T ") {
        assert!(Instant::now() < end, "{}", fixture.journal());
        std::thread::yield_now();
    }
    let shell = Shell::in_the_volume_of(&fixture);
    kill_process(Pid::from_child(&update), Signal::CONT).unwrap();
    assert_eq!(update.wait().unwrap().code(), Some(11));
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
    assert_eq!(fixture.journal(), "");
    drop(shell);
    // It was cut short before the version was tried, so nothing is held against it.
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn an_app_whose_data_somebody_began_to_use_while_it_was_exchanged_is_not_started_before_that_ends() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    // Nobody used it when it was asked for the last time before.
    let update = Halted::at(&fixture, &["snapshot.exchange.ready"], &["update"]);
    let shell = Shell::in_the_volume_of(&fixture);
    let who = format!("waiting, its data is in use: process {} (`sleep`)", shell.0.id());
    let update = update.goes_on_until(&who);
    assert_eq!(fixture.answering(), None);
    assert!(
        fixture.journal().contains("exchanging") && !fixture.journal().contains("restored"),
        "{}",
        fixture.journal()
    );
    drop(shell);
    let said = update.ends().expect(11);
    assert!(said.contains("rolled back"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}
