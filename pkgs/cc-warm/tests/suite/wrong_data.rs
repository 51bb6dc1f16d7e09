//! Old code and new data never meet, nor is good data lost, whatever an operator is told to do next.

use std::os::unix::fs::FileExt;
use std::path::Path;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;
use rustix::process::Signal;
use serde_json::Value;

use crate::crash::app_log;
use crate::fixture::{Fixture, NEVER_WELL, NOTES};
use crate::signals::Halted;

const NO_ROOM: &str = "snapshot.build.begun#1=enospc,snapshot.build.begun#2=enospc";

/// `1.1.0+2` runs, on data that `1.0.0+1` refuses, and the known-good is of `1.0.0+1`.
fn updated() -> Fixture {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    fixture.sandbox.write_note("after the update").unwrap();
    fixture
}

#[track_caller]
fn runs_on_newest_data(fixture: &Fixture, version: &str) {
    assert_eq!(fixture.answering().as_deref(), Some(version), "{}", app_log(fixture));
    let notes = fixture.sandbox.notes().unwrap();
    assert_eq!((&notes[..2], notes.len()), (&NOTES.map(str::to_owned)[..], 3), "{notes:?}");
    assert!(!app_log(fixture).contains("refuse"), "old code met new data: {}", app_log(fixture));
    assert_eq!(fixture.journal(), "");
}

#[test]
fn a_restore_that_changed_nothing_ends_with_what_ran_before() {
    let fixture = updated();
    let said = fixture.run_with_fault("act.restore=fail", &["restore", APP, "--yes"]).expect(11);
    assert!(said.contains("1.1.0+2 runs again") && said.contains("could not be restored"), "{said}");
    runs_on_newest_data(&fixture, "1.1.0+2");
}

#[test]
fn a_retry_after_a_restore_that_changed_nothing_starts_what_wrote_the_data() {
    let fixture = updated();
    let faults = format!("act.restore=fail,{NEVER_WELL}");
    let said = fixture.run_with_fault(&faults, &["restore", APP, "--yes"]).expect(12);
    assert!(said.contains("as it was at the stop") && said.contains("hint: cc-warm retry"), "{said}");
    // A stuck app's restore that comes to nothing leaves it as stuck as it was.
    let said = fixture.run_with_fault("act.restore=fail", &["restore", APP, "--yes"]).expect(12);
    assert!(said.contains("as it was at the stop") && said.contains("hint: cc-warm retry"), "{said}");
    fixture.run(&["retry", APP]).expect(0);
    runs_on_newest_data(&fixture, "1.1.0+2");
}

#[test]
fn a_retry_goes_on_with_the_snapshot_that_was_asked_for() {
    let fixture = updated();
    fixture.publish("1.2.0+3", 3, Behaviour::Broken);
    fixture.run_with_fault("act.restore=fail", &["update"]).expect(12);
    let said = fixture.run_with_fault("act.restore=fail", &["restore", APP, "--previous", "--yes"]).expect(12);
    assert!(said.contains("hint: cc-warm restore notes --snapshot "), "{said}");
    let status = fixture.run(&["status", APP]).text;
    assert!(status.contains("hint: cc-warm restore notes --snapshot "), "{status}");
    let said = fixture.run(&["retry", APP]).expect(0);
    assert!(said.contains("restored: 1.0.0+1"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_restore_that_is_cancelled_while_the_snapshot_is_checked_touches_nothing() {
    let fixture = updated();
    for signal in [Signal::INT, Signal::TERM] {
        let restore = Halted::at(&fixture, &["snapshot.audit.volume"], &["restore", APP, "--yes"]);
        let said = restore.gets(signal).goes_on().expect(25);
        assert!(said.contains("cancelled before anything began") && !said.contains("stopping"), "{said}");
        runs_on_newest_data(&fixture, "1.1.0+2");
    }
}

#[test]
fn a_restore_of_an_undeployed_app_that_comes_to_nothing_leaves_the_code_that_its_data_needs() {
    let fixture = updated();
    fixture.run(&["undeploy", APP]).expect(0);
    fixture.run_with_fault("act.restore=fail", &["restore", APP, "--yes"]).expect(11);
    assert_eq!(fixture.answering(), None);
    fixture.run(&["resume", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    runs_on_newest_data(&fixture, "1.1.0+2");
}

#[test]
fn a_restore_without_room_gives_up_nothing_that_is_good() {
    let fixture = updated();
    let said = fixture.run_with_fault(NO_ROOM, &["restore", APP, "--yes"]).expect(11);
    assert!(!said.contains("given up"), "{said}");
    runs_on_newest_data(&fixture, "1.1.0+2");
}

#[test]
fn failed_data_that_was_given_up_is_not_said_to_be_kept() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    fixture.run_with_fault("act.restore=fail", &["update"]).expect(12);
    let said = fixture.run_with_fault(NO_ROOM, &["restore", APP, "--yes"]).expect(0);
    assert!(said.contains("so it was given up") && !said.contains(".cc-warm-failed"), "{said}");
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_restart_that_fails_again_and_again_leaves_the_data_as_good_as_it_was() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.sandbox.write_note("after the snapshot").unwrap();
    fixture.run(&["undeploy", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    fixture.run(&["resume", APP]).expect(0);
    fixture.run_with_fault(NEVER_WELL, &["update"]).expect(12);
    for _ in 0..2 {
        let said = fixture.run_with_fault(NEVER_WELL, &["retry", APP]).expect(12);
        assert!(said.contains("as it was at the stop") && said.contains("hint: cc-warm retry"), "{said}");
        assert!(said.contains("else `cc-warm restore notes`"), "{said}");
    }
    // Cut short at its first record, too.
    assert_eq!(fixture.run_with_fault("journal.begun.after=kill", &["retry", APP]).code, None);
    fixture.run(&["recover", APP]);
    fixture.run(&["retry", APP]).expect(0);
    runs_on_newest_data(&fixture, "1.0.0+1");
}

#[test]
fn after_a_release_nothing_is_started_on_data_of_another_version() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    fixture.run_with_fault("act.taken-over=fail", &["update"]);
    let history = fixture.run(&["history", APP]).expect(0);
    assert!(history.contains("released"), "{history}");
    fixture.run(&["undeploy", APP]).expect(0);
    fixture.run(&["update"]);
    fixture.run(&["resume", APP]).expect(0);
    let said = fixture.run(&["update"]).expect(10);
    assert!(said.contains("not known which version wrote them"), "{said}");
    assert!(!app_log(&fixture).contains("refuse"), "old code met new data: {}", app_log(&fixture));
}

#[test]
fn what_was_undeployed_is_not_started_again_without_the_data_that_it_had() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.run(&["undeploy", APP]).expect(0);
    let volumes = fixture.sandbox.state_dir().join("process/volumes");
    std::fs::rename(&volumes, volumes.with_extension("away")).unwrap();
    let said = fixture.run(&["resume", APP]).expect(24);
    assert!(said.contains("not there any more") && said.contains("hint: cc-warm restore notes"), "{said}");
    assert!(fixture.run(&["update"]).expect(0).contains("left alone: somebody undeployed it"));
    fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn an_app_whose_domain_was_changed_is_not_taken_for_an_empty_one() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    let serve_at = |domain: &str| {
        let change = |config: &mut Value| config["apps"][APP]["domain"] = domain.into();
        fixture.sandbox.configure(change).unwrap();
    };
    serve_at("moved.example.org");
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let volumes = "deployed on volumes called `notes_example_org_…`, and the configuration says volumes called `moved_example_org_…`";
    let said = fixture.run(&["update"]).expect(10);
    assert!(said.contains(volumes), "{said}");
    let alerts = std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
    assert!(alerts.contains(volumes), "{alerts}");
    assert!(fixture.status()["notes"].to_string().contains(volumes), "{}", fixture.status());
    for words in [&["snapshot", APP][..], &["restore", APP, "--yes"], &["adopt", APP]] {
        let said = fixture.run(words).expect(24);
        assert!(said.contains(volumes) && said.contains("hint: set the configuration back"), "{words:?}: {said}");
    }
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    fixture.run(&["undeploy", APP]).expect(0);
    let said = fixture.run(&["resume", APP]).expect(24);
    assert!(said.contains("on the volume `notes_example_org_"), "{said}");
    fixture.run(&["update"]).expect(10);
    // Moved by hand, it is started again where it is said to be.
    let folder = fixture.sandbox.state_dir().join("process/volumes");
    for volume in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = volume.file_name().into_string().unwrap();
        let name = name.replace("notes_example_org_", "moved_example_org_");
        std::fs::rename(volume.path(), folder.join(name)).unwrap();
    }
    fixture.run(&["resume", APP]).expect(0);
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("started again: 1.0.0+1"), "{said}");
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

/// With or without the app's volume in the operator's own hands.
fn take_over_volume(fixture: &Fixture, names: &[&str]) {
    let unmanaged = |config: &mut Value| config["apps"][APP]["update"]["unmanaged"] = names.into();
    fixture.sandbox.configure(unmanaged).unwrap();
}

#[test]
fn a_volume_that_was_unmanaged_when_the_snapshot_was_taken_stays_in_a_restore() {
    let fixture = Fixture::running();
    take_over_volume(&fixture, &["data"]);
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.sandbox.write_note("after the snapshot").unwrap();
    take_over_volume(&fixture, &[]);
    let said = fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert!(said.contains("was `unmanaged` when the snapshot was taken: its data stays as it is"), "{said}");
    assert!(said.contains("what is `unmanaged` stays as it is: notes_example_org_data"), "{said}");
    runs_on_newest_data(&fixture, "1.0.0+1");
}

#[test]
fn a_volume_of_the_snapshot_that_is_unmanaged_now_stays_in_a_restore() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    fixture.sandbox.write_note("after the snapshot").unwrap();
    take_over_volume(&fixture, &["notes_example_org_data"]);
    let said = fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert!(said.contains("is `unmanaged` now: its data stays as it is"), "{said}");
    runs_on_newest_data(&fixture, "1.0.0+1");
}

#[test]
fn what_an_update_has_in_its_snapshot_goes_back_though_it_is_unmanaged_by_then() {
    for point in ["journal.rolling-back.after", "snapshot.exchange.exchanged", "journal.restored.after"] {
        let fixture = Fixture::running();
        fixture.publish("1.1.0+2", 2, Behaviour::Broken);
        fixture.run_with_fault(&format!("{point}=kill"), &["update"]);
        take_over_volume(&fixture, &["data"]);
        fixture.run(&["recover"]).expect(0);
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{point}: {}", app_log(&fixture));
        assert_eq!(fixture.sandbox.notes().unwrap(), NOTES, "{point}");
        assert!(!app_log(&fixture).contains("refuse"), "{point}: old code met new data: {}", app_log(&fixture));
        assert_eq!(fixture.journal(), "", "{point}");
    }
}

#[test]
fn what_an_operator_restored_is_not_updated_again_by_itself() {
    let fixture = updated();
    fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("1.1.0+2 is not tried"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    fixture.run(&["retry", APP]).expect(0);
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

/// Does `damage` to every copy of the users' notes below `dir`; how many that are.
fn damage_with(dir: &Path, damage: &dyn Fn(&Path)) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            damaged += damage_with(&path, damage);
        } else if kind.is_file() && std::fs::read_to_string(&path).is_ok_and(|text| text.contains(NOTES[0])) {
            damage(&path);
            damaged += 1;
        }
    }
    damaged
}

/// Cuts every copy of the users' notes below `dir` short.
fn damage(dir: &Path) -> usize {
    damage_with(dir, &|path| std::fs::write(path, "").unwrap())
}

/// Changes a byte of the file, and nothing that its folder says of it.
fn rot(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let times = std::fs::FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
    file.write_all_at(b"#", 0).unwrap();
    file.set_times(times).unwrap();
}

/// Runs cc-warm for somebody who does not read what it prints; its exit code.
fn unread(fixture: &Fixture, words: &[&str]) -> Option<i32> {
    let mut command = std::process::Command::new(fixture.sandbox.program());
    command.arg("--config").arg(fixture.sandbox.config()).args(words);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdin(std::process::Stdio::null()).stdout(writer).output().unwrap().status.code()
}

#[test]
fn damage_is_noted_and_told_whoever_reads_what_verify_prints() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    assert!(fixture.status()["ok"].as_bool().unwrap());
    for words in [&["status"][..], &["doctor"], &["history", APP], &["snapshot", "--dry-run", APP], &["verify", APP]] {
        let known = fixture.run(words).code;
        assert_eq!(unread(&fixture, words), known, "{words:?}");
    }
    assert!(damage_with(&fixture.app_dir().join("snapshots"), &rot) > 0);
    assert_eq!(unread(&fixture, &["verify", APP]), Some(1));
    let alerts = std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
    assert!(alerts.contains("snapshot-damaged") && alerts.contains("other content than its digest says"), "{alerts}");
    let status = fixture.status();
    assert!(!status["ok"].as_bool().unwrap() && status.to_string().contains("its known-good is damaged"), "{status}");
    let doctor = fixture.run(&["doctor"]).expect(1);
    assert!(doctor.contains("is damaged") && doctor.contains("cc-warm snapshot notes"), "{doctor}");
    fixture.run(&["snapshot", APP]).expect(0);
    assert!(fixture.status()["ok"].as_bool().unwrap());
}

#[test]
fn content_whose_digests_are_gone_is_not_called_whole_nor_restored() {
    let fixture = Fixture::running();
    fixture.run(&["snapshot", APP]).expect(0);
    let snapshots = fixture.app_dir().join("snapshots");
    let digests: Vec<_> = std::fs::read_dir(&snapshots)
        .unwrap()
        .filter_map(|entry| std::fs::read_dir(entry.unwrap().path().join("digests")).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!digests.is_empty());
    for path in digests {
        std::fs::remove_file(path).unwrap();
    }
    let said = fixture.run(&["verify", APP]).expect(1);
    assert!(said.contains("DAMAGED") && said.contains("digests of its content are missing"), "{said}");
    let said = fixture.run(&["restore", APP, "--yes"]).expect(1);
    assert!(said.contains("nothing was touched"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn no_data_is_given_up_for_a_snapshot_that_has_rotted() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let faults = format!("{NO_ROOM},journal.rolling-back.after=stop");
    let update = Halted::with(&fixture, &faults, &[], &["update"]);
    let data = fixture.sandbox.volume().unwrap().join("_data");
    let failed = std::fs::read(data.join("notes")).unwrap();
    assert!(damage_with(&fixture.app_dir().join("snapshots"), &rot) > 0);
    let said = update.goes_on().expect(12);
    assert!(
        said.contains("other content than its digest says") && said.contains("nothing is given up for it"),
        "{said}"
    );
    // What the failed version left is all that there is of the users' data.
    assert_eq!(std::fs::read(data.join("notes")).unwrap(), failed);
    assert!(!fixture.journal().contains("discarding"), "{}", fixture.journal());
    assert_eq!(fixture.answering(), None);
}

#[test]
fn a_snapshot_that_is_damaged_is_not_called_intact_nor_hinted_at() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let update = Halted::at(&fixture, &["journal.rolling-back.after"], &["update"]);
    assert!(damage(&fixture.app_dir().join("snapshots")) > 0);
    let said = update.goes_on().expect(12);
    assert!(said.contains("the snapshot is damaged") && said.contains("restore notes --previous"), "{said}");
    let alerts = std::fs::read_to_string(fixture.sandbox.dir().join("alerts.jsonl")).unwrap();
    assert!(alerts.contains(", damaged") && !alerts.contains("intact"), "{alerts}");
    assert!(alerts.contains("cc-warm restore notes --previous"), "{alerts}");
    let status = fixture.status().to_string();
    assert!(status.contains("cc-warm restore notes --previous"), "{status}");
}
