//! Rules of the design that are easy to miss, with the real program.

use std::path::PathBuf;

use cc_warm::demo::maker::{Behaviour, Release};
use cc_warm::demo::sandbox::APP;
use serde_json::json;

use crate::fixture::{Fixture, NOTES};
use crate::signals::Halted;

fn with_update(behaviour: Behaviour) -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, behaviour);
    fixture
}

/// The file with the app's notes.
fn data(fixture: &Fixture) -> PathBuf {
    fixture.sandbox.volume().unwrap().join("_data/notes")
}

#[test]
fn the_probe_is_asked_once_more_right_before_the_stop() {
    let fixture = with_update(Behaviour::Healthy);
    let flag = fixture.sandbox.dir().join("well");
    std::fs::write(&flag, "").unwrap();
    fixture
        .sandbox
        .configure(|config| {
            let health = &mut config["apps"][APP]["health"];
            health["probes"].as_array_mut().unwrap().push(json!({ "command": { "argv": ["test", "-e", flag] } }));
        })
        .unwrap();
    let update = Halted::at(&fixture, &["process.prepare"], &["update"]);
    std::fs::remove_file(&flag).unwrap();
    let said = update.goes_on().expect(1);
    assert!(said.contains("left alone: it is unhealthy, before any update"), "{said}");
    assert!(!said.contains("stopping"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.journal(), "");
    assert!(fixture.status()["knownGood"].is_null(), "no snapshot of it was taken");
}

#[test]
fn data_that_is_not_the_same_afterwards_goes_back() {
    let fixture = with_update(Behaviour::Healthy);
    let file = data(&fixture);
    let continuity = |argv: serde_json::Value| {
        fixture
            .sandbox
            .configure(|config| config["apps"][APP]["health"]["continuity"] = json!({ "argv": argv }))
            .unwrap();
    };
    // Its first line is the format, which the update changes.
    continuity(json!(["head", "-n", "1", file]));
    let said = fixture.run(&["update"]).expect(11);
    assert!(said.contains("continuity: it was `format 1` before and is `format 2` now"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
    // What users wrote stays the same.
    continuity(json!(["tail", "-n", "+2", file]));
    fixture.run(&["retry", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn a_version_that_was_cut_short_twice_is_not_tried_a_third_time() {
    let fixture = with_update(Behaviour::Healthy);
    for _ in 0..2 {
        assert_eq!(fixture.run_with_fault("journal.deployed.after=kill", &["update"]).code, None);
        fixture.run(&["recover"]).expect(0);
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    }
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("1.1.0+2 is not tried"), "{said}");
    fixture.run(&["retry", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn an_approval_is_for_one_try_of_one_commit_and_the_second_gate_still_stands() {
    let fixture = Fixture::running();
    let release = |behaviour| Release { version: "2.0.0+2", format: 2, behaviour, note: Some("Export first.\n") };
    fixture.sandbox.maker.publish(&release(Behaviour::Broken)).unwrap();
    fixture.run(&["update"]).expect(10);
    fixture.run(&["approve", APP, "2.0.0+2"]).expect(0);
    fixture.run(&["update"]).expect(11);
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
    // It may be tried again, but passes the first gate no more.
    fixture.run(&["retry", APP]).expect(0);
    fixture.run(&["update"]).expect(10);
    // An approval of what the tag named is none of what it names later.
    fixture.run(&["approve", APP, "2.0.0+2"]).expect(0);
    let maker = &fixture.sandbox.maker;
    maker.git(&["tag", "--delete", "2.0.0+2"]).unwrap();
    maker.publish(&release(Behaviour::Healthy)).unwrap();
    let said = fixture.run(&["update"]).expect(10);
    assert!(said.contains("the tag 2.0.0+2 was moved"), "{said}");
    fixture.run(&["approve", APP, "2.0.0+2"]).expect(0);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("2.0.0+2"));
}

#[test]
fn a_changed_environment_is_an_update_of_its_own_and_makes_a_rejected_version_another_one() {
    let fixture = with_update(Behaviour::Broken);
    fixture.run(&["update"]).expect(11);
    fixture.run(&["update"]).expect(0);
    fixture.sandbox.configure(|config| config["apps"][APP]["env"]["TIMEOUT"] = "9".into()).unwrap();
    let said = fixture.run(&["update"]).expect(11);
    assert!(said.contains("1.1.0+2 failed"), "with another environment it is tried: {said}");
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("updated: 1.0.0+1 with its changed environment"), "{said}");
    assert!(fixture.run(&["update"]).expect(0).contains("up to date"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_data_warm_app_is_not_deployed_by_an_update() {
    let fixture = Fixture::empty();
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    fixture.sandbox.configure(|config| config["apps"][APP]["warm"] = "data".into()).unwrap();
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering(), None);
    assert!(fixture.run(&["update", APP]).expect(24).contains("is data-warm"));
    fixture.sandbox.configure(|_| {}).unwrap();
}

#[test]
fn unknown_fields_of_a_newer_program_are_kept() {
    let fixture = with_update(Behaviour::Healthy);
    let path = fixture.app_dir().join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["mood"] = json!("good");
    std::fs::write(&path, state.to_string()).unwrap();
    fixture.run(&["update"]).expect(0);
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&state["mood"], &state["last_good"]["identity"]["version"]), (&json!("good"), &json!("1.1.0+2")));
}

#[test]
fn what_a_newer_program_deployed_is_not_touched() {
    let fixture = with_update(Behaviour::Healthy);
    let path = fixture.sandbox.state_dir().join("process/apps").join(APP).join("deployment.json");
    let before = std::fs::read_to_string(&path).unwrap();
    let newer = before.replacen("\"format\": 1", "\"format\": 2", 1);
    assert_ne!(newer, before);
    std::fs::write(&path, &newer).unwrap();
    let said = fixture.run(&["update"]).expect(1);
    assert!(said.contains("its format is 2"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    std::fs::write(&path, before).unwrap();
    fixture.run(&["update"]).expect(0);
}
