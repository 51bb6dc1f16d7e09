//! File systems whose image is changed, or copied, behind their back. Wants root, and `mkfs` of each kind.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::predecessor::{Predecessor, Takeover};
use super::takeover::Refusal;
use super::test_tree::{Place, change_header, is_root};
use super::trash;

/// An image with an empty file system of `kind`; none where that cannot be made.
fn image(dir: &Path, kind: &str, test: &str) -> Option<PathBuf> {
    if !is_root(test) {
        return None;
    }
    let path = dir.join("image");
    File::create(&path).unwrap().set_len(320 << 20).unwrap();
    let made = Command::new(format!("mkfs.{kind}")).arg(&path).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped, no mkfs.{kind}: {test}");
        return None;
    }
    Some(path)
}

/// Unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, options: &str, test: &str) -> Option<Self> {
        let at = image.with_extension("mnt");
        fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(["-o", options]).args([image, &at]).output();
        if !mount.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped, it cannot be mounted here: {test}");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::empty());
    }
}

/// The inode, length and times by which a file is recognised as unchanged.
fn record(path: &Path) -> [i64; 6] {
    let meta = fs::metadata(path).unwrap();
    let (inode, length) = (i64::try_from(meta.ino()).unwrap(), i64::try_from(meta.len()).unwrap());
    [inode, length, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
}

/// A power cut is a copy of the image while it is mounted.
fn after_a_power_cut(kind: &str, (options, after): (&str, &str), test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), kind, test) else { return };
    let Some(live) = Mounted::new(&image, options, test) else { return };
    let place = Place::at(&live.0);
    let path = place.file("a", vec![1; 8192]);
    for attempt in 2..8 {
        std::thread::sleep(4 * super::moment::granularity());
        // Not reflinked: what shares its blocks is written elsewhere, and that takes the times along.
        let one = format!("one{attempt}");
        place.take_as(&one, |order| order.reflink = false).unwrap();
        rustix::fs::syncfs(File::open(&live.0).unwrap()).unwrap();
        let before = record(&path);
        let old = fs::read(&path).unwrap()[0];
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[attempt; 4096], 0).unwrap();
        file.sync_data().unwrap();
        let cut = dir.path().join(format!("cut{attempt}"));
        let copied = Command::new("cp").arg("--sparse=always").args([&image, &cut]).status().unwrap();
        assert!(copied.success());
        let Some(cut) = Mounted::new(&cut, after, test) else { return };
        let place = Place::at(&cut.0);
        let found = place.source().join("a");
        assert_eq!(fs::read(&found).unwrap()[0], attempt);
        if record(&found) != before {
            // Somebody synced in between.
            continue;
        }
        let (tree, catalog) = (place.path(&one), place.catalog(&one));
        let take = |name: &str| {
            let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
            (copied.takeover, fs::read(place.path(name).join("a")).unwrap()[0])
        };
        // By the record alone, as within one boot, the old content would be taken for the new one.
        assert_eq!(take("believed"), (Takeover::ByRule, old));
        change_header(&catalog, |header| header["began"]["boot"] = "the one before".into());
        assert_eq!(take("two"), (Takeover::Refused(Refusal::OtherBoot), attempt));
        return;
    }
    panic!("somebody syncs all the time");
}

#[test]
fn after_a_power_cut_data_lies_on_ext4_under_its_old_times_so_nothing_is_taken_over() {
    let test = "after_a_power_cut_data_lies_on_ext4_under_its_old_times_so_nothing_is_taken_over";
    after_a_power_cut("ext4", ("loop,commit=300", "loop"), test);
}

#[test]
fn after_a_power_cut_data_lies_on_xfs_under_its_old_times_so_nothing_is_taken_over() {
    let test = "after_a_power_cut_data_lies_on_xfs_under_its_old_times_so_nothing_is_taken_over";
    after_a_power_cut("xfs", ("loop", "loop,nouuid"), test);
}

#[test]
fn within_a_step_of_the_clock_a_change_moves_no_time_so_what_was_young_is_copied() {
    let test = "within_a_step_of_the_clock_a_change_moves_no_time_so_what_was_young_is_copied";
    let dir = tempfile::tempdir().unwrap();
    // Newer kernels give ext4, xfs and btrfs times in finer steps where somebody looks at them; not ext3.
    let Some(image) = image(dir.path(), "ext3", test) else { return };
    let Some(mounted) = Mounted::new(&image, "loop", test) else { return };
    let place = Place::at(&mounted.0);
    let path = place.file("a", "stopped");
    let file = File::options().write(true).open(&path).unwrap();
    for attempt in 0..200 {
        let (one, copy) = (format!("one{attempt}"), place.path(&format!("one{attempt}/a")));
        std::thread::sleep(3 * super::moment::granularity());
        file.write_all_at(b"stopped", 0).unwrap();
        let before = record(&path);
        // The app writes again once it was read.
        let copied = std::thread::scope(|scope| {
            scope.spawn(|| {
                let began = Instant::now();
                let is_read = || fs::read(&copy).is_ok_and(|content| content == b"stopped");
                while !is_read() && began.elapsed() < Duration::from_secs(10) {
                    std::thread::yield_now();
                }
                file.write_all_at(b"running", 0).unwrap();
            });
            place.take_as(&one, |_| {})
        });
        copied.unwrap();
        if record(&path) != before {
            continue;
        }
        let (tree, catalog) = (place.path(&one), place.catalog(&one));
        let take = |name: &str| {
            let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
            (copied.taken_over, fs::read(place.path(name).join("a")).unwrap())
        };
        assert_eq!(take("two"), (0, b"running".to_vec()));
        // Without a margin: as if it had begun so much later.
        let margin = 3 * super::moment::granularity();
        std::thread::sleep(margin);
        change_header(&catalog, |header| {
            for clock in ["wall", "since_boot"] {
                let time = header["began"][clock].as_i64().unwrap();
                header["began"][clock] = (time + i64::try_from(margin.as_nanos()).unwrap()).into();
            }
        });
        assert_eq!(take("believed"), (1, b"stopped".to_vec()));
        return;
    }
    eprintln!("skipped, nothing can be written again within a step of this clock: {test}");
}

#[test]
fn after_the_clock_was_set_back_a_change_can_have_the_times_of_another_so_nothing_is_taken_over() {
    let test = "after_the_clock_was_set_back_a_change_can_have_the_times_of_another_so_nothing_is_taken_over";
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "ext4", test) else { return };
    let Some(mounted) = Mounted::new(&image, "loop", test) else { return };
    let place = Place::at(&mounted.0);
    let path = place.file("a", "of before");
    std::thread::sleep(4 * super::moment::granularity());
    place.take("one");
    let before = record(&path);
    // What a clock that comes by the same nanosecond again gives to a change.
    let meta = fs::metadata(&path).unwrap();
    fs::write(&path, "of after!").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(meta.modified().unwrap())).unwrap();
    drop((file, mounted));
    let request = |field: &str, value: String| format!("set_inode_field /source/a {field} {value}\n");
    let extra = meta.ctime_nsec() << 2;
    let script = dir.path().join("requests");
    fs::write(&script, request("ctime", format!("@{}", meta.ctime())) + &request("ctime_extra", extra.to_string()))
        .unwrap();
    let set = Command::new("debugfs").arg("-w").arg("-f").args([&script, &image]).output();
    if !set.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped, no debugfs: {test}");
    }
    let Some(mounted) = Mounted::new(&image, "loop", test) else { return };
    let place = Place::at(&mounted.0);
    assert_eq!(record(&path), before);
    let (tree, catalog) = (place.path("one"), place.catalog("one"));
    let take = |name: &str| {
        let copied = place.take_from(name, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
        (copied.takeover, fs::read_to_string(place.path(name).join("a")).unwrap())
    };
    assert_eq!(take("believed"), (Takeover::ByRule, "of before".to_owned()));
    // The clock was ahead by an hour when that was taken.
    change_header(&catalog, |header| {
        header["began"]["wall"] = (header["began"]["wall"].as_i64().unwrap() + 3_600_000_000_000).into();
    });
    assert_eq!(take("two"), (Takeover::Refused(Refusal::ClockWentBack), "of after!".to_owned()));
}

#[test]
fn a_folder_that_lists_what_is_not_there_is_an_error_and_not_looked_at_for_ever() {
    let test = "a_folder_that_lists_what_is_not_there_is_an_error_and_not_looked_at_for_ever";
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path(), "ext4", test) else { return };
    let Some(mounted) = Mounted::new(&image, "loop", test) else { return };
    fs::create_dir(mounted.0.join("tree")).unwrap();
    for n in 0..3000 {
        fs::write(mounted.0.join(format!("tree/a rather long name {n}")), "").unwrap();
    }
    drop(mounted);
    // Names are looked up by a hash with this seed, in a folder that has blocks enough.
    let seed = "ssv hash_seed 01234567-89ab-cdef-0123-456789abcdef";
    let set = Command::new("debugfs").args(["-w", "-R", seed]).arg(&image).output();
    if !set.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped, no debugfs: {test}");
    }
    let Some(mounted) = Mounted::new(&image, "loop", test) else { return };
    let tree = mounted.0.join("tree");
    let names = fs::read_dir(&tree).unwrap();
    let lost = names.filter(|entry| fs::symlink_metadata(entry.as_ref().unwrap().path()).is_err()).count();
    assert!(lost > 100, "{lost}");
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(trash::delete(&tree)));
    let error = format!("{:#}", ended.recv_timeout(Duration::from_mins(1)).unwrap().unwrap_err());
    assert!(error.contains("is listed and is not there") && error.contains("cannot be deleted whole"), "{error}");
}
