//! What a run finds open: it is settled first, and told as what it is.

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use crate::fixture::{Fixture, NOTES};

const NEVER_WELL: &str = "act.redeploy#1=fail,act.redeploy#2=fail";

/// An update was killed when its target was deployed.
fn cut_short() -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deployed.after=kill", &["update"]).code, None);
    fixture
}

fn alerts(fixture: &Fixture) -> String {
    std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap_or_default()
}

#[track_caller]
fn is_back(fixture: &Fixture) {
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
    assert_eq!(fixture.journal(), "");
}

#[test]
fn an_app_that_becomes_stuck_while_an_update_settles_became_stuck_in_this_run() {
    let fixture = cut_short();
    let said = fixture.run_with_fault(NEVER_WELL, &["update"]).expect(12);
    assert!(said.contains("STUCK: the app is down") && said.contains("hint: cc-warm retry notes"), "{said}");
    assert!(fixture.run(&["update"]).expect(13).contains("still stuck"));
    fixture.run(&["retry", APP]).expect(0);
    is_back(&fixture);
}

#[test]
fn an_app_that_is_wanted_back_and_is_not_there_is_still_down_after_a_recovery() {
    let fixture = Fixture::running();
    fixture.run(&["undeploy", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    fixture.run(&["resume", APP]).expect(0);
    fixture.run_with_fault("journal.begun.before=fail", &["update"]).expect(1);
    let told = alerts(&fixture);
    assert!(
        told.contains("notes is down, and could not be started") && told.contains("cc-warm update notes"),
        "{told}"
    );
    let said = fixture.run(&["recover"]).expect(0);
    assert!(said.contains("`cc-warm update notes` starts it"), "{said}");
    assert_eq!(alerts(&fixture), told, "nothing is over");
    fixture.run(&["update"]).expect(0);
    is_back(&fixture);
    assert!(alerts(&fixture).contains("resolved: notes is down"), "{}", alerts(&fixture));
}

#[test]
fn of_a_downtime_of_which_nobody_saw_all_nothing_is_told() {
    let fixture = cut_short();
    let told = |said: String| {
        let history = fixture.run(&["history", APP]).expect(0);
        said.contains("down for") || history.contains("(down ")
    };
    assert!(!told(fixture.run(&["recover"]).expect(0)), "it was down before the recovery began");
    is_back(&fixture);
    fixture.publish("1.2.0+3", 2, Behaviour::Broken);
    fixture.run_with_fault(NEVER_WELL, &["update"]).expect(12);
    assert!(!told(fixture.run(&["restore", APP, "--yes"]).expect(0)), "it was stuck");
    fixture.run(&["undeploy", APP]).expect(0);
    assert!(!told(fixture.run(&["restore", APP, "--yes"]).expect(0)), "it was undeployed");
    assert!(told(fixture.run(&["snapshot", APP]).expect(0)), "that was seen");
}
