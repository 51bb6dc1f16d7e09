//! A disk that is really full: the state folder on a small tmpfs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use crate::fixture::{Fixture, NOTES};
use crate::signals::Halted;

/// A tmpfs of 12 MiB, until it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where it cannot be had.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }

    /// A btrfs instead, in an image beside it. `None` where it cannot be had.
    fn mount_btrfs(at: PathBuf) -> Option<Self> {
        let image = at.with_extension("img");
        fs::File::create(&image).unwrap().set_len(200 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let made = Command::new("mkfs.btrfs").arg("--quiet").arg(&image).status();
        let mounted = || Command::new("mount").args(["-o", "loop"]).args([&image, &at]).status();
        let well = |status: std::io::Result<std::process::ExitStatus>| status.is_ok_and(|status| status.success());
        (well(made) && well(mounted())).then_some(Self(at))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills it up to the last byte.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for size in [64 << 10, 1] {
            while file.write_all(&vec![0x5a; size]).is_ok() {}
        }
    }

    /// Takes all of the filling out again.
    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// `1.0.0+1` runs, with its notes, and all of it lies on a small disk. The disk outlives the app.
fn on_a_small_disk() -> Option<(Tmpfs, Fixture)> {
    on_a_disk(Tmpfs::mount)
}

fn on_a_disk(mount: impl FnOnce(PathBuf) -> Option<Tmpfs>) -> Option<(Tmpfs, Fixture)> {
    let fixture = Fixture::empty();
    let Some(tmpfs) = mount(fixture.sandbox.state_dir()) else {
        println!("skipped: a disk of its own: none can be mounted here");
        return None;
    };
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    for note in NOTES {
        fixture.sandbox.write_note(note).unwrap();
    }
    Some((tmpfs, fixture))
}

#[test]
fn a_disk_that_is_full_when_the_way_back_begins_does_not_keep_the_app_down() {
    for point in ["journal.deployed.after", "act.health", "journal.rolling-back.before", "journal.rolling-back.after"] {
        let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
        fixture.publish("1.1.0+2", 2, Behaviour::Broken);
        let update = Halted::at(&fixture, &[point], &["update"]);
        let set_aside = fixture.app_dir().join("ballast").exists();
        assert_eq!(set_aside, !point.contains("rolling-back"), "{point}");
        tmpfs.fill();
        let ran = update.goes_on();
        // What follows from it, state, history and alerts, may have to wait for room; the app does not.
        assert!(matches!(ran.code, Some(11 | 1)), "{point}: {}", ran.text);
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{point}: {}", ran.text);
        assert_eq!(fixture.sandbox.notes().unwrap(), NOTES, "{point}: {}", ran.text);
        tmpfs.empty();
        fixture.run(&["recover"]).expect(0);
        assert_eq!(fixture.journal(), "", "{point}");
        let said = fixture.run(&["update"]).expect(0);
        assert!(said.contains("1.1.0+2 is not tried"), "{point}: {said}");
        fixture.run(&["verify", APP]).expect(0);
    }
}

#[test]
fn a_disk_that_is_full_while_data_goes_back_keeps_no_record_from_being_written() {
    for point in ["journal.restoring.after", "journal.exchanging.before", "journal.exchanging.after"] {
        let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
        fixture.publish("1.1.0+2", 2, Behaviour::Broken);
        let update = Halted::at(&fixture, &[point], &["update"]);
        tmpfs.fill();
        let ran = update.goes_on();
        assert!(!ran.text.contains("cannot append"), "{point}: {}", ran.text);
        tmpfs.empty();
        fixture.run(&["recover"]);
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{point}: {}", ran.text);
        assert_eq!(
            (fixture.sandbox.notes().unwrap(), fixture.journal().as_str()),
            (NOTES.map(str::to_owned).into(), "")
        );
    }
}

#[test]
fn a_disk_that_is_full_before_a_restore_leaves_the_app_alone() {
    let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
    fixture.run(&["snapshot", APP]).expect(0);
    tmpfs.fill();
    let ran = fixture.run(&["restore", APP, "--yes"]).expect(1);
    assert!(ran.contains("cannot be restored; nothing was touched") && !ran.contains("stopping"), "{ran}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    tmpfs.empty();
    fixture.run(&["restore", APP, "--yes"]).expect(0);
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_disk_that_is_full_before_an_update_leaves_the_app_alone() {
    let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    tmpfs.fill();
    let ran = fixture.run(&["update"]);
    assert!(matches!(ran.code, Some(1 | 10)), "{}", ran.text);
    assert!(!ran.text.contains("stopping"), "{}", ran.text);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    tmpfs.empty();
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

/// An update waits, and there is more data than a few notes.
fn with_a_large_update(fixture: &Fixture) {
    fs::write(fixture.sandbox.volume().unwrap().join("_data/attachment"), vec![1; 2 << 20]).unwrap();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
}

#[test]
fn what_earlier_runs_left_keeps_no_update_from_the_room_that_it_needs() {
    let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
    with_a_large_update(&fixture);
    // A staging copy of a run that was killed, and data whose deletion was cut short: 7 MiB of 12.
    let staging = fixture.app_dir().join("snapshots/.staging-0123456789abcdef/volumes/notes");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("attachment"), vec![1; 4 << 20]).unwrap();
    let trash = tmpfs.0.join("trash");
    fs::create_dir_all(&trash).unwrap();
    fs::write(trash.join(format!("{APP}.0123456789abcdef")), vec![1; 3 << 20]).unwrap();
    let said = fixture.run(&["update"]).expect(0);
    assert!(said.contains("updated: 1.0.0+1 → 1.1.0+2"), "{said}");
}

#[test]
fn room_that_is_gone_before_the_stop_stops_no_app() {
    let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
    with_a_large_update(&fixture);
    let update = Halted::at(&fixture, &["snapshot.stage.copied"], &["update"]);
    // Only what cc-warm itself has to write still fits.
    tmpfs.fill();
    let filler = OpenOptions::new().write(true).open(tmpfs.filler()).unwrap();
    filler.set_len(filler.metadata().unwrap().len() - (1 << 20)).unwrap();
    drop(filler);
    let ran = update.goes_on();
    assert_eq!(ran.code, Some(10), "{}", ran.text);
    assert!(ran.text.contains("are needed") && !ran.text.contains("stopping"), "{}", ran.text);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{}", ran.text);
    let left: Vec<_> =
        fs::read_dir(fixture.app_dir().join("snapshots")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".staging-")), "{left:?}");
    tmpfs.empty();
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn no_app_is_stopped_for_a_snapshot_that_could_not_be_staged_for_a_reason_that_stays() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let words: [(&[&str], i32); 2] = [(&["update", APP], 1), (&["snapshot", APP], 1)];
    for (words, code) in words {
        let said = fixture.run_with_fault("snapshot.stage.copied=fail", words).expect(code);
        assert!(said.contains("no snapshot of `notes` can be taken; the app was not touched"), "{said}");
        assert!(!said.contains("stopping"), "{said}");
        assert_eq!((fixture.answering().as_deref(), fixture.journal().as_str()), (Some("1.0.0+1"), ""), "{said}");
    }
    // What does not fit while it runs does not fit once it is stopped.
    let said = fixture.run_with_fault("snapshot.stage.copied=enospc", &["update", APP]).expect(1);
    assert!(said.contains("the app was not touched") && !said.contains("stopping"), "{said}");
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{said}");
}

#[test]
fn where_there_is_no_room_for_young_data_three_times_the_staging_copy_is_given_up() {
    for (word, version) in [("snapshot", "1.0.0+1"), ("update", "1.1.0+2")] {
        let Some((_tmpfs, fixture)) = on_a_small_disk() else { return };
        with_a_large_update(&fixture);
        // What lives, its snapshot and the way back are 9.6 of 12 MiB.
        let attachment = fixture.sandbox.volume().unwrap().join("_data/attachment");
        fs::write(attachment, vec![1; 3200 << 10]).unwrap();
        let said = fixture.run(&[word, APP]).expect(0);
        assert!(said.contains("no room for the copy that was made while it ran"), "{said}");
        assert_eq!(fixture.answering().as_deref(), Some(version), "{said}");
    }
}

#[test]
fn an_app_that_has_no_room_to_start_gets_what_cc_warm_itself_left() {
    let Some((tmpfs, fixture)) = on_a_small_disk() else { return };
    let snapshot = Halted::at(&fixture, &["journal.redeploying.after"], &["snapshot", APP]);
    let left = fixture.app_dir().join("snapshots/.new-0123456789abcdef");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("attachment"), vec![1; 2 << 20]).unwrap();
    tmpfs.fill();
    let ran = snapshot.goes_on();
    assert!(ran.text.contains("there is no room to start it"), "{}", ran.text);
    assert_eq!((ran.code, left.exists()), (Some(0), false), "{}", ran.text);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{}", ran.text);
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn of_a_snapshot_that_does_not_fit_nothing_is_left_when_the_way_back_begins() {
    let fixture = Fixture::running();
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    for words in [["update", APP], ["snapshot", APP]] {
        let faults = "snapshot.take.copied=enospc,journal.rolling-back.before=stop";
        let operation = Halted::with(&fixture, faults, &[], &words);
        let left = fs::read_dir(fixture.app_dir().join("snapshots")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
        let ran = operation.goes_on().expect(11);
        assert!(ran.contains("No space left"), "{ran}");
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"), "{ran}");
    }
}

#[test]
fn digests_that_were_cut_short_are_taken_by_the_next_update_that_has_nothing_to_do() {
    let Some((_btrfs, fixture)) = on_a_disk(Tmpfs::mount_btrfs) else { return };
    fs::write(fixture.sandbox.volume().unwrap().join("_data/attachment"), vec![1; 2 << 20]).unwrap();
    assert_eq!(fixture.run_with_fault("snapshot.digest.begun=kill", &["snapshot", APP]).code, None);
    let undigested = || fixture.run(&["verify", APP]).expect(0).contains("without a digest yet");
    assert!(undigested());
    fixture.run(&["update"]).expect(0);
    assert!(!undigested());
}
