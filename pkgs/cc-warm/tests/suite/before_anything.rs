//! Errors before anything began. Systemd takes their exit code for a success, so whoever is to know of them is told.

use std::path::Path;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::screen::Screen;

/// An update that ends in an error each time, since the command whose answer must stay the same has none.
fn failing(screen: &Screen) {
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let continuity = json!({ "argv": ["/bin/false"] });
    screen.fixture.sandbox.configure(|config| config["apps"][APP]["health"]["continuity"] = continuity).unwrap();
}

#[test]
fn an_error_is_told_and_shown_until_an_update_gets_through() {
    let mut screen = Screen::running();
    failing(&screen);
    let said = screen.shows(&["update"]);
    assert!(said.ends_with("[exit 1]\n"), "{said}");
    let alerts = screen.alerts();
    assert!(alerts.contains("(update-failed, warning)") && alerts.contains("hint: cc-warm update notes"), "{alerts}");
    let status = screen.fixture.status();
    assert_eq!(status["ok"], false, "{status}");
    assert!(status["notes"][0].as_str().unwrap().starts_with("its last update ended in an error: "), "{status}");
    screen.shows(&["update"]);
    assert_eq!(screen.alerts(), "", "it stands already");
    let history = screen.fixture.run(&["history", APP]).expect(0);
    assert_eq!(history.matches("update       failed").count(), 1, "{history}");
    screen.fixture.sandbox.configure(|_| {}).unwrap();
    screen.fixture.run(&["update"]).expect(0);
    assert!(screen.alerts().contains("resolved: notes: its update ended in an error"), "{}", screen.alerts());
    assert_eq!(screen.fixture.status()["ok"], true);
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.1.0+2"));
}

/// Leaves the app in `folder` as a boot would.
fn boot(folder: &Path) {
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let supervisor = read("status.json")["supervisor"]["pid"].as_i64().unwrap();
    let pid = Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let mut deployment = read("deployment.json");
    deployment["boot"] = json!("11111111-2222-3333-4444-555555555555");
    std::fs::write(folder.join("deployment.json"), deployment.to_string()).unwrap();
}

#[test]
fn an_app_that_stays_down_is_critical() {
    let mut screen = Screen::running();
    let folder = screen.fixture.sandbox.state_dir().join("process/apps").join(APP);
    boot(&folder);
    let [releases, away] = ["releases", "away"].map(|name| folder.join(name));
    std::fs::rename(&releases, &away).unwrap();
    for command in ["recover", "update"] {
        let said = screen.shows(&[command]);
        assert!(said.ends_with("[exit 1]\n"), "{said}");
    }
    let alerts = screen.alerts();
    assert!(alerts.contains("notes is down, and could not be started (down, critical)"), "{alerts}");
    std::fs::rename(&away, &releases).unwrap();
    screen.fixture.run(&["recover"]).expect(0);
    assert!(screen.alerts().contains("resolved: notes is down"), "{}", screen.alerts());
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn a_version_that_cannot_be_rendered_is_held_and_lower_ones_are_looked_at() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    fixture.sandbox.maker.write("Procfile", "this is no line of a Procfile\n").unwrap();
    fixture.sandbox.maker.git(&["commit", "--quiet", "--all", "--message", "1.2.0+3"]).unwrap();
    fixture.sandbox.maker.git(&["tag", "--annotate", "--message", "release", "1.2.0+3"]).unwrap();
    let text = fixture.run(&["update"]).expect(10);
    assert!(text.contains("1.2.0+3 cannot be rendered: ") && !text.contains("approve"), "{text}");
    fixture.sandbox.configure(|config| config["apps"][APP]["update"] = json!({ "to": "latest-compatible" })).unwrap();
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn an_app_is_not_held_up_for_ever_by_what_became_of_the_one_before_it_once() {
    let fixture = Fixture::running();
    let first = |config: &mut Value| {
        let mut first = config["apps"][APP].clone();
        first["domain"] = json!("first.example.org");
        first["ensure"] = json!(false);
        config["apps"]["first"] = first;
        config["apps"][APP]["after"] = json!(["first"]);
    };
    fixture.sandbox.configure(first).unwrap();
    let state = fixture.sandbox.state_dir().join("apps/first/state.json");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    // It went back once, and cannot be started now: nothing of it is on this host.
    let own = std::fs::read(fixture.app_dir().join("state.json")).unwrap();
    let mut before: Value = serde_json::from_slice(&own).unwrap();
    before["last_run"] = json!({ "at": "2026-03-05T03:40:00Z", "outcome": "rolled-back" });
    before["resumed"] = json!(true);
    std::fs::write(&state, before.to_string()).unwrap();
    fixture.run(&["update", APP]).expect(14);
    fixture.run(&["update", "first"]).expect(1);
    fixture.run(&["update", APP]).expect(0);
}
