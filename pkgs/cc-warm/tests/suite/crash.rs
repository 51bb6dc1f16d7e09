//! The crash matrix: cc-warm is killed at every event of the journal, before and after its act, in every direction, and
//! then recovers, or is killed once more on the way. After each, the design's invariants must hold, by the app's real
//! data and process.
//!
//! Derived from what each scenario really passes through, and checked against the list of events: a new event that no
//! scenario reaches fails the test.

use std::collections::BTreeSet;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use cc_warm::update::saga::EventName;
use rayon::prelude::*;

use crate::fixture::{Fixture, NEVER_WELL, NOTES, Ran};

/// One operation that is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// An update that is healthy.
    Forward,
    /// An update that is not, and goes back.
    Back,
    /// An update that is not, and there is no room for its data beside the snapshot's.
    Cramped,
    /// The prior version does not come up again either: stuck.
    Stuck,
    /// Nothing was there before.
    First,
    /// Nothing was there before, and it is not healthy.
    FirstFails,
    /// A known-good by hand.
    Snapshot,
    /// A snapshot back by hand.
    Restore,
    /// Somebody else deploys in the middle.
    Released,
}

const SCENARIOS: [Scenario; 9] = [
    Scenario::Forward,
    Scenario::Back,
    Scenario::Cramped,
    Scenario::Stuck,
    Scenario::First,
    Scenario::FirstFails,
    Scenario::Snapshot,
    Scenario::Restore,
    Scenario::Released,
];

impl Scenario {
    /// A sandbox right before the operation.
    pub(crate) fn prepare(self) -> Fixture {
        let fixture = match self {
            Self::First => {
                let fixture = Fixture::empty();
                fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
                return fixture;
            }
            Self::FirstFails => {
                let fixture = Fixture::empty();
                fixture.publish("1.1.0+2", 2, Behaviour::Broken);
                return fixture;
            }
            _ => Fixture::running(),
        };
        match self {
            Self::Forward => fixture.publish("1.1.0+2", 2, Behaviour::Healthy),
            Self::Back | Self::Cramped | Self::Stuck | Self::Released => {
                fixture.publish("1.1.0+2", 2, Behaviour::Broken);
            }
            Self::Restore => {
                fixture.run(&["snapshot", APP]).expect(0);
                fixture.sandbox.write_note("after the snapshot").unwrap();
            }
            Self::First | Self::FirstFails | Self::Snapshot => {}
        }
        fixture
    }

    pub(crate) fn command(self) -> &'static [&'static str] {
        match self {
            Self::Snapshot => &["snapshot", APP],
            Self::Restore => &["restore", APP, "--yes"],
            _ => &["update", APP],
        }
    }

    /// Faults that the scenario itself is made of.
    fn faults(self) -> &'static str {
        match self {
            Self::Cramped => "snapshot.build.begun#1=enospc,snapshot.build.begun#2=enospc",
            Self::Stuck => NEVER_WELL,
            Self::Released => "act.taken-over=fail",
            _ => "",
        }
    }

    /// What it exits with when nothing cuts it short.
    fn exit(self) -> i32 {
        match self {
            Self::Forward | Self::First | Self::Snapshot | Self::Restore => 0,
            Self::Back | Self::Cramped | Self::FirstFails => 11,
            Self::Stuck => 12,
            Self::Released => 1,
        }
    }

    /// The points that it passes, in order, each time.
    pub(crate) fn trace(self) -> Vec<String> {
        let fixture = self.prepare();
        let trace = fixture.sandbox.dir().join("trace");
        let output = fixture
            .sandbox
            .cc_warm(self.command())
            .env("CC_WARM_FAULT", self.faults())
            .env("CC_WARM_FAULT_TRACE", &trace)
            .run()
            .unwrap();
        Ran::of(&output).expect(self.exit());
        std::fs::read_to_string(trace).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    /// The points of the journal and of the acts that it passes, in order.
    fn points(self) -> Vec<String> {
        // A point that the scenario itself makes fail has its kill before and after, at events.
        let own: Vec<&str> = self.faults().split(['#', '=', ',']).collect();
        let mut seen = BTreeSet::new();
        self.trace()
            .into_iter()
            .filter(|point| ["journal.", "act.", "snapshot.", "process."].iter().any(|kind| point.starts_with(kind)))
            .filter(|point| !own.contains(&point.as_str()))
            .filter(|point| seen.insert(point.clone()))
            .collect()
    }
}

#[test]
fn every_event_is_reached_by_some_scenario() {
    let reached: BTreeSet<String> = SCENARIOS.par_iter().flat_map(|scenario| scenario.points()).collect();
    for event in EventName::ALL {
        for when in ["before", "after"] {
            let point = format!("journal.{}.{when}", event.as_str());
            assert!(reached.contains(&point), "no scenario reaches {point}");
        }
    }
}

/// Cuts the scenario at each of its points and lets it recover; at each, a second kill comes at another point of the
/// recovery.
fn matrix(scenario: Scenario) {
    let points = scenario.points();
    assert!(points.len() > 10, "{scenario:?} passes only {points:?}");
    // Nearly all of it is waiting for the app to be well, or not to be.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let failures: Vec<String> = pool.install(|| {
        points
            .par_iter()
            .enumerate()
            .filter_map(|(index, point)| {
                std::panic::catch_unwind(|| cut_and_recover(scenario, point, index)).err().map(|panic| {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    format!("{scenario:?} killed at {point}:\n{text}")
                })
            })
            .collect()
    });
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), points.len(), failures.join("\n\n"));
}

fn cut_and_recover(scenario: Scenario, point: &str, index: usize) {
    let fixture = scenario.prepare();
    let had_known_good = fixture.status()["knownGood"].is_object();
    let faults = format!("{}{}{point}=kill", scenario.faults(), if scenario.faults().is_empty() { "" } else { "," });
    let cut = fixture.run_with_fault(&faults, scenario.command());
    assert_eq!(cut.code, None, "it was not killed: {}", cut.text);
    if had_known_good {
        fixture.run(&["verify", APP]).expect(0);
    }
    // The second kill, somewhere in the recovery.
    fixture.run_with_fault(&format!("journal.*#{}=kill", 1 + index % 5), &["recover", APP]);
    if had_known_good {
        fixture.run(&["verify", APP]).expect(0);
    }
    let recovered = fixture.run(&["recover", APP]);
    assert!(matches!(recovered.code, Some(0 | 1 | 11 | 13)), "{}", recovered.text);
    if recovered.code == Some(13) {
        // Stuck, and said so before the kill: down, its known-good whole, and an operator brings it back.
        assert_eq!((scenario, fixture.answering()), (Scenario::Stuck, None), "{}", recovered.text);
        assert_eq!(fixture.run(&["update", APP]).code, Some(13));
        fixture.run(&["restore", APP, "--yes"]).expect(0);
    }
    check_invariants(scenario, &fixture, &recovered.text);
}

/// What must hold after a recovery.
fn check_invariants(scenario: Scenario, fixture: &Fixture, said: &str) {
    let status = fixture.status();
    let evidence = || format!("{said}\n{status:#}\n{}\n{}", fixture.journal(), app_log(fixture));
    let running = fixture.answering();
    match scenario {
        Scenario::First | Scenario::FirstFails => {
            assert!(running.is_none() || running.as_deref() == Some("1.1.0+2"), "{}", evidence());
        }
        _ => {
            if scenario == Scenario::Released && fixture.run(&["history", APP]).text.contains("released") {
                // Whoever took over has it; nothing more was touched.
                assert_eq!(fixture.journal(), "");
                fixture.run(&["verify", APP]).expect(0);
                return;
            }
            let notes = fixture.sandbox.notes().unwrap_or_else(|error| panic!("{error}: {}", evidence()));
            assert_eq!(notes[..2], NOTES, "{}", evidence());
            let wanted: &[&str] = if scenario == Scenario::Forward { &["1.0.0+1", "1.1.0+2"] } else { &["1.0.0+1"] };
            assert!(running.as_deref().is_some_and(|version| wanted.contains(&version)), "{running:?} {}", evidence());
        }
    }
    assert_eq!(fixture.journal(), "", "the journal is still there");
    assert_ne!(status["state"], "died", "{}", evidence());
    assert!(!app_log(fixture).contains("refuse"), "old code met new data: {}", evidence());
    // Going on from here ends where it should, whatever happened.
    let again = fixture.run(&["update", APP]);
    match scenario {
        Scenario::Forward | Scenario::First => {
            // Two cuts of one identity reject it; then nothing more is tried.
            assert_eq!(again.code, Some(0), "{} {}", again.text, evidence());
        }
        Scenario::Back | Scenario::Cramped | Scenario::Stuck => {
            assert!(matches!(again.code, Some(0 | 11)), "{} {}", again.text, evidence());
        }
        _ => assert!(matches!(again.code, Some(0 | 10 | 11)), "{} {}", again.text, evidence()),
    }
    if !matches!(scenario, Scenario::First | Scenario::FirstFails) {
        assert_eq!(fixture.sandbox.notes().unwrap()[..2], NOTES);
        fixture.run(&["verify", APP]).expect(0);
    }
    let alerts = fixture.alerts();
    let mut told = BTreeSet::new();
    for alert in alerts.lines().filter(|line| line.contains("\"rolled-back\"")) {
        assert!(told.insert(alert.to_owned()), "told twice: {alert}");
    }
}

/// What the app itself wrote.
pub(crate) fn app_log(fixture: &Fixture) -> String {
    let path = fixture.sandbox.state_dir().join("process/apps").join(APP).join("log");
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_healthy_update_killed_anywhere_is_settled() {
    matrix(Scenario::Forward);
}

#[test]
fn a_rollback_killed_anywhere_is_settled() {
    matrix(Scenario::Back);
}

#[test]
fn a_rollback_without_room_killed_anywhere_is_settled() {
    matrix(Scenario::Cramped);
}

#[test]
fn a_first_deployment_killed_anywhere_is_settled() {
    matrix(Scenario::First);
}

#[test]
fn a_failing_first_deployment_killed_anywhere_is_settled() {
    matrix(Scenario::FirstFails);
}

#[test]
fn a_snapshot_by_hand_killed_anywhere_is_settled() {
    matrix(Scenario::Snapshot);
}

#[test]
fn a_restore_by_hand_killed_anywhere_is_settled() {
    matrix(Scenario::Restore);
}

#[test]
fn a_failing_way_back_killed_anywhere_is_settled() {
    matrix(Scenario::Stuck);
}

#[test]
fn a_release_to_an_operator_killed_anywhere_is_settled() {
    matrix(Scenario::Released);
}
