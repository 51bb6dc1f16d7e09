//! The crash matrix with failing acts in the place of kills: at every act, in both directions, it fails; at every write
//! of cc-warm's own files, the disk is full, or cc-warm is killed in the middle of it. Some fail again on the way back.
//! After each, the design's invariants must hold, by the app's real data and process.

use std::collections::BTreeMap;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rayon::prelude::*;

use crate::crash::{Scenario, app_log};
use crate::fixture::{Fixture, NOTES, Ran};

/// Every time that a point is passed, as a rule for that time alone: `act.stop#2`.
fn occurrences(scenario: Scenario, wanted: &[&str]) -> Vec<String> {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let mut rules = Vec::new();
    for point in scenario.trace() {
        let count = times.entry(point.clone()).or_default();
        *count += 1;
        // Asked again and again, while it is waited for.
        let endless = point == "process.observe" && *count > 3;
        // A fault there is what stands for somebody else's deployment.
        if wanted.iter().any(|kind| point.starts_with(kind)) && !endless && point != "act.taken-over" {
            rules.push(format!("{point}#{count}"));
        }
    }
    rules
}

/// Lets each of `rules` do `action` in `scenario`.
fn matrix(scenario: Scenario, kinds: &[&str], action: &str) {
    let rules = occurrences(scenario, kinds);
    assert!(rules.len() > 4, "{scenario:?} passes only {rules:?}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let failures: Vec<String> = pool.install(|| {
        rules
            .par_iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let rules = format!("{rule}={action}{}", second(index));
                std::panic::catch_unwind(|| fail_and_settle(scenario, &rules, action)).err().map(|panic| {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    eprintln!("{scenario:?} with {rules} failed");
                    format!("{scenario:?} with {rules}:\n{text}")
                })
            })
            .collect()
    });
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), rules.len(), failures.join("\n\n"));
}

/// A second failure, on the way back; not with every first one.
fn second(index: usize) -> &'static str {
    match index % 5 {
        0 => ",act.restore=fail",
        1 => ",act.redeploy=fail",
        2 => ",journal.restored.before=enospc",
        _ => "",
    }
}

fn fail_and_settle(scenario: Scenario, rules: &str, action: &str) {
    let fixture = scenario.prepare();
    // A busy machine is no reason for the prior version to count as unhealthy.
    fixture.configure_deadline("5s");
    let said = fixture.run_with_fault(rules, scenario.command());
    let codes = [Some(0), Some(1), Some(11), Some(12), Some(14)];
    assert!(said.code.is_none() == (action == "kill") || codes.contains(&said.code), "{}", said.text);
    assert!(!said.text.contains("panicked"), "{}", said.text);
    let existed = !matches!(scenario, Scenario::First | Scenario::FirstFails);
    // Whoever stops an app owes it: it runs, or the journal says what has to be done.
    if existed && fixture.answering().is_none() {
        assert_ne!(fixture.journal(), "", "it is down, and nothing says so: {}", said.text);
    }
    let mut last = settle(&fixture);
    if last.code == Some(13) {
        // Stuck is a fact about the app: it is down, its known-good is whole, and an operator can bring it back.
        assert!(rules.contains("=fail") || action == "fail", "stuck without a reason: {}", last.text);
        assert_eq!(fixture.answering(), None, "{}", last.text);
        fixture.run(&["verify", APP]).expect(0);
        fixture.run(&["retry", APP]).expect(0);
        last = settle(&fixture);
    }
    let evidence = || format!("{}\n{}\n{}\n{}", said.text, last.text, fixture.journal(), app_log(&fixture));
    assert_eq!(last.code, Some(0), "{}", evidence());
    assert_eq!(fixture.journal(), "", "the journal is still there: {}", evidence());
    assert!(!app_log(&fixture).contains("refuse"), "old code met new data: {}", evidence());
    if existed {
        assert!(fixture.answering().is_some(), "{}", evidence());
        assert_eq!(fixture.sandbox.notes().unwrap()[..2], NOTES, "{}", evidence());
    }
    let again = fixture.run(&["update", APP]);
    // A first deployment that failed is not tried again, and then nothing is left to deploy.
    assert!(
        matches!(again.code, Some(0 | 11)) || (!existed && again.code == Some(10)),
        "{} {}",
        again.text,
        evidence()
    );
    if existed {
        assert_eq!(fixture.sandbox.notes().unwrap()[..2], NOTES, "{} {}", again.text, evidence());
        fixture.run(&["verify", APP]).expect(0);
    }
}

/// Recovers, twice: what is settled stays so.
fn settle(fixture: &Fixture) -> Ran {
    fixture.run(&["recover", APP]);
    fixture.run(&["recover", APP])
}

#[test]
fn a_version_that_our_own_disk_kept_from_starting_is_not_to_blame() {
    for action in ["enospc", "eio"] {
        let fixture = Fixture::running();
        fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
        let said = fixture.run_with_fault(&format!("process.deploy.recorded={action}"), &["update"]).expect(11);
        assert!(said.contains("it could not be deployed now"), "{said}");
        assert_eq!((fixture.answering().as_deref(), fixture.journal().as_str()), (Some("1.0.0+1"), ""));
        fixture.run(&["update"]).expect(0);
        assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
    }
}

#[test]
fn a_way_back_that_our_own_disk_stops_is_left_to_the_next_run_and_never_stuck() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let faults: Vec<String> = (2..=3).map(|nth| format!("process.deploy.recorded#{nth}=enospc")).collect();
    let said = fixture.run_with_fault(&faults.join(","), &["update"]).expect(1);
    assert!(said.contains("was left unfinished at `redeploying`: the app may be down"), "{said}");
    let (_, again) = said.split_once("starting it once more").unwrap();
    assert!(!again.contains("stopping"), "what runs, for all that is known, is not taken down: {said}");
    let alerts = std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
    assert!(alerts.contains("\"unfinished\"") && !alerts.contains("\"stuck\""), "{alerts}");
    fixture.run(&["recover"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn the_exit_of_a_plan_is_that_of_the_worst_app() {
    let fixture = Fixture::running();
    fixture
        .sandbox
        .configure(|config| {
            let mut broken = config["apps"][APP].clone();
            broken["domain"] = "a.example.org".into();
            config["apps"]["a"] = broken.clone();
            broken["domain"] = "z.example.org".into();
            broken["deployer"] = serde_json::json!({ "abra": {} });
            config["apps"]["z"] = broken;
        })
        .unwrap();
    let state = fixture.sandbox.state_dir().join("apps/a");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("state.json"), "{").unwrap();
    let plan = |words: &[&str]| {
        let program = fixture.sandbox.cc_warm(words).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        Ran::of(&program.run().unwrap())
    };
    plan(&["plan", "a"]).expect(1);
    plan(&["plan", "z"]).expect(14);
    plan(&["plan"]).expect(1);
}

#[test]
fn an_act_that_fails_on_the_way_there_is_settled() {
    matrix(Scenario::Forward, &["act.", "process.", "recipe."], "fail");
}

#[test]
fn an_act_that_fails_on_the_way_back_is_settled() {
    matrix(Scenario::Back, &["act.", "process.", "recipe."], "fail");
}

#[test]
fn an_act_that_fails_in_a_restore_by_hand_is_settled() {
    matrix(Scenario::Restore, &["act.", "process."], "fail");
}

#[test]
fn an_act_that_fails_in_a_failing_first_deployment_is_settled() {
    matrix(Scenario::FirstFails, &["act.", "process."], "fail");
}

#[test]
fn a_full_disk_at_any_write_on_the_way_there_is_settled() {
    matrix(Scenario::Forward, &["durable.", "journal."], "enospc");
}

#[test]
fn a_full_disk_at_any_write_on_the_way_back_is_settled() {
    matrix(Scenario::Back, &["durable.", "journal."], "enospc");
}

#[test]
fn a_kill_at_any_write_on_the_way_there_is_settled() {
    matrix(Scenario::Forward, &["durable."], "kill");
}

#[test]
fn a_kill_at_any_write_on_the_way_back_is_settled() {
    matrix(Scenario::Back, &["durable."], "kill");
}
