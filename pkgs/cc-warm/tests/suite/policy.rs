//! What the configuration says about when an app is touched at all.

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use serde_json::json;

use crate::fixture::{Fixture, Ran};
use crate::signals::Halted;

/// Runs cc-warm at a time of 6 March 2026, a Friday, in UTC.
fn run_at(fixture: &Fixture, time: &str, words: &[&str]) -> Ran {
    let now = format!("2026-03-06T{time}:00Z");
    Ran::of(&fixture.sandbox.cc_warm(words).env("CC_WARM_NOW", now).env("TZ", "UTC").run().unwrap())
}

#[test]
fn a_stateful_app_is_stopped_in_its_windows_only_unless_somebody_says_now() {
    let fixture = Fixture::running();
    let windows = json!([{ "days": ["fri"], "from": "02:00", "to": "05:00" }]);
    fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ "windows": windows })).unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let text = run_at(&fixture, "01:59", &["update"]).expect(0);
    assert!(text.contains("1.0.0+1 runs on: 1.1.0+2 waits for a window"), "{text}");
    assert!(text.contains("hint: cc-warm update --now notes"), "{text}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    let text = run_at(&fixture, "01:59", &["plan", "--no-diff"]).expect(0);
    assert!(text.contains("outside of its windows"), "{text}");
    run_at(&fixture, "02:00", &["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
    fixture.publish("1.2.0+3", 2, Behaviour::Healthy);
    run_at(&fixture, "12:00", &["update", "--now"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.2.0+3"));
}

#[test]
fn a_window_that_closes_while_the_update_is_prepared_is_closed() {
    let fixture = Fixture::running();
    let windows = json!([{ "days": ["fri"], "from": "02:00", "to": "05:00" }]);
    fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ "windows": windows })).unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let now = fixture.sandbox.dir().join("now");
    std::fs::write(&now, "2026-03-06T04:59:00Z").unwrap();
    let variables = [("CC_WARM_NOW_FILE", now.to_str().unwrap()), ("TZ", "UTC")];
    let update = Halted::with(&fixture, "snapshot.stage.copied=stop", &variables, &["update"]);
    std::fs::write(&now, "2026-03-06T05:00:00Z").unwrap();
    let said = update.goes_on().expect(0);
    assert!(said.contains("1.0.0+1 runs on: 1.1.0+2 waits for a window") && !said.contains("stopping"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn an_app_whose_runs_meet_no_window_for_a_week_is_told_of_until_one_does() {
    let fixture = Fixture::running();
    let windows = json!([{ "from": "02:00", "to": "05:00" }]);
    fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ "windows": windows })).unwrap();
    let run = |now: &str, words: &[&str]| {
        let program = fixture.sandbox.cc_warm(words).env("CC_WARM_NOW", format!("{now}:00Z")).env("TZ", "UTC");
        Ran::of(&program.run().unwrap())
    };
    let told = || {
        let alerts = fixture.alerts();
        alerts.matches("\"window-missed\"").count()
    };
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    run("2026-03-06T12:00", &["update"]).expect(0);
    let said = run("2026-03-06T13:00", &["status"]).expect(0);
    let waits = "1.1.0+2 waits for a window: no run has met one since 2026-03-06 12:00 UTC";
    assert!(said.contains(waits) && !said.contains("hint:"), "{said}");
    // Another one that waits does not make it wait anew.
    fixture.publish("1.2.0+2", 2, Behaviour::Healthy);
    run("2026-03-13T11:59", &["update"]).expect(0);
    // Nor is it a window that is missed while it is paused.
    run("2026-03-13T12:00", &["pause", APP]).expect(0);
    run("2026-03-13T12:00", &["update"]).expect(0);
    run("2026-03-13T12:00", &["resume", APP]).expect(0);
    assert_eq!(told(), 0);
    run("2026-03-13T12:00", &["update"]).expect(0);
    run("2026-03-14T12:00", &["update"]).expect(0);
    assert_eq!(told(), 1);
    let said = run("2026-03-14T13:00", &["status"]).text;
    assert!(said.contains("! notes") && said.contains("hint: cc-warm update --now notes"), "{said}");
    run("2026-03-15T03:00", &["update"]).expect(0);
    assert_eq!((told(), fixture.answering().as_deref()), (2, Some("1.2.0+2")), "it is over");
    assert!(!run("2026-03-15T04:00", &["status"]).expect(0).contains("window"));
}

#[test]
fn an_app_that_was_unhealthy_is_not_said_to_be_well_because_its_update_is_ignored() {
    let fixture = Fixture::running();
    let configure = |is_well: bool, ignore: &str| {
        fixture
            .sandbox
            .configure(|config| {
                if !is_well {
                    config["apps"][APP]["health"]["probes"][0]["http"]["url"] = json!("http://127.0.0.1:9/");
                }
                config["apps"][APP]["health"]["deadline"] = json!("1s");
                config["apps"][APP]["update"] = json!({ "ignore": [ignore] });
            })
            .unwrap();
    };
    let told = || {
        let alerts = fixture.alerts();
        alerts.matches("\"unhealthy-before-update\"").count()
    };
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    configure(false, "9.9.9+9");
    fixture.run(&["update"]).expect(1);
    configure(false, "1.1.0+2");
    let said = fixture.run(&["update"]).expect(1);
    assert!(said.contains("unhealthy"), "{said}");
    assert_eq!(told(), 1, "nothing is over");
    configure(true, "1.1.0+2");
    fixture.run(&["update"]).expect(0);
    assert_eq!(told(), 2);
}

#[test]
fn a_configuration_that_only_a_newer_cc_warm_can_use_takes_nothing_back() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let update = Halted::at(&fixture, &["journal.committed.after"], &["update"]);
    std::fs::write(fixture.sandbox.config(), r#"{ "format": 1, "apps": {}, "somethingNew": 1 }"#).unwrap();
    let said = update.goes_on().expect(0);
    assert!(said.contains("updated: 1.0.0+1 → 1.1.0+2") && said.contains("cannot be used by this cc-warm"), "{said}");
    // So that the app can be taken down.
    fixture.configure_deadline("2s");
}

#[test]
fn an_app_without_data_has_no_need_of_a_window() {
    let fixture = Fixture::running();
    let windows = json!([{ "from": "02:00", "to": "05:00" }]);
    fixture.configure_stateless(|config| config["apps"][APP]["update"]["windows"] = windows);
    fixture.publish("1.1.0+2", 1, Behaviour::Healthy);
    run_at(&fixture, "12:00", &["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn what_is_not_ensured_is_not_deployed() {
    let fixture = Fixture::empty();
    fixture.sandbox.configure(|config| config["apps"][APP]["ensure"] = json!(false)).unwrap();
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    let text = fixture.run(&["update"]).expect(0);
    assert!(text.contains("left alone: it is not deployed, and `ensure` is off"), "{text}");
    assert_eq!(fixture.answering(), None);
    let text = fixture.run(&["plan"]).expect(0);
    assert!(text.contains("adopted once somebody deploys it"), "{text}");
    fixture.sandbox.configure(|_| {}).unwrap();
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn a_data_warm_app_is_never_deployed_by_an_update() {
    let fixture = Fixture::empty();
    fixture.sandbox.configure(|config| config["apps"][APP]["warm"] = json!("data")).unwrap();
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering(), None);
    let text = fixture.run(&["update", APP]).expect(24);
    assert!(text.contains("app `notes` is data-warm") && text.contains("hint: "), "{text}");
    fixture.run(&["plan", APP]).expect(24);
    assert_eq!(fixture.answering(), None);
}

#[test]
fn a_configuration_that_changed_during_an_update_is_applied_after_it() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    // While it waits for the new version to be well, somebody switches: a probe does it here.
    let (config, next) = (fixture.sandbox.config(), fixture.sandbox.dir().join("next.json"));
    let probe = json!({ "command": { "argv": ["cp", &next, &config] } });
    let probes = |config: &mut serde_json::Value| {
        config["apps"][APP]["health"]["probes"].as_array_mut().unwrap().push(probe.clone());
    };
    let greet = |config: &mut serde_json::Value| config["apps"][APP]["env"]["GREETING"] = json!("hello");
    fixture.sandbox.configure(|config| (probes(config), greet(config)).1).unwrap();
    std::fs::rename(&config, &next).unwrap();
    fixture.sandbox.configure(probes).unwrap();
    let text = fixture.run(&["update"]).expect(0);
    assert!(text.contains("the configuration changed meanwhile: once more"), "{text}");
    let history = fixture.run(&["history", APP]).expect(0);
    assert!(history.contains("1.1.0+2 → 1.1.0+2"), "{history}");
}

#[test]
fn a_unit_reads_no_credential_of_the_configuration_before() {
    let fixture = Fixture::running();
    let file = |name: &str, text: &str| {
        let path = fixture.sandbox.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (before, after) = (file("before", "GREETING=old\n"), file("after", "GREETING=new\n"));
    let credentials = fixture.sandbox.dir().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::copy(&before, credentials.join("env-notes-0")).unwrap();
    // They are named by their place in the list.
    let configure = |source: &std::path::Path| {
        let files = json!([{ "credential": "env-notes-0", "path": source }]);
        fixture.sandbox.configure(|config| config["apps"][APP]["environmentFiles"] = files).unwrap();
    };
    configure(&before);
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let variables = [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())];
    let update = Halted::with(&fixture, "journal.committed.after=stop", &variables, &["update"]);
    configure(&after);
    let said = update.goes_on().expect(0);
    assert!(said.contains("the configuration changed meanwhile: once more"), "{said}");
    let kept = std::fs::read_dir(fixture.app_dir().join("env")).unwrap();
    let kept: Vec<String> = kept.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(kept.iter().any(|text| text.contains("new")), "{said}\n{kept:?}");
    assert!(fixture.run(&["update"]).expect(0).contains("up to date"));
}

#[test]
fn an_app_waits_for_the_one_before_it_while_that_is_worked_on() {
    let fixture = Fixture::running();
    fixture
        .sandbox
        .configure(|config| {
            let mut first = config["apps"][APP].clone();
            first["domain"] = json!("first.example.org");
            first["ensure"] = json!(false);
            config["apps"]["first"] = first;
            config["apps"][APP]["after"] = json!(["first"]);
        })
        .unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let lock = fixture.sandbox.state_dir().join("apps/first/lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let mut update = std::process::Command::new(fixture.sandbox.program())
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(["update", APP])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(update.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("waiting for `first`, which comes first: held by"), "{line}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    drop(held);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).unwrap();
    assert_eq!(update.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn of_apps_with_data_on_one_file_system_one_at_a_time_is_stopped() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(fixture.sandbox.volume().unwrap()).unwrap());
    let folder = fixture.sandbox.state_dir().join("stopped");
    std::fs::create_dir_all(&folder).unwrap();
    let held = std::fs::File::create(folder.join(device.to_string())).unwrap();
    held.lock().unwrap();
    let mut update = std::process::Command::new(fixture.sandbox.program())
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(["update", APP])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(update.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting: another app on the same file system is stopped") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "it did not wait");
    }
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    drop(held);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).unwrap();
    assert_eq!(update.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn resume_given_at_once_or_twice_takes_the_app_over_again() {
    let fixture = Fixture::running();
    fixture.run(&["undeploy", APP]).expect(0);
    for _ in 0..2 {
        let text = fixture.run(&["resume", APP]).expect(0);
        assert!(text.contains("taken over again") && text.contains("hint: cc-warm update notes"), "{text}");
    }
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn what_is_undeployed_is_not_said_to_be_well_until_it_runs_again() {
    for fault in ["", "process.stop.recorded=kill"] {
        let fixture = Fixture::running();
        // Killed, it writes nothing down of what it did.
        fixture.run_with_fault(fault, &["undeploy", APP]);
        let says = |note: &str, hint: &str| {
            let status = fixture.status();
            assert_eq!(status["ok"], json!(false), "{status}");
            assert!(status["notes"][0].as_str().unwrap().contains(note), "{status}");
            assert_eq!(status["hints"], json!([hint]), "{status}");
        };
        says("undeployed by somebody", "cc-warm resume notes");
        let said = fixture.run(&["resume", APP]).expect(0);
        assert!(said.contains("taken over again"), "{said}");
        says("taken over again, but not started yet", "cc-warm update notes");
        fixture.run(&["update"]).expect(0);
        assert_eq!(fixture.status()["ok"], json!(true));
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    }
}

#[test]
fn a_changed_environment_waits_where_the_one_of_what_runs_is_lost() {
    let fixture = Fixture::running();
    let with_env = |value: &str| {
        fixture.sandbox.configure(|config| config["apps"][APP]["env"]["GREETING"] = json!(value)).unwrap();
    };
    with_env("hunter2");
    fixture.run(&["update"]).expect(0);
    for entry in std::fs::read_dir(fixture.app_dir().join("env")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    with_env("hunter3");
    let said = fixture.run(&["update"]).expect(10);
    assert!(said.contains("the environment that 1.0.0+1 runs with is not known any more"), "{said}");
    fixture.run(&["approve", APP, "1.0.0+1"]);
    let said = said + &fixture.run(&["update"]).expect(10) + &fixture.run(&["plan"]).text;
    assert!(!said.contains("hunter"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    with_env("hunter2");
    fixture.run(&["update"]).expect(0);
}
