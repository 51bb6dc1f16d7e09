//! A stuck app that its operator brought back by hand. The hand is cc-warm's own: what was written down of the stuck app
//! is put back once it runs again.

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use crate::fixture::{Fixture, NEVER_WELL};

/// Stuck, says cc-warm; and `1.0.0+1` runs, of a generation that it does not know.
fn repaired() -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    fixture.run_with_fault(NEVER_WELL, &["update", APP]).expect(12);
    assert_eq!(fixture.answering(), None);
    let files = ["journal.jsonl", "state.json"].map(|name| fixture.app_dir().join(name));
    let stuck = files.each_ref().map(|path| std::fs::read(path).unwrap());
    fixture.run(&["retry", APP]).expect(0);
    for (path, bytes) in files.iter().zip(stuck) {
        std::fs::write(path, bytes).unwrap();
    }
    fixture
}

#[test]
fn is_left_running_by_every_run() {
    let fixture = repaired();
    for words in [&["update", APP][..], &["recover", APP], &["recover"]] {
        let text = fixture.run(words).expect(13);
        assert!(text.contains("`cc-warm adopt notes`"), "{text}");
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{words:?}: {text}");
    }
    // Whoever looks is not told that it is down.
    let text = fixture.run(&["status"]).text;
    assert!(text.contains("what is deployed now is somebody's own") && text.contains("cc-warm adopt notes"), "{text}");
    assert!(!text.contains("is down"), "{text}");
    // Nor to do what is refused.
    assert!(!text.contains("cc-warm retry notes"), "{text}");
    // Nor is the prior version started over data that a newer one may have written.
    let text = fixture.run(&["retry", APP]).expect(24);
    assert!(text.contains("deployed by somebody"), "{text}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn is_stuck_no_more_once_it_is_adopted() {
    let fixture = repaired();
    fixture.run(&["adopt", APP]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.journal(), "");
    let state = std::fs::read_to_string(fixture.app_dir().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state["stuck"].is_null(), "{state}");
    let history = fixture.run(&["history", APP]).expect(0);
    assert!(history.contains("adopted"), "{history}");
    // The version that was rolled back is not tried again, and nothing else waits.
    let text = fixture.run(&["update", APP]).expect(0);
    assert!(!text.contains("stuck"), "{text}");
}

#[test]
fn is_stuck_still_after_a_snapshot_that_is_refused() {
    let fixture = repaired();
    let text = fixture.run(&["snapshot", APP]).expect(24);
    assert!(text.contains("`notes` is stuck; nothing was touched"), "{text}");
    assert!(fixture.journal().contains("\"stuck\""));
    fixture.run(&["adopt", APP]).expect(0);
    fixture.run(&["snapshot", APP]).expect(0);
}

#[test]
fn is_adopted_by_the_night_where_cc_warm_has_let_go_of_it() {
    for parted in [true, false] {
        let fixture = Fixture::running();
        fixture.publish("1.1.0+2", 2, Behaviour::Broken);
        fixture.run_with_fault(NEVER_WELL, &["update", APP]).expect(12);
        let told = || std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
        let stuck = || told().matches("\"stuck\"").count();
        let before = stuck();
        let path = fixture.app_dir().join("state.json");
        let state = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).unwrap()).unwrap();
        let good = state()["last_good"].clone();
        assert!(!good.is_null());
        // Somebody deploys it in the middle of the restore.
        fixture.run_with_fault("act.health=fail,act.taken-over=fail", &["restore", APP, "--yes"]).expect(1);
        assert!(fixture.journal().is_empty(), "it is let go of");
        let mut state = state();
        assert!(!state["stuck"].is_null(), "{state}");
        if !parted {
            // It is the version that was good before.
            state["last_good"] = good;
            std::fs::write(&path, state.to_string()).unwrap();
        }
        let said = fixture.run(&["update", APP]).expect(0);
        assert!(said.contains("adopted"), "{said}");
        let state = std::fs::read_to_string(&path).unwrap();
        assert!(!state.contains("\"stuck\""), "{state}");
        assert_eq!(stuck(), before + 1, "that it is over is told: {}", told());
    }
}

#[test]
fn is_not_adopted_while_it_is_not_healthy() {
    let fixture = repaired();
    fixture
        .sandbox
        .configure(|config| config["apps"][APP]["health"]["probes"][0]["http"]["url"] = "http://127.0.0.1:9/".into())
        .unwrap();
    fixture.run(&["adopt", APP]).expect(1);
    assert!(!fixture.journal().is_empty());
}
