//! What happens between a look and an act: hours may lie there, with a copy, a check or another app's turn.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{Fixture, NEVER_WELL, NOTES, Ran};
use crate::signals::{Going, Halted};

const HELD_BACK: &str = "waiting: another app on the same file system is stopped";

/// Holds the turn of the file system that the app's data is on, as another app does while it is stopped.
fn turn_of_another_app(fixture: &Fixture) -> fs::File {
    let stopped = fixture.sandbox.state_dir().join("stopped");
    fs::create_dir_all(&stopped).unwrap();
    let device = fs::metadata(fixture.sandbox.volume().unwrap()).unwrap().dev();
    let file = fs::File::create(stopped.join(device.to_string())).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// Garbage of the app that takes a while to delete.
fn trash(fixture: &Fixture) -> PathBuf {
    let folder = fixture.sandbox.state_dir().join("trash").join(format!("{APP}.old"));
    fs::create_dir_all(&folder).unwrap();
    for number in 0..1000 {
        fs::write(folder.join(number.to_string()), "").unwrap();
    }
    folder
}

#[test]
fn what_users_write_while_another_app_has_its_turn_is_not_held_against_the_version() {
    let fixture = Fixture::running();
    let continuity = json!({ "argv": ["wc", "-l", fixture.sandbox.volume().unwrap().join("_data/notes")] });
    fixture.sandbox.configure(|config| config["apps"][APP]["health"]["continuity"] = continuity).unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let turn = turn_of_another_app(&fixture);
    let update = Going::of(&fixture, &["update"], HELD_BACK);
    fixture.sandbox.write_note("written meanwhile").unwrap();
    drop(turn);
    let said = update.ends().expect(0);
    assert!(said.contains("updated: 1.0.0+1 → 1.1.0+2"), "{said}");
    assert_eq!(fixture.sandbox.notes().unwrap().len(), NOTES.len() + 1);
}

#[test]
fn a_restore_that_waited_brings_back_the_known_good_of_then() {
    let fixture = Fixture::running();
    for (version, format) in [("1.1.0+2", 2), ("1.2.0+3", 3)] {
        fixture.publish(version, format, Behaviour::Healthy);
        if version == "1.1.0+2" {
            fixture.run(&["update"]).expect(0);
        }
    }
    let update = Halted::at(&fixture, &["journal.stopping.after"], &["update"]);
    let restore = Going::of(&fixture, &["restore", APP, "--wait", "--yes"], "waiting, it is");
    update.goes_on().expect(0);
    let said = restore.ends().expect(0);
    assert!(said.contains("restored: 1.1.0+2"), "the snapshot that the update took: {said}");
}

#[test]
fn what_was_live_is_kept_although_the_exchange_was_cut_short() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let said = fixture.run_with_fault("snapshot.exchange.exchanged=fail", &["update"]).expect(12);
    let volume = fixture.sandbox.volume().unwrap();
    let beside = |begins: &str| {
        let names = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(begins)).count()
    };
    assert_eq!((beside(".cc-warm-new-"), beside(".cc-warm-failed-")), (1, 0), "{said}");
    fixture.run(&["restore", APP, "--yes"]).expect(0);
    // The failed version's data, and what was restored first.
    assert_eq!((beside(".cc-warm-new-"), beside(".cc-warm-failed-")), (0, 2));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_restore_that_was_cut_short_at_once_knows_what_was_asked_for() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    fixture.publish("1.2.0+3", 3, Behaviour::Broken);
    fixture.run_with_fault("act.restore=fail", &["update"]).expect(12);
    let killed = fixture.run_with_fault("journal.begun.after=kill", &["restore", APP, "--previous", "--yes"]);
    assert_eq!(killed.code, None);
    fixture.run(&["recover"]);
    let status = fixture.run(&["status", APP]).text;
    assert!(status.contains("hint: cc-warm restore notes --snapshot "), "{status}");
    assert!(fixture.run(&["retry", APP]).expect(0).contains("restored: 1.0.0+1"));
}

#[test]
fn being_asked_to_end_while_leftovers_are_deleted_is_no_full_disk() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    // Whoever counts finds too little.
    fixture.sandbox.configure(|config| config["disk"] = json!({ "reserve": 1_u64 << 60 })).unwrap();
    for words in [&["update"][..], &["snapshot", APP]] {
        let left = trash(&fixture);
        let said = Halted::at(&fixture, &["snapshot.tidy.delete"], words).gets(Signal::INT).goes_on().expect(25);
        assert!(said.contains("cancelled before anything began"), "{said}");
        assert!(left.exists(), "it was not cut short");
    }
    assert!(fixture.run(&["update"]).expect(10).contains("are needed"));
}

#[test]
fn what_cannot_be_deleted_keeps_no_app_from_its_updates() {
    let fixture = Fixture::running();
    let mounted = trash(&fixture).join("mounted");
    fs::create_dir(&mounted).unwrap();
    if mount("tmpfs", &mounted, "tmpfs", MountFlags::empty(), None).is_err() {
        eprintln!("skipped, nothing can be mounted: what_cannot_be_deleted_keeps_no_app_from_its_updates");
        return;
    }
    fs::write(mounted.join("file"), "not ours").unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let update = fixture.run(&["update"]);
    let kept = fs::read(mounted.join("file"));
    unmount(&mounted, UnmountFlags::DETACH).unwrap();
    assert!(update.expect(0).contains("updated: 1.0.0+1 → 1.1.0+2"));
    assert_eq!(kept.unwrap(), b"not ours");
}

#[test]
fn a_run_with_nothing_to_do_goes_on_with_what_was_left_to_delete() {
    let fixture = Fixture::running();
    let left = trash(&fixture);
    assert!(fixture.run(&["update"]).expect(0).contains("up to date"));
    assert!(!left.exists());
}

#[test]
fn an_app_with_a_volume_is_not_updated_as_one_without_data() {
    let fixture = Fixture::running();
    fixture.sandbox.configure(|config| config["apps"][APP]["stateful"] = json!(false)).unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let said = fixture.run(&["update"]).expect(10);
    assert!(said.contains("which would not go back with it") && said.contains("update.unmanaged"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn an_app_without_data_that_became_stuck_is_brought_back_by_a_retry() {
    let fixture = Fixture::running();
    fixture.configure_stateless(|_| {});
    fixture.publish("1.1.0+2", 1, Behaviour::Broken);
    let said = fixture.run_with_fault(NEVER_WELL, &["update"]).expect(12);
    assert!(said.contains("hint: cc-warm retry notes") && !said.contains("what the failed version left"), "{said}");
    let said = fixture.run(&["retry", APP]).expect(0);
    assert!(said.contains("started again: 1.0.0+1"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn no_id_is_made_while_docker_cannot_say_whether_the_folder_is_the_right_one() {
    let fixture = Fixture::empty();
    fixture
        .sandbox
        .configure(|config| {
            config["apps"]["login"] =
                json!({ "recipe": "https://git.example.org/keycloak", "domain": "login.example.org", "deployer": { "abra": {} },
                    "health": { "probes": [{ "http": { "url": "https://login.example.org" } }] } });
        })
        .unwrap();
    let silent = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let run = |words: &[&str]| Ran::of(&fixture.sandbox.cc_warm(words).env(silent.0, silent.1).run().unwrap());
    for words in [&["update"][..], &["recover"]] {
        let said = run(words).expect(14);
        assert!(said.contains("docker does not answer; nothing was done"), "{said}");
    }
    assert!(!fixture.sandbox.state_dir().exists());
    // Alerts go out all the same.
    run(&["alert", "deliver"]).expect(0);
    assert!(!fixture.sandbox.state_dir().join("id").exists());
}
