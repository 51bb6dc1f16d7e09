//! Somebody who is not the app uses its data: a shell, a backup.

use std::process::{Child, Command};

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

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
fn that_somebody_uses_its_data_is_told_once_whoever_it_is_this_night() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let held = || -> serde_json::Value {
        let state = std::fs::read(fixture.app_dir().join("state.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&state).unwrap()["held"].clone()
    };
    let mut nights = Vec::new();
    for _ in 0..2 {
        let _shell = Shell::in_the_volume_of(&fixture);
        fixture.run(&["update"]).expect(10);
        nights.push(held());
    }
    assert_ne!(nights[0]["reasons"], nights[1]["reasons"]);
    assert_eq!(nights[0]["since"], nights[1]["since"]);
    let said = fixture.run(&["approve", APP, "1.1.0+2"]).expect(0);
    assert!(said.contains("no approval lifts") && said.contains("hint: cc-warm plan notes"), "{said}");
    let alerts = std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
    let told = serde_json::Deserializer::from_str(&alerts)
        .into_iter::<serde_json::Value>()
        .filter(|message| message.as_ref().unwrap()["text"].as_str().unwrap().contains("1.1.0+2 waits for you"));
    assert_eq!(told.count(), 1, "{alerts}");
}

#[test]
fn an_app_whose_data_somebody_uses_once_it_is_stopped_runs_again_soon() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let update = Halted::at(&fixture, &["journal.stopping.after"], &["update", APP]);
    let shell = Shell::in_the_volume_of(&fixture);
    update.goes_on().expect(11);
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
