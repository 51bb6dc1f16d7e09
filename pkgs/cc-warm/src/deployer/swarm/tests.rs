//! Against what a real dockerd said (20.10, asked by docker 28), recorded in `recorded/`.

use super::*;
use crate::deployer::Convergence;

#[derive(Deserialize)]
struct Recording {
    /// When it was asked.
    at: Timestamp,
    services: Vec<Service>,
    tasks: Vec<Task>,
}

fn recorded(name: &str) -> Recording {
    let path = format!("{}/src/deployer/swarm/recorded/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn earlier(at: Timestamp, seconds: i64) -> Timestamp {
    at - jiff::SignedDuration::from_secs(seconds)
}

/// In one word, and what is said with it.
fn judged(name: &str, age: Option<i64>) -> (&'static str, String) {
    let Recording { at, services, tasks } = recorded(name);
    let since = age.map(|age| earlier(at, age));
    match convergence(&services, &tasks, since, at) {
        Convergence::Converged => ("converged", String::new()),
        Convergence::Starting(text) => ("starting", text.raw().to_owned()),
        Convergence::Died(text) => ("died", text.raw().to_owned()),
        Convergence::Down => ("down", String::new()),
    }
}

#[test]
fn tells_how_far_a_stack_is() {
    for (name, age, state, says) in [
        ("starting", Some(1), "starting", "abrec_app has 0 of 1 running (preparing)"),
        ("running", Some(60), "converged", ""),
        // The old task still runs, or is just going.
        ("leftover", Some(1), "starting", "abrec_app is being updated"),
        ("updated", Some(60), "converged", ""),
        // The swarm gave up what is deployed now…
        ("rolled-back", Some(25), "died", "given up by the swarm (rollback_completed)"),
        ("paused", Some(15), "died", "given up by the swarm (paused): update paused due to failure"),
        // …or what was deployed before: `paused` and the like stay.
        ("rolled-back", Some(1), "converged", ""),
        ("paused", Some(1), "starting", "abrec_app has"),
        ("after-paused", Some(10), "converged", ""),
        ("after-paused", None, "converged", ""),
        // A crash loop needs some time to be one: many an app only waits for its database.
        ("crashing", Some(15), "starting", "before that: failed (task: non-zero exit (3))"),
        ("crashing", Some(60), "died", "fails again and again"),
        ("no-image", Some(60), "died", "No such image: nosuch:1"),
    ] {
        let (found, text) = judged(name, age);
        assert_eq!(found, state, "{name}: {text}");
        assert!(text.contains(says), "{name}: {text}");
    }
}

#[test]
fn a_swarm_that_begins_to_roll_back_has_given_up() {
    let Recording { at, mut services, tasks } = recorded("rolled-back");
    for service in &mut services {
        if let Some(status) = &mut service.update_status {
            status.state = "rollback_started".to_owned();
        }
    }
    let state = convergence(&services, &tasks, Some(earlier(at, 25)), at);
    assert!(matches!(&state, Convergence::Died(text) if text.raw().contains("(rollback_started)")), "{state:?}");
    // One of a deployment before is waited for.
    let state = convergence(&services, &tasks, Some(earlier(at, 1)), at);
    assert!(matches!(&state, Convergence::Starting(text) if text.raw().contains("is being updated")), "{state:?}");
}

#[test]
fn a_task_of_the_spec_before_counts_for_nothing() {
    let Recording { at, mut services, tasks } = recorded("leftover");
    let app = services.iter().position(|service| service.name() == "abrec_app").unwrap();
    let own: Vec<&Task> = tasks.iter().filter(|task| task.service_id == services[app].id).collect();
    let current: Vec<bool> = own.iter().map(|task| is_of(&services[app], task)).collect();
    assert!(current.contains(&true) && current.contains(&false), "{current:?}");
    // Even where docker says nothing of the update.
    services[app].update_status = None;
    let still: Vec<bool> = own.iter().map(|task| is_of(&services[app], task)).collect();
    assert_eq!(still, current);
    // N of N, but of the old spec.
    let old: Vec<Task> = tasks
        .iter()
        .filter(|task| task.service_id != services[app].id || !is_of(&services[app], task))
        .cloned()
        .map(|task| Task { desired_state: "running".to_owned(), ..task })
        .collect();
    let state = convergence(&services, &old, Some(at), at);
    assert!(matches!(&state, Convergence::Starting(text) if text.raw().contains("0 of 1")), "{state:?}");
}

#[test]
fn every_running_task_is_of_its_service_whatever_docker_fills_in() {
    for name in ["running", "updated", "after-paused", "rolled-back"] {
        let Recording { mut services, tasks, .. } = recorded(name);
        for service in &mut services {
            // Only the comparison of specs is left to tell.
            service.update_status = Some(UpdateStatus::default());
            let running = tasks.iter().filter(|task| task.service_id == service.id && task.status.state == "running");
            for task in running {
                assert!(is_of(service, task), "{name}: {}", service.name());
            }
        }
    }
}

#[test]
fn the_generation_changes_with_the_spec_and_with_nothing_else() {
    let marks = |name: &str| -> BTreeMap<String, String> {
        recorded(name).services.iter().map(|service| (service.id.clone(), service.mark())).collect()
    };
    let [running, leftover, updated] = ["running", "leftover", "updated"].map(|name| generation(&marks(name)));
    assert_ne!(running, leftover, "a deployment");
    assert_eq!(leftover, updated, "an update that goes on");
    let mut other = marks("running");
    let (id, mark) = other.pop_first().unwrap();
    other.insert(format!("{id}x"), mark);
    assert_ne!(running, generation(&other), "removed, and made again");
}

#[test]
fn reads_the_labels_of_chaos_deployments_and_of_others() {
    let services = recorded("running").services;
    let found = labels("abrec", &services).unwrap();
    assert_eq!((found.version.as_str(), found.chaos.as_deref()), ("1.0.0+1", Some("0123abcd")));
    assert_eq!(labels("other", &services), None);
    let service = |pairs: &[(&str, &str)]| {
        let labels: BTreeMap<String, &str> =
            pairs.iter().map(|(key, value)| (format!("coop-cloud.s.{key}"), *value)).collect();
        vec![Service { spec: serde_json::json!({ "Name": "s_app", "Labels": labels }), ..Service::default() }]
    };
    for (pairs, chaos) in [
        (&[("version", "1")][..], None),
        (&[("version", "1"), ("chaos", "false")], None),
        (&[("version", "1"), ("chaos", "false"), ("chaos-version", "abc")], None),
        (&[("version", "1"), ("chaos", "true"), ("chaos-version", "abc")], Some("abc")),
        (&[("version", "1"), ("chaos", "true"), ("chaosVersion", "abc+U")], Some("abc+U")),
        // Chaos of which nothing is said is no clean deployment.
        (&[("version", "1"), ("chaos", "true")], Some("")),
        (&[("version", "1"), ("chaos-version", "abc")], Some("abc")),
    ] {
        assert_eq!(labels("s", &service(pairs)).unwrap().chaos.as_deref(), chaos, "{pairs:?}");
    }
}

#[test]
fn knows_what_a_service_uses() {
    let services = recorded("running").services;
    let app = services.iter().find(|service| service.name() == "abrec_app").unwrap();
    assert_eq!(app.image(), Some("bb:1"));
    assert_eq!(app.volumes(), BTreeSet::from(["abrec_data".to_owned()]));
    assert!(!app.was_rolled_back());
    assert!(recorded("rolled-back").services.iter().any(Service::was_rolled_back));
}

#[test]
fn a_docker_that_is_not_ready_says_nothing_of_an_app() {
    let ready = serde_json::json!({ "NodeID": "n", "LocalNodeState": "active", "ControlAvailable": true });
    let info = |swarm: Value| {
        serde_json::from_value::<Info>(serde_json::json!({ "ServerVersion": "28", "Swarm": swarm })).unwrap()
    };
    let node = |state: &str| Node { status: NodeStatus { state: state.to_owned() }, ..Node::default() };
    assert_eq!(info(ready.clone()).not_ready(Some(&node("ready"))), None);
    assert!(info(ready).not_ready(Some(&node("down"))).unwrap().contains("`down`"));
    for (swarm, says) in [
        (serde_json::json!({ "LocalNodeState": "inactive" }), "not part of a swarm"),
        (serde_json::json!({ "LocalNodeState": "pending" }), "still loading"),
        (serde_json::json!({ "LocalNodeState": "locked" }), "locked"),
        (serde_json::json!({ "LocalNodeState": "error", "Error": "x" }), "`error`: x"),
        (serde_json::json!({ "LocalNodeState": "active" }), "no manager"),
        (
            serde_json::json!({ "LocalNodeState": "active", "ControlAvailable": true, "Error": "no leader" }),
            "no leader",
        ),
        (serde_json::json!({}), "not part of a swarm"),
    ] {
        let why = info(swarm.clone()).not_ready(Some(&node("ready"))).unwrap();
        assert!(why.contains(says), "{swarm}: {why}");
    }
    let down: Info = serde_json::from_value(serde_json::json!({ "ServerErrors": ["Cannot connect"] })).unwrap();
    assert!(down.not_ready(None).unwrap().contains("Cannot connect"));
    // docker 28 says it on stderr, and prints an object full of nothing.
    let nothing: Info = serde_json::from_value(serde_json::json!({ "Swarm": { "LocalNodeState": "" } })).unwrap();
    assert_eq!(nothing.not_ready(None).unwrap(), "docker does not answer");
}

#[test]
fn tasks_on_another_node_are_told_by_their_service() {
    let Recording { services, tasks, .. } = recorded("running");
    let here = tasks.iter().find(|task| !task.node_id.is_empty()).unwrap().node_id.clone();
    assert_eq!(elsewhere(&here, &services, &tasks), BTreeSet::new());
    assert!(elsewhere("another", &services, &tasks).contains("abrec_app"));
}

#[test]
fn tells_jobs_and_services_of_no_task() {
    let now = Timestamp::UNIX_EPOCH;
    let service = |mode: Value| Service {
        id: "s".to_owned(),
        spec: serde_json::json!({ "Name": "s", "Mode": mode, "TaskTemplate": {} }),
        ..Service::default()
    };
    let task = |state: &str| Task {
        service_id: "s".to_owned(),
        status: TaskStatus { state: state.to_owned(), ..TaskStatus::default() },
        desired_state: "shutdown".to_owned(),
        ..Task::default()
    };
    let job = service(serde_json::json!({ "ReplicatedJob": { "TotalCompletions": 1 } }));
    assert!(matches!(convergence(std::slice::from_ref(&job), &[], None, now), Convergence::Starting(_)));
    assert_eq!(convergence(&[job], &[task("complete")], None, now), Convergence::Converged);
    let none = service(serde_json::json!({ "Replicated": { "Replicas": 0 } }));
    assert_eq!(convergence(&[none], &[], None, now), Convergence::Converged);
    let one = service(serde_json::json!({ "Replicated": { "Replicas": 1 } }));
    assert!(matches!(convergence(std::slice::from_ref(&one), &[], None, now), Convergence::Starting(_)));
    // The swarm has no task any more that it would start.
    assert!(matches!(convergence(&[one], &[task("failed")], None, now), Convergence::Died(_)));
}
