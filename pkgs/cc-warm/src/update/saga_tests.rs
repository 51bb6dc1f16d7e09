//! The transition table and the recovery plan, explored exhaustively.

use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;

use super::samples::{begun, identity};
use super::*;
use crate::update::recovery::{Plan, is_left_over, plan};

/// One event of each name.
fn every_event() -> Vec<Event> {
    let id = || SnapshotId::new("s");
    let text = || Untrusted::new("x");
    let all = vec![
        Event::Begun(Box::new(begun())),
        Event::Stopping,
        Event::Snapshotting { id: id() },
        Event::Snapshotted { id: id(), stopped: Stopped::Clean },
        Event::Deploying,
        Event::Deployed { generation: "g2".to_owned() },
        Event::Healthy,
        Event::Committed,
        Event::RollingBack { cause: Cause::Failed, reason: text() },
        Event::Restoring { id: id() },
        Event::Exchanging(Exchange::sample("data")),
        Event::DiscardingFailed,
        Event::Restored,
        Event::Redeploying,
        Event::RolledBack,
        Event::Stuck { reason: text(), data: LiveData::Failed, running: None, damaged: false },
        Event::Released { by: text() },
    ];
    assert_eq!(all.iter().map(Event::name).collect::<Vec<_>>(), EventName::ALL);
    all
}

/// What a stuck app's data may be, and whether a version fits it.
const WAS_STUCK_ON: [(LiveData, bool); 5] = [
    (LiveData::Untouched, true),
    (LiveData::Snapshot, true),
    (LiveData::Failed, false),
    (LiveData::Mixed, false),
    (LiveData::Discarded, false),
];

/// Every sort of operation there is.
fn starts() -> Vec<Begun> {
    let mut all = Vec::new();
    for kind in [Kind::Update, Kind::FirstDeploy, Kind::Snapshot, Kind::Restore, Kind::Restart] {
        for stateful in [true, false] {
            for stuck in [true, false] {
                let mut one = Begun { kind, stateful, ..begun() };
                match kind {
                    Kind::FirstDeploy if stateful || stuck => continue,
                    Kind::FirstDeploy => one.from = None,
                    Kind::Restore | Kind::Restart if stuck => {
                        one.from = None;
                        one.was_stuck = Some(Untrusted::new("before"));
                        for (data, fits) in WAS_STUCK_ON {
                            let fits = fits.then(|| identity("0.9.0+1"));
                            all.push(Begun { stuck_on: Some(StuckOn { data, fits }), ..one.clone() });
                        }
                    }
                    _ if stuck => continue,
                    _ => {}
                }
                all.push(one);
            }
        }
    }
    all
}

type State = (Progress, Vec<EventName>);

/// Every state that any sequence of legal events leads to, and the way to it.
fn reachable() -> &'static [State] {
    static STATES: LazyLock<Vec<State>> = LazyLock::new(explore);
    &STATES
}

/// All that a transition or a plan looks at.
fn key(progress: &Progress) -> impl Ord + use<> {
    let begun = &progress.begun;
    let stuck_on = begun.stuck_on.as_ref().map(|on| on.data as u8);
    let about = (begun.kind as u8, begun.stateful, begun.from.is_some(), begun.was_stuck.is_some(), stuck_on);
    let exchanged: Vec<String> = progress.exchanges.iter().map(|exchange| exchange.volume.clone()).collect();
    let so_far =
        (progress.snapshotted, progress.touched, progress.restored, progress.back.is_some(), progress.discarding);
    (about, progress.last, progress.snapshot.clone(), so_far, exchanged)
}

fn explore() -> Vec<State> {
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    let mut queue: VecDeque<_> = starts()
        .into_iter()
        .map(|begun| (Progress::start(Event::Begun(Box::new(begun))).unwrap(), vec![EventName::Begun]))
        .collect();
    while let Some((progress, path)) = queue.pop_front() {
        if !known.insert(key(&progress)) {
            continue;
        }
        for event in every_event() {
            if let Ok(next) = progress.clone().apply(event.clone()) {
                let mut path = path.clone();
                path.push(event.name());
                queue.push_back((next, path));
            }
        }
        found.push((progress, path));
    }
    assert!(found.len() > 100, "the search found only {} states", found.len());
    found
}

#[test]
fn every_event_can_happen() {
    let seen: BTreeSet<EventName> = reachable().iter().map(|(progress, _)| progress.last).collect();
    assert_eq!(seen.len(), EventName::ALL.len());
}

#[test]
fn older_code_is_never_started_on_touched_data() {
    for (progress, path) in reachable() {
        if progress.last == EventName::Redeploying {
            assert!(!progress.touched || !progress.begun.stateful || progress.restored, "{path:?}");
        }
    }
}

#[test]
fn a_restore_starts_its_version_only_on_its_data() {
    for (progress, path) in reachable() {
        let begun = &progress.begun;
        if begun.kind == Kind::Restore && progress.last == EventName::Redeploying {
            let wanted = if progress.restored { Some(&begun.to) } else { begun.from.as_ref() };
            assert_eq!(progress.back_to(), wanted, "{path:?}");
        }
        if begun.kind == Kind::Restore && progress.live_data().fits() && !progress.restored {
            assert_ne!(progress.back_to(), Some(&begun.to), "{path:?}");
        }
    }
}

#[test]
fn what_changes_nothing_leaves_the_data_of_a_stuck_app_what_it_was() {
    for (progress, path) in reachable() {
        let Some(on) = &progress.begun.stuck_on else { continue };
        if progress.exchanges.is_empty() && !progress.discarding && !progress.restored {
            assert_eq!(progress.live_data(), on.data, "{path:?}");
            if progress.begun.kind == Kind::Restore {
                assert_eq!(progress.back_to(), on.fits.as_ref(), "{path:?}");
            }
        }
    }
}

#[test]
fn good_data_is_never_given_up_for_a_restore_by_hand() {
    for (progress, path) in reachable() {
        let good = progress.begun.stuck_on.as_ref().map_or(progress.begun.was_stuck.is_none(), |on| on.data.fits());
        if progress.begun.kind == Kind::Restore && good && progress.exchanges.is_empty() && !progress.discarding {
            assert!(!progress.may_discard(), "{path:?}");
        }
    }
}

#[test]
fn the_first_record_of_an_earlier_program_is_read_as_the_worse_unless_it_restarts() {
    for (kind, data) in [(Kind::Restore, LiveData::Failed), (Kind::Restart, LiveData::Untouched)] {
        let begun = Begun { kind, from: None, was_stuck: Some(Untrusted::new("before")), ..begun() };
        let written = serde_json::to_value(&begun).unwrap();
        assert!(written.get("stuck_on").is_none() && written.get("stuckOn").is_none(), "{written}");
        let read: Begun = serde_json::from_value(written).unwrap();
        assert_eq!(Progress::start(Event::Begun(Box::new(read))).unwrap().live_data(), data);
    }
}

#[test]
fn what_went_back_is_never_committed_and_terminal_events_end_it() {
    for (progress, path) in reachable() {
        if progress.last == EventName::Committed {
            assert!(progress.back.is_none(), "{path:?}");
        }
        if progress.is_terminal() {
            for event in every_event() {
                progress.clone().apply(event).unwrap_err();
            }
        }
    }
}

#[test]
fn a_stop_is_an_obligation() {
    for (progress, path) in reachable() {
        let plan = plan(progress);
        if path.contains(&EventName::Stopping) {
            assert_ne!(plan, Plan::Close, "{path:?}");
        }
    }
}

#[test]
fn the_first_event_of_every_plan_is_legal_where_it_is_made() {
    let id = SnapshotId::new("s");
    for (progress, path) in reachable() {
        let back = || Event::RollingBack { cause: Cause::Interrupted, reason: Untrusted::new("x") };
        let can = |event: Event| progress.clone().apply(event).is_ok();
        let fits = match plan(progress) {
            Plan::Close | Plan::Finish | Plan::LeaveStuck => true,
            Plan::StartPrior => {
                can(back()) || can(Event::Redeploying) || (can(Event::RolledBack) && progress.begun.from.is_none())
            }
            Plan::GoBack => {
                can(back())
                    || can(Event::Restoring { id: id.clone() })
                    || matches!(progress.last, EventName::Exchanging | EventName::DiscardingFailed)
            }
            Plan::StartRestored => can(Event::Redeploying),
            Plan::Undeploy => can(back()) || can(Event::RolledBack),
            Plan::Commit => can(Event::Committed),
            Plan::StuckAgain => {
                can(Event::Stuck { reason: Untrusted::new("x"), data: LiveData::Failed, running: None, damaged: false })
            }
        };
        assert!(fits, "{path:?}: {:?}", plan(progress));
    }
}

#[test]
fn recovery_is_as_the_design_says() {
    let mut table: BTreeSet<(EventName, bool, String)> = BTreeSet::new();
    for (progress, _) in reachable() {
        if progress.begun.kind == Kind::Update && progress.begun.stateful {
            table.insert((progress.last, progress.touched, format!("{:?}", plan(progress))));
        }
    }
    let text: String = table
        .iter()
        .map(|(event, touched, plan)| {
            format!("{} {}: {plan}\n", event.as_str(), if *touched { "touched" } else { "untouched" })
        })
        .collect();
    insta::assert_snapshot!(text, @r"
    begun untouched: Close
    stopping untouched: StartPrior
    snapshotting untouched: StartPrior
    snapshotted untouched: StartPrior
    deploying touched: GoBack
    deployed touched: GoBack
    healthy touched: Commit
    committed touched: Finish
    rolling-back untouched: StartPrior
    rolling-back touched: GoBack
    restoring touched: GoBack
    exchanging touched: GoBack
    discarding-failed touched: GoBack
    restored touched: StartRestored
    redeploying untouched: StartRestored
    redeploying touched: StartRestored
    rolled-back untouched: Finish
    rolled-back touched: Finish
    stuck untouched: LeaveStuck
    stuck touched: LeaveStuck
    released untouched: Finish
    released touched: Finish
    ");
}

#[test]
fn only_what_was_there_when_it_became_stuck_is_taken_down() {
    let stuck = |begun: Begun, running: Option<&str>| {
        let mut progress = Progress::start(Event::Begun(Box::new(begun))).unwrap();
        progress.deployed = Some("target".to_owned());
        progress.last = EventName::Redeploying;
        let running = running.map(str::to_owned);
        progress
            .apply(Event::Stuck { reason: Untrusted::new("x"), data: LiveData::Snapshot, running, damaged: false })
            .unwrap()
    };
    let before = stuck(Begun { was_stuck: Some(Untrusted::new("before")), ..begun() }, None);
    for (progress, generation, expected) in [
        (stuck(begun(), Some("prior")), "prior", true),
        // Put up again by whoever: what was found, and the target.
        (stuck(begun(), None), "g", true),
        (stuck(begun(), None), "target", true),
        // An operator's deployment, of whatever version.
        (stuck(begun(), Some("prior")), "by hand", false),
        (stuck(begun(), None), "by hand", false),
        // What an operation on a stuck app found was an operator's.
        (before, "g", false),
    ] {
        assert_eq!(is_left_over(&progress, generation), expected, "{generation} after {:?}", progress.left);
    }
}

#[test]
fn a_stuck_event_of_an_earlier_program_names_no_generation_and_no_damage() {
    let written = serde_json::json!({ "stuck": { "reason": "x", "data": "failed" } });
    let stuck = Event::Stuck { reason: Untrusted::new("x"), data: LiveData::Failed, running: None, damaged: false };
    assert_eq!(serde_json::to_value(&stuck).unwrap(), written);
    assert_eq!(serde_json::from_value::<Event>(written).unwrap(), stuck);
}
