//! What is said of an app and what to do about it is so, and helps.

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// Changes what is remembered of the app.
fn remember(fixture: &Fixture, change: impl FnOnce(&mut Value)) {
    let path = fixture.app_dir().join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    std::fs::write(path, state.to_string()).unwrap();
}

#[test]
fn what_does_not_go_back_is_told_with_what_does() {
    let fixture = Fixture::running();
    fixture
        .sandbox
        .configure(|config| config["apps"][APP]["update"]["unmanaged"] = json!(["media", "/srv/scans"]))
        .unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let left = "what is `unmanaged` stays as it is: media, /srv/scans";
    let said = fixture.run(&["update"]).expect(11);
    assert!(said.contains(left), "{said}");
    let alerts = || fixture.alerts();
    assert!(alerts().contains(&format!("did not go back: {left}")), "{}", alerts());
    fixture.run(&["retry", APP]).expect(0);
    fixture.run_with_fault("act.restore=fail", &["update"]).expect(12);
    assert!(alerts().contains(&format!("does not go back: {left}")), "{}", alerts());
    let said = fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert!(said.contains(left), "{said}");
}

#[test]
fn an_app_that_went_back_does_not_hide_what_became_of_another() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deploying.after=kill", &["update"]).code, None);
    let other = fixture.sandbox.state_dir().join("apps/other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("journal.jsonl"), "damaged\ndamaged\n").unwrap();
    let rows = fixture.json(&["recover"]);
    let exits: Vec<(&str, i64)> = rows["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["app"].as_str().unwrap(), row["exit"].as_i64().unwrap()))
        .collect();
    assert_eq!(exits, [("notes", 0), ("other", 12)], "{rows}");
    std::fs::remove_dir_all(other).unwrap();
}

#[test]
fn a_recovery_whose_bad_news_is_of_another_app_exits_with_it() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deploying.after=kill", &["update"]).code, None);
    let other = fixture.sandbox.state_dir().join("apps/other");
    std::fs::create_dir(&other).unwrap();
    // Of an app that is not declared the journal alone is looked at: a folder in its place cannot be read.
    std::fs::create_dir(other.join("journal.jsonl")).unwrap();
    fixture.run(&["recover"]).expect(1);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    std::fs::remove_dir_all(other).unwrap();
}

#[test]
fn a_journal_is_settled_although_the_configuration_cannot_be_used() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deploying.after=kill", &["update"]).code, None);
    let usable = std::fs::read(fixture.sandbox.config()).unwrap();
    let told = || fixture.alerts();
    let before = told();
    fixture.sandbox.configure(|config| config["mood"] = json!("good")).unwrap();
    fixture.run(&["update"]).expect(2);
    let said = fixture.run(&["recover"]).expect(2);
    assert!(said.contains("1.0.0+1 runs again") && said.contains("`mood`"), "{said}");
    assert!(said.contains("only what was cut short was looked at"), "{said}");
    assert_eq!((fixture.answering().as_deref(), fixture.journal().as_str()), (Some("1.0.0+1"), ""));
    // Where alerts go is not known, so they wait.
    assert_eq!(told(), before);
    std::fs::write(fixture.sandbox.config(), usable).unwrap();
    fixture.run(&["alert", "deliver"]).expect(0);
    assert!(told().contains("was cut short"), "{}", told());
}

#[test]
fn an_app_that_would_not_be_started_again_is_not_said_to_be_resumed() {
    let fixture = Fixture::running();
    fixture.run(&["undeploy", APP]).expect(0);
    remember(&fixture, |state| state["seen_other"] = json!("2.0.0+9"));
    let status = fixture.run(&["status"]).expect(0);
    assert!(status.contains("it would not be started again: ") && !status.contains("cc-warm resume"), "{status}");
    assert!(status.contains("hint: cc-warm restore notes"), "{status}");
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("somebody deployed 2.0.0+9 since") && said.contains("hint: cc-warm plan notes"), "{said}");
    assert!(fixture.run(&["plan"]).text.contains("hint: cc-warm restore notes"));
    remember(&fixture, |state| drop(state.as_object_mut().unwrap().remove("seen_other")));
    assert!(fixture.run(&["status"]).text.contains("hint: cc-warm resume notes"));
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("hint: cc-warm resume notes"), "{said}");
    // What is not there cannot be adopted, and no update starts it.
    let said = fixture.run(&["adopt", APP]).expect(24);
    assert!(said.contains("hint: cc-warm status notes"), "{said}");
}

#[test]
fn a_version_that_is_excluded_is_not_approved() {
    let fixture = Fixture::running();
    fixture.publish("2.0.0+2", 2, Behaviour::Healthy);
    for (key, value) in [("pin", json!("1.0.0+1")), ("ignore", json!(["2.0.0+2"]))] {
        fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ key: value })).unwrap();
        let said = fixture.run(&["approve", APP, "2.0.0+2"]).expect(24);
        assert!(said.contains(&format!("`update.{key}`")) && said.contains("nothing was approved"), "{said}");
    }
    fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({})).unwrap();
    fixture.run(&["approve", APP, "2.0.0+2"]).expect(0);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("2.0.0+2"));
}

#[test]
fn a_damaged_snapshot_hints_at_another_only_where_there_is_one() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    let damage = || {
        let snapshots = fixture.json(&["verify", "--structure"])["apps"][0]["snapshots"].clone();
        let current = snapshots.as_array().unwrap().iter().find(|one| one["role"] == "current").unwrap().clone();
        let folder = fixture.app_dir().join("snapshots").join(current["id"].as_str().unwrap());
        let volumes = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for volume in volumes.filter(|path| path.is_dir()) {
            std::fs::remove_dir_all(volume).unwrap();
        }
        snapshots
    };
    damage();
    let said = fixture.run(&["restore", APP, "--yes"]).expect(1);
    assert!(said.contains("hint: cc-warm verify notes") && !said.contains("hint: cc-warm restore"), "{said}");
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.run(&["snapshot", APP]).expect(0);
    let snapshots = damage();
    let whole = snapshots.as_array().unwrap().iter().find(|one| one["role"] == "previous").unwrap();
    let said = fixture.run(&["restore", APP, "--yes"]).expect(1);
    let hint = format!("hint: cc-warm restore notes --snapshot {}", whole["id"].as_str().unwrap());
    assert!(said.contains(&hint), "{said}");
}
