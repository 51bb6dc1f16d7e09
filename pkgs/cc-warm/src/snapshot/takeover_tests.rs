//! Taking over what did not change, and what would be lost without each exception.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::catalog::{Catalog, Digest, Event, Lines, Reader};
use super::flags;
use super::moment::Moment;
use super::predecessor::{Predecessor, Takeover};
use super::scrub::{Scrub, complete, scrub};
use super::takeover::Refusal;
use super::test_tree::{Place, change_header, is_root};
use super::tree::Copied;
use super::verify::{Check, verify};
use crate::sys::raw::Mapped;
use crate::sys::signals::Interrupt;

/// Waits until what is done now gets other times than what was done before.
fn let_time_pass() {
    let step = 3 * i64::try_from(super::moment::granularity().as_nanos()).unwrap();
    let begin = Moment::now().unwrap().wall;
    while Moment::now().unwrap().wall <= begin + step {
        std::thread::yield_now();
    }
}

/// Takes `name` with `old` as predecessor.
fn take_after(place: &Place, old: &str, name: &str) -> Copied {
    let (tree, catalog) = (place.path(old), place.catalog(old));
    let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
    place.verify(name).unwrap();
    place.assert_same("source", name);
    copied
}

/// By what a file is recognised as unchanged.
fn record(meta: &fs::Metadata) -> (u64, u64, i64, i64, i64, i64) {
    (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn only_what_changed_is_copied_again() {
    let place = Place::new();
    for n in 0..50 {
        place.file(&format!("{}/{n}", n % 5), format!("{n}"));
    }
    fs::hard_link(place.source().join("0/0"), place.source().join("1/same")).unwrap();
    let_time_pass();
    place.take("one");
    place.file("0/5", "new");
    place.file("6/n", "new");
    fs::remove_file(place.source().join("2/2")).unwrap();
    fs::remove_dir_all(place.source().join("3")).unwrap();
    let copied = take_after(&place, "one", "two");
    // 50 less the changed one, the deleted one and a folder of 10.
    assert_eq!((copied.taken_over, copied.takeover), (38, Takeover::ByRule));
    assert!(copied.digested);
    assert_eq!(inode(&place.path("two/1/1")), inode(&place.path("one/1/1")));
    assert_ne!(inode(&place.path("two/0/5")), inode(&place.path("one/0/5")));
    assert_ne!(inode(&place.path("two/1/1")), inode(&place.source().join("1/1")), "live data shares no inode");
    let_time_pass();
    take_after(&place, "two", "three");
    assert_eq!(take_after(&place, "three", "four").taken_over, 40, "what was new then is old now");
}

#[test]
fn a_file_that_was_written_in_the_step_of_its_copy_is_copied_again() {
    let place = Place::new();
    place.file("a", "old");
    place.take("one");
    // Written so soon that its times may be those that were recorded: only its age tells.
    let found = take_after(&place, "one", "two");
    assert_eq!(found.taken_over, 0);
}

#[test]
fn a_file_with_many_names_is_taken_over_with_all_of_them_or_with_none() {
    let place = Place::new();
    let first = place.file("first", "content");
    fs::create_dir(place.source().join("d")).unwrap();
    let give_names = |names: std::ops::Range<u32>| {
        names.for_each(|n| fs::hard_link(&first, place.source().join(format!("d/{n}"))).unwrap());
        let_time_pass();
    };
    let taken_over = |old: &str, name: &str| {
        let (tree, catalog) = (place.path(old), place.catalog(old));
        let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
        place.verify(name).unwrap();
        copied.taken_over
    };
    give_names(1..12_000);
    place.take("one");
    assert_eq!(taken_over("one", "two"), 1);
    assert_eq!(taken_over("two", "three"), 0, "36,000 names: some file systems have no room for them");
    assert_eq!(taken_over("three", "four"), 1);
    // Twice as many are too many for ext4, the last of them only.
    give_names(12_000..33_001);
    place.take("five");
    assert_eq!(taken_over("five", "six"), 0);
}

#[test]
fn of_a_sparse_file_only_what_is_there_counts_whether_it_is_copied_or_taken_over() {
    let place = Place::new();
    let file = File::options().write(true).open(place.file("map", vec![1; 4096])).unwrap();
    file.set_len(1 << 40).unwrap();
    place.file("d/plain", vec![2; 50_000]);
    let_time_pass();
    let copied = place.take("one");
    let (tree, catalog) = (place.path("one"), place.catalog("one"));
    let again = place.take_from("two", Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
    assert_eq!((copied.taken_over, again.taken_over), (0, 2));
    assert_eq!(copied.bytes, 4096 + 50_000);
    assert_eq!(again.bytes, copied.bytes);
}

#[test]
fn a_store_into_a_page_that_was_dirty_moves_no_time_so_nothing_young_is_taken_over_from_a_staging_copy() {
    for _ in 0..20 {
        let place = Place::new();
        let path = place.file("a", vec![1; 4096]);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut map = Mapped::new(&file).unwrap();
        map.store(7, 2);
        let_time_pass();
        // As a staging copy would be whose page the kernel had not written back.
        place.take("one");
        let before = record(&file.metadata().unwrap());
        map.store(7, 3);
        if record(&file.metadata().unwrap()) != before {
            // It was written back meanwhile.
            continue;
        }
        let (tree, catalog) = (place.path("one"), place.catalog("one"));
        let take = |name: &str| {
            let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
            (copied.taken_over, fs::read(place.path(name).join("a")).unwrap()[7])
        };
        assert_eq!(take("believed"), (1, 2), "by the margin of an app that does not run");
        change_header(&catalog, |header| header["running"] = true.into());
        assert_eq!(take("two"), (0, 3));
        return;
    }
    panic!("somebody syncs all the time");
}

#[test]
fn a_damaged_predecessor_is_not_taken_over_from() {
    let place = Place::new();
    place.file("short", "abc");
    place.file("gone", "abc");
    place.file("d/whole", "abc");
    let_time_pass();
    place.take("one");
    fs::write(place.path("one/short"), "a").unwrap();
    fs::remove_file(place.path("one/gone")).unwrap();
    assert_eq!(take_after(&place, "one", "two").taken_over, 1);
    fs::remove_dir_all(place.path("one/d")).unwrap();
    assert_eq!(take_after(&place, "one", "three").taken_over, 0);
    // A record that was tampered with is no record.
    let entries = place.catalog("one").entries;
    let mut bytes = fs::read(&entries).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&entries, bytes).unwrap();
    let (tree, catalog) = (place.path("one"), place.catalog("one"));
    let error = place.take_from("four", Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap_err();
    assert!(format!("{error:#}").contains("checksum"), "{error:#}");
}

#[test]
fn on_tmpfs_a_store_into_a_mapped_page_moves_no_time_so_all_is_copied() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return eprintln!("skipped, no /dev/shm: on_tmpfs_a_store_into_a_mapped_page_moves_no_time_so_all_is_copied");
    };
    let place = Place::at(dir.path());
    let path = place.file("a", vec![1; 4096]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // Mapped before, and stored to: such a page is never written back, so it never becomes read-only again.
    let mut map = Mapped::new(&file).unwrap();
    map.store(7, 1);
    let_time_pass();
    place.take("one");
    let before = record(&file.metadata().unwrap());
    map.store(7, 2);
    assert_eq!(record(&file.metadata().unwrap()), before, "the record says that nothing changed");
    assert_ne!(fs::read(&path).unwrap(), fs::read(place.path("one/a")).unwrap(), "and it did");
    let copied = take_after(&place, "one", "two");
    assert_eq!(copied.takeover, Takeover::Refused(Refusal::FileSystem));
    assert_eq!(fs::read(place.path("two/a")).unwrap()[7], 2);
}

#[test]
fn a_page_that_is_dirty_when_a_staging_copy_begins_moves_its_time_at_the_next_store() {
    let place = Place::new();
    let path = place.file("a", vec![1; 4096]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // One map throughout: its page is dirty and stays writable until it is written back.
    let mut map = Mapped::new(&file).unwrap();
    map.store(7, 2);
    let dirty = file.metadata().unwrap();
    let_time_pass();
    place.take_as("staged", |order| order.running = true).unwrap();
    map.store(7, 3);
    let after = file.metadata().unwrap();
    assert_ne!((dirty.ctime(), dirty.ctime_nsec()), (after.ctime(), after.ctime_nsec()), "it was written back first");
    assert_eq!(take_after(&place, "staged", "copy").taken_over, 0);
    assert_eq!(fs::read(place.path("copy/a")).unwrap()[7], 3);
}

#[test]
fn a_restore_that_keeps_nothing_moves_over_what_did_not_change() {
    let place = Place::new();
    for n in 0..20 {
        place.file(&format!("d/{n}"), format!("{n}"));
    }
    let_time_pass();
    place.take("one");
    place.file("d/3", "changed");
    let (source, catalog) = (place.source(), place.catalog("one"));
    let copied = place
        .restore_with("one", "new", Some(Predecessor { tree: &source, catalog: &catalog, shutdown: None }), |_| {})
        .unwrap();
    assert_eq!(copied.taken_over, 19);
    place.assert_same("one", "new");
    assert_eq!(inode(&place.path("new/d/4")), inode(&source.join("d/4")));
    // The old tree goes; then a record of the new one makes it a predecessor for the next.
    fs::remove_dir_all(&source).unwrap();
    fs::rename(place.path("new"), &source).unwrap();
    let_time_pass();
    let (copy, record) = (place.source(), place.catalog("record"));
    let check = Check { record: Some(&record), ..Check::of(&copy, &catalog) };
    verify(&check, &(), &Interrupt::never()).unwrap();
    let tree = place.path("one");
    let copied = place.take_from("two", Predecessor { tree: &tree, catalog: &record, shutdown: None }).unwrap();
    assert_eq!(copied.taken_over, 20);
    assert!(copied.digested);
    place.verify("two").unwrap();
    place.assert_same("source", "two");
}

#[test]
fn a_guarded_file_is_copied_so_that_clearing_it_in_one_snapshot_leaves_the_other_alone() {
    let name = "a_guarded_file_is_copied_so_that_clearing_it_in_one_snapshot_leaves_the_other_alone";
    if !is_root(name) {
        return;
    }
    let place = Place::new();
    let path = place.file("a", "a");
    let file = File::open(&path).unwrap();
    let flag = rustix::fs::IFlags::IMMUTABLE;
    let Ok(()) = rustix::fs::ioctl_setflags(&file, rustix::fs::ioctl_getflags(&file).unwrap() | flag) else {
        return eprintln!("skipped, no flags here: {name}");
    };
    let_time_pass();
    place.take("one");
    let copied = take_after(&place, "one", "two");
    assert_eq!(copied.taken_over, 0);
    assert!(flags::clear_guards(File::open(place.path("one/a")).unwrap()).unwrap());
    place.verify("two").unwrap();
    for tree in ["two", "source"] {
        flags::clear_guards(File::open(place.path(tree).join("a")).unwrap()).unwrap();
    }
}

#[test]
fn a_live_file_is_written_to_without_a_snapshot_seeing_it() {
    let place = Place::new();
    let path = place.file("a", vec![1; 8192]);
    let_time_pass();
    place.take("one");
    take_after(&place, "one", "two");
    File::options().write(true).open(path).unwrap().write_all_at(&[9], 5).unwrap();
    for copy in ["one/a", "two/a"] {
        assert_eq!(fs::read(place.path(copy)).unwrap(), vec![1; 8192]);
    }
}

/// The digest of a file with two names, moved in the catalog `name` from the first of them to the second.
fn move_digest(place: &Place, name: &str) {
    let catalog = place.catalog(name);
    let mut reader = Reader::open(&catalog).unwrap();
    let sum = reader.header().sum.clone();
    let mut digests = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        if let Event::Entry(_, digest) = event {
            digests.push(digest);
        }
    }
    assert!(matches!(digests[..], [Digest::Known(_), Digest::Elsewhere]), "{digests:?}");
    digests.reverse();
    fs::remove_file(&catalog.digests).unwrap();
    let mut lines = Lines::create(&catalog.digests).unwrap();
    let mut text = Vec::new();
    for digest in &digests {
        digest.write(&mut text);
    }
    lines.write(&text).unwrap();
    lines.finish_digests(&sum, 0).unwrap();
}

fn with_two_names() -> Place {
    let place = Place::new();
    place.file("a", "content");
    fs::hard_link(place.path("source/a"), place.path("source/b")).unwrap();
    let_time_pass();
    place.take("one");
    // As when the second name was copied first: threads come to them in any order.
    move_digest(&place, "one");
    place
}

#[test]
fn a_digest_that_another_name_has_is_not_lost_when_the_file_is_taken_over() {
    let place = with_two_names();
    let (tree, catalog) = (place.path("one"), place.catalog("one"));
    let copied = place.take_from("two", Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
    assert_eq!(copied.taken_over, 1);
    let (copy, catalog) = (place.path("two"), place.catalog("two"));
    let order = Scrub { copy: &copy, catalog: &catalog, rate: None, from: 0 };
    complete(&order, &(), &Interrupt::never()).unwrap();
    assert!(scrub(&order, &(), &Interrupt::never()).unwrap().checked > 0);
}

#[test]
fn content_is_checked_in_a_restore_whichever_of_its_names_has_the_digest() {
    let place = with_two_names();
    place.restore_as("one", "new", |_| {}).unwrap();
    let file = fs::metadata(place.path("one/a")).unwrap();
    fs::write(place.path("one/a"), "CONTENT").unwrap();
    let times = fs::FileTimes::new().set_modified(file.modified().unwrap());
    fs::File::options().write(true).open(place.path("one/a")).unwrap().set_times(times).unwrap();
    let error = place.restore_as("one", "newer", |_| {}).unwrap_err();
    assert!(error.to_string().contains("has other content"), "{error:#}");
}

#[test]
fn a_record_that_cannot_be_written_is_missing_later_and_hinders_nothing() {
    let place = Place::new();
    place.file("a", "content");
    place.take("one");
    let (copy, catalog) = (place.path("one"), place.catalog("one"));
    let nowhere = Catalog { entries: place.path("nowhere/entries"), digests: place.path("nowhere/digests") };
    let check = Check { record: Some(&nowhere), ..Check::of(&copy, &catalog) };
    verify(&check, &(), &Interrupt::never()).unwrap();
}
