//! What a run finds open: it is settled first, and told as what it is.

use std::process::Child;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::process::Signal;

use crate::fixture::{Fixture, NEVER_WELL, NOTES, Ran};
use crate::signals::{Going, command};

/// An update was killed when its target was deployed.
fn cut_short() -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deployed.after=kill", &["update"]).code, None);
    fixture
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
    let told = fixture.alerts();
    assert!(
        told.contains("notes is down, and could not be started") && told.contains("cc-warm update notes"),
        "{told}"
    );
    let said = fixture.run(&["recover"]).expect(0);
    assert!(said.contains("`cc-warm update notes` starts it"), "{said}");
    assert_eq!(fixture.alerts(), told, "nothing is over");
    fixture.run(&["update"]).expect(0);
    is_back(&fixture);
    assert!(fixture.alerts().contains("resolved: notes is down"), "{}", fixture.alerts());
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

/// A recovery as at boot, of a deployer that does not answer the first `silent` times.
fn recovery_at_boot(fixture: &Fixture, silent: u32, patience_ms: &str) -> Child {
    let faults: Vec<String> = (1..=silent).map(|n| format!("process.observe#{n}=fail")).collect();
    let mut recovery = command(fixture, &["recover", "--until-ready"], &faults.join(","));
    recovery.env("CC_WARM_PATIENCE_MS", patience_ms).spawn().unwrap()
}

#[test]
fn a_recovery_at_boot_waits_for_what_does_not_answer_yet() {
    let fixture = cut_short();
    let said = Ran::of_child(recovery_at_boot(&fixture, 3, "60000")).expect(0);
    assert!(said.contains("rolled back"), "{said}");
    is_back(&fixture);
    let told = fixture.alerts();
    assert!(!told.contains("unfinished") && !told.contains("not-ready"), "nothing was wrong: {told}");
}

#[test]
fn a_recovery_at_boot_that_waits_for_long_tells_so_and_goes_on() {
    let fixture = cut_short();
    let said = Ran::of_child(recovery_at_boot(&fixture, 5, "1")).expect(0);
    assert!(said.contains("left unfinished") && said.contains("rolled back"), "{said}");
    is_back(&fixture);
    let told = fixture.alerts();
    assert!(told.contains("an operation could not be finished") && told.contains("resolved: "), "{told}");
}

#[test]
fn a_recovery_that_waits_ends_when_it_is_asked_to_and_leaves_no_app_busy() {
    let fixture = cut_short();
    let waits = Going::until(recovery_at_boot(&fixture, 1000, "1"), "hint: cc-warm recover notes");
    while !fixture.alerts().contains("an operation could not be finished") {
        std::thread::yield_now();
    }
    fixture.run(&["recover"]).expect(0);
    waits.gets(Signal::TERM).ends().expect(14);
    is_back(&fixture);
}
