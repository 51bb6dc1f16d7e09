//! An app that is taken out of the configuration, and forgotten.

use std::os::unix::fs::PermissionsExt;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use crate::fixture::{Fixture, Ran};

/// Takes the app out of the configuration. What was in it.
fn remove(fixture: &Fixture) -> Vec<u8> {
    let before = std::fs::read(fixture.sandbox.config()).unwrap();
    fixture.sandbox.configure(|config| config["apps"] = serde_json::json!({})).unwrap();
    before
}

/// What is left of the app in the state folder, but for its volumes.
fn left(fixture: &Fixture) -> Vec<String> {
    let state = fixture.sandbox.state_dir();
    let in_trash = std::fs::read_dir(state.join("trash")).into_iter().flatten();
    let mut left: Vec<String> = in_trash.map(|entry| format!("trash/{}", entry.unwrap().path().display())).collect();
    for folder in ["apps", "process/apps"] {
        left.extend(state.join(folder).join(APP).exists().then(|| folder.to_owned()));
    }
    left
}

#[test]
fn a_stuck_one_can_be_forgotten_and_nothing_else_is_hinted_at() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    fixture.run_with_fault("act.restore=fail", &["update"]).expect(12);
    remove(&fixture);
    let status = fixture.run(&["status"]).expect(0);
    assert!(status.contains("to bring it back, declare it again"), "{status}");
    let hints: Vec<&str> = status.lines().filter(|line| line.contains("hint: ")).map(str::trim).collect();
    assert_eq!(hints, ["hint: cc-warm forget notes"], "{status}");
    let said = fixture.run(&["forget", APP]).expect(24);
    assert!(said.contains("is stuck (its data is what the failed version left)"), "{said}");
    assert!(said.contains("1 snapshot(s) would be deleted; nothing was forgotten"), "{said}");
    assert!(said.contains("hint: cc-warm forget notes --yes"), "{said}");
    fixture.run(&["forget", APP, "--yes"]).expect(0);
    assert_eq!(left(&fixture), Vec::<String>::new());
    assert!(fixture.run(&["status"]).expect(0).contains("no app is declared"));
    fixture.run(&["recover"]).expect(0);
}

#[test]
fn one_with_an_operation_under_way_is_settled_first() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deploying.after=kill", &["update"]).code, None);
    let declared = remove(&fixture);
    fixture.run(&["forget", APP, "--yes"]).expect(24);
    let status = fixture.run(&["status"]).expect(0);
    assert!(status.contains("hint: cc-warm recover notes") && !status.contains("forget"), "{status}");
    fixture.run(&["recover", APP]).expect(0);
    let said = fixture.run(&["forget", APP, "--yes"]).expect(0);
    // It runs, and from there.
    assert!(said.contains("process/apps/notes` stays while the app runs from there"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(left(&fixture), ["process/apps"]);
    std::fs::write(fixture.sandbox.config(), declared).unwrap();
    fixture.run(&["undeploy", APP]).expect(0);
    remove(&fixture);
    fixture.run(&["forget", APP]).expect(0);
    assert_eq!(left(&fixture), Vec::<String>::new());
}

#[test]
fn one_that_was_forgotten_in_part_is_forgotten_whole() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.run(&["undeploy", APP]).expect(0);
    remove(&fixture);
    assert_eq!(fixture.run_with_fault("snapshot.tidy.delete=kill", &["forget", APP, "--yes"]).code, None);
    assert!(left(&fixture).iter().any(|left| left.starts_with("trash/")), "{:?}", left(&fixture));
    fixture.run(&["forget", APP]).expect(0);
    assert_eq!(left(&fixture), Vec::<String>::new());
    fixture.run(&["forget", APP]).expect(24);
}

/// A docker that keeps one image for the app, notes what it is asked, and does what it is asked if it `works`.
fn docker(fixture: &Fixture, works: bool) -> String {
    let dir = fixture.sandbox.dir().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("docker");
    let (asked, code) = (dir.join("asked"), i32::from(!works));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n[ \"$2\" = ls ] && echo cc-warm.invalid/x/notes:1\nexit {code}\n",
        asked.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

#[test]
fn what_a_swarm_app_left_goes_once_docker_gives_up_its_images() {
    let fixture = Fixture::running();
    fixture.run(&["undeploy", APP]).expect(0);
    remove(&fixture);
    let kept = fixture.sandbox.state_dir().join("abra").join(APP);
    std::fs::create_dir_all(kept.join("code")).unwrap();
    let forget =
        |path: String| Ran::of(&fixture.sandbox.cc_warm(&["forget", APP]).env("PATH", path).run().unwrap()).expect(0);
    let said = forget(docker(&fixture, false));
    assert!(said.contains("stay until docker takes them away: cc-warm forget notes") && kept.exists(), "{said}");
    let said = forget(docker(&fixture, true));
    assert!(!said.contains("warning") && !kept.exists(), "{said}");
    let asked = std::fs::read_to_string(fixture.sandbox.dir().join("bin/asked")).unwrap();
    assert!(asked.ends_with("image rm --no-prune -- cc-warm.invalid/x/notes:1\n"), "{asked}");
    fixture.run(&["forget", APP]).expect(24);
}
