//! What differs between file systems, tried on real ones in loop files. Wants root, and `mkfs` of each kind.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::mount::{UnmountFlags, unmount};

use super::catalog::Catalog;
use super::predecessor::Predecessor;
use super::record::Volume;
use super::scrub::{Scrub, complete, scrub};
use super::store::Store;
use super::take::Take;
use super::test_tree::{Place, is_root};
use super::tree::make_top;
use crate::sys::dirs::Dirs;
use crate::sys::raw::{get_fs_xattr, set_fs_xattr};
use crate::sys::signals::Interrupt;

/// A new file system in a loop file; unmounted at the end.
pub(crate) struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    pub(crate) fn new(kind: &str, options: &[&str], test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).args(options).arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped, no mkfs.{kind}: {test}");
            return None;
        }
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let mount = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(dir.path().join("mnt")).output();
        if !mount.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped, {kind} cannot be mounted here: {test}");
            return None;
        }
        Some(Self { dir })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::empty());
    }
}

fn reflinks(kind: &str, test: &str) {
    let Some(mounted) = Mounted::new(kind, &[], test) else { return };
    let place = Place::at(&mounted.path());
    place.file("large", vec![7; 40 << 20]);
    place.file("d/small", vec![8; 20_000]);
    place.file("d/tiny", "x");
    place.file("empty", "");
    let copied = place.take("copy");
    assert!(copied.reflinked >= 2 && copied.written < 4096, "{copied:?}");
    assert!(!copied.digested);
    place.assert_same("source", "copy");
    let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
    let order = Scrub { copy: &copy, catalog: &catalog, rate: None, from: 0 };
    assert!(complete(&order, &(), &Interrupt::never()).unwrap());
    let found = scrub(&order, &(), &Interrupt::never()).unwrap();
    assert_eq!((found.checked, found.wrong, found.undigested), (4, 0, 0));
    let copied = place.restore_as("copy", "new", |_| {}).unwrap();
    assert!(copied.reflinked >= 2 && copied.digested, "{copied:?}");
    place.assert_same("source", "new");
    // What shares its extents is written to apart.
    fs::write(place.source().join("large"), "changed").unwrap();
    assert_eq!(fs::metadata(place.path("copy/large")).unwrap().size(), 40 << 20);
}

fn of_sparse_files(kind: &str, test: &str) {
    let Some(mounted) = Mounted::new(kind, &[], test) else { return };
    let place = Place::at(&mounted.path());
    // Lengths that would be too many to be added up.
    for n in 0..3 {
        let path = place.file(&format!("{n}"), vec![1; 1 << 16]);
        File::options().write(true).open(path).unwrap().set_len(i64::MAX.unsigned_abs() - (1 << 16)).unwrap();
    }
    let copied = place.take_as("copy", |order| order.digest = false).unwrap();
    assert_eq!(copied.reflinked, 3);
    assert!(copied.bytes < 1 << 20, "{copied:?}");
}

#[test]
fn of_reflinked_files_only_what_is_there_counts_on_btrfs() {
    of_sparse_files("btrfs", "of_reflinked_files_only_what_is_there_counts_on_btrfs");
}

#[test]
fn of_reflinked_files_only_what_is_there_counts_on_xfs() {
    of_sparse_files("xfs", "of_reflinked_files_only_what_is_there_counts_on_xfs");
}

#[test]
fn reflinks_on_btrfs_and_digests_later() {
    reflinks("btrfs", "reflinks_on_btrfs_and_digests_later");
}

#[test]
fn reflinks_on_xfs_and_digests_later() {
    reflinks("xfs", "reflinks_on_xfs_and_digests_later");
}

#[test]
fn copies_to_another_file_system_where_neither_reflink_nor_link_can_be() {
    let test = "copies_to_another_file_system_where_neither_reflink_nor_link_can_be";
    let (Some(one), Some(other)) = (Mounted::new("xfs", &[], test), Mounted::new("ext4", &[], test)) else { return };
    let (live, store) = (Place::at(&one.path()), Place::at(&other.path()));
    live.file("a", vec![1; 3 << 20]);
    live.file("d/b", "b");
    fs::hard_link(live.path("source/a"), live.path("source/d/a")).unwrap();
    let (source, target, catalog) = (live.source(), store.path("copy"), store.catalog("copy"));
    let order = Take {
        source: &source,
        target: &target,
        flush: &store.flush(),
        catalog: &catalog,
        predecessor: None,
        running: false,
        digest: true,
        reflink: true,
    };
    let copied = super::take::take(&order, &(), &Interrupt::never()).unwrap();
    assert_eq!((copied.reflinked, copied.digested), (0, true));
    assert_eq!(super::test_tree::see(&source), super::test_tree::see(&target));
}

#[test]
fn names_a_subvolume_inside_the_tree() {
    let test = "names_a_subvolume_inside_the_tree";
    let Some(mounted) = Mounted::new("btrfs", &[], test) else { return };
    let place = Place::at(&mounted.path());
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(place.source().join("sub")).output().unwrap();
    assert!(made.status.success());
    let error = place.take_as("copy", |_| {}).unwrap_err();
    assert!(format!("{error:#}").contains("`sub` is a subvolume"), "{error:#}");
    // Even where the app runs, and much is passed over.
    let error = place.take_as("staged", |order| order.running = true).unwrap_err();
    assert!(format!("{error:#}").contains("`sub` is a subvolume"), "{error:#}");
}

#[test]
fn names_a_mount_inside_the_tree() {
    let test = "names_a_mount_inside_the_tree";
    let Some(mounted) = Mounted::new("ext4", &[], test) else { return };
    let place = Place::at(&mounted.path());
    fs::create_dir(place.source().join("folder")).unwrap();
    place.file("file", "");
    for (what, name) in [(place.source(), "folder"), (place.file("x", ""), "file")] {
        let at = place.source().join(name);
        assert!(Command::new("mount").arg("--bind").arg(what).arg(&at).status().unwrap().success());
        let error = place.take_as(&format!("copy-{name}"), |_| {}).unwrap_err();
        unmount(&at, UnmountFlags::empty()).unwrap();
        assert!(format!("{error:#}").contains(&format!("`{name}` is a mount")), "{error:#}");
    }
}

fn flag(path: &Path, flags: IFlags) {
    let file = File::open(path).unwrap();
    ioctl_setflags(&file, ioctl_getflags(&file).unwrap() | flags).unwrap();
}

#[test]
fn keeps_nocow_and_compression_on_btrfs() {
    let Some(mounted) = Mounted::new("btrfs", &[], "keeps_nocow_and_compression_on_btrfs") else { return };
    let place = Place::at(&mounted.path());
    fs::create_dir(place.source().join("nocow")).unwrap();
    flag(&place.source().join("nocow"), IFlags::NOCOW);
    place.file("nocow/database", vec![1; 1 << 20]);
    let packed = place.file("packed", "");
    flag(&packed, IFlags::COMPRESSED);
    fs::write(&packed, vec![2; 1 << 20]).unwrap();
    place.file("plain", "plain");
    place.take("copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    for tree in ["copy", "new"] {
        let flags = |name: &str| ioctl_getflags(File::open(place.path(tree).join(name)).unwrap()).unwrap();
        assert!(flags("nocow").contains(IFlags::NOCOW) && flags("nocow/database").contains(IFlags::NOCOW));
        assert!(flags("packed").contains(IFlags::COMPRESSED));
        assert!(!flags("plain").intersects(IFlags::NOCOW | IFlags::COMPRESSED));
    }
}

fn hands_down_nothing(kind: &str, test: &str) {
    let Some(mounted) = Mounted::new(kind, &[], test) else { return };
    let place = Place::at(&mounted.path());
    fs::write(place.file("d/file", "x"), "y").unwrap();
    let own = place.file("own", "z");
    flag(&own, IFlags::NODUMP);
    // Of the state folder for a copy, of a volume's folder for the way back.
    flag(&mounted.path(), IFlags::NOATIME | IFlags::NODUMP | IFlags::SYNC);
    fs::create_dir(mounted.path().join("probe")).unwrap();
    let flags = |path: PathBuf| ioctl_getflags(File::open(path).unwrap()).unwrap();
    assert!(flags(mounted.path().join("probe")).contains(IFlags::NODUMP), "{kind} hands nothing down");
    place.take("copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    for tree in ["copy", "new"] {
        for name in ["", "d", "d/file"] {
            let found = flags(place.path(tree).join(name));
            assert!(!found.intersects(IFlags::NOATIME | IFlags::NODUMP | IFlags::SYNC), "{tree}/{name}: {found:?}");
        }
        assert!(flags(place.path(tree).join("own")).contains(IFlags::NODUMP));
    }
}

#[test]
fn what_the_folder_above_hands_down_does_not_reach_a_copy_on_ext4() {
    hands_down_nothing("ext4", "what_the_folder_above_hands_down_does_not_reach_a_copy_on_ext4");
}

#[test]
fn what_the_folder_above_hands_down_does_not_reach_a_copy_on_xfs() {
    hands_down_nothing("xfs", "what_the_folder_above_hands_down_does_not_reach_a_copy_on_xfs");
}

fn project_of(path: &Path) -> u32 {
    get_fs_xattr(File::open(path).unwrap()).unwrap().project
}

fn set_project(path: &Path, project: u32) {
    let file = File::open(path).unwrap();
    let mut value = get_fs_xattr(&file).unwrap();
    value.project = project;
    set_fs_xattr(&file, value).unwrap();
}

#[test]
fn project_ids_come_back_on_xfs_and_no_copy_is_charged_to_them() {
    let Some(mounted) = Mounted::new("xfs", &[], "project_ids_come_back_on_xfs_and_no_copy_is_charged_to_them") else {
        return;
    };
    let place = Place::at(&mounted.path());
    set_project(&place.file("a", "a"), 7);
    fs::create_dir(place.source().join("d")).unwrap();
    set_project(&place.source().join("d"), 9);
    flag(&place.source().join("d"), IFlags::PROJECT_INHERIT);
    place.file("d/b", "b");
    std::thread::sleep(4 * super::moment::granularity());
    place.take_as("staged", |order| order.running = true).unwrap();
    place.take("copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    let inherits = |path: PathBuf| ioctl_getflags(File::open(path).unwrap()).unwrap().contains(IFlags::PROJECT_INHERIT);
    for (tree, live) in [("staged", false), ("copy", false), ("new", true)] {
        for (name, project) in [("a", 7), ("d", 9), ("d/b", 9), ("", 0)] {
            assert_eq!(project_of(&place.path(tree).join(name)), if live { project } else { 0 }, "{tree}/{name}");
        }
        assert_eq!(inherits(place.path(tree).join("d")), live);
    }
    // A copy of an older program has them: it is valid, but the next one is rid of them.
    for (name, project) in [("a", 7), ("d", 9)] {
        set_project(&place.path("copy").join(name), project);
    }
    flag(&place.path("copy/d"), IFlags::PROJECT_INHERIT);
    place.verify("copy").unwrap();
    let (tree, catalog) = (place.path("copy"), place.catalog("copy"));
    let next = place.take_from("next", Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
    place.verify("next").unwrap();
    assert_eq!((next.taken_over, project_of(&place.path("next/a"))), (1, 0));
}

#[test]
fn where_a_project_forbids_a_second_name_a_file_is_copied() {
    let Some(mounted) = Mounted::new("xfs", &[], "where_a_project_forbids_a_second_name_a_file_is_copied") else {
        return;
    };
    let place = Place::at(&mounted.path());
    place.file("a", "a");
    place.file("d/b", "b");
    std::thread::sleep(4 * super::moment::granularity());
    place.take("one");
    // The operator gives the state folder a project.
    set_project(&mounted.path(), 9);
    flag(&mounted.path(), IFlags::PROJECT_INHERIT);
    let (tree, catalog) = (place.path("one"), place.catalog("one"));
    let take = |name: &str, tree: &Path, catalog: &Catalog| {
        let copied = place.take_from(name, Predecessor { tree, catalog, shutdown: None }).unwrap();
        place.verify(name).unwrap();
        place.assert_same("source", name);
        copied.taken_over
    };
    assert_eq!(take("two", &tree, &catalog), 0);
    assert_eq!(project_of(&place.path("two/d/b")), 9, "it is the operator's word");
    assert_eq!(take("three", &place.path("two"), &place.catalog("two")), 2);
}

/// Waits for the beginning of a second.
fn second() {
    while std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_millis() > 100 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn where_times_are_whole_seconds_what_was_written_in_the_second_of_its_copy_is_copied_again() {
    let test = "where_times_are_whole_seconds_what_was_written_in_the_second_of_its_copy_is_copied_again";
    let Some(mounted) = Mounted::new("ext4", &["-I", "128"], test) else { return };
    let place = Place::at(&mounted.path());
    let state = place.file("state", "");
    let record = || {
        let meta = fs::metadata(&state).unwrap();
        (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
    };
    for attempt in 0..20 {
        let (one, two) = (format!("one{attempt}"), format!("two{attempt}"));
        second();
        fs::write(&state, "stopped").unwrap();
        std::thread::sleep(4 * super::moment::granularity());
        let before = record();
        place.take_as(&one, |_| {}).unwrap();
        fs::write(&state, "running").unwrap();
        if record() != before {
            // The second was over.
            continue;
        }
        assert_eq!(fs::read(place.path(&one).join("state")).unwrap(), b"stopped", "the record says nothing of it");
        let (tree, catalog) = (place.path(&one), place.catalog(&one));
        place.take_from(&two, Predecessor { tree: &tree, catalog: &catalog, shutdown: None }).unwrap();
        assert_eq!(fs::read(place.path(&two).join("state")).unwrap(), b"running");
        return;
    }
    panic!("no copy was made within a second");
}

#[test]
fn an_encrypted_folder_in_a_volume_is_named_and_nothing_is_counted() {
    let test = "an_encrypted_folder_in_a_volume_is_named_and_nothing_is_counted";
    let Some(mounted) = Mounted::new("ext4", &["-O", "encrypt"], test) else { return };
    let root = mounted.path();
    let store = Store::new(&Dirs::new(root.join("state")), &"login".parse().unwrap());
    let volume = Volume { name: "v".to_owned(), dir: root.join("v") };
    let secret = volume.data().join("secret");
    fs::create_dir_all(&secret).unwrap();
    let count = || store.preflight(std::slice::from_ref(&volume), 0, None);
    count().unwrap();
    // FS_IOC_SET_ENCRYPTION_POLICY, version 1: the folder is encrypted, whether the key is there or not.
    let script =
        "import fcntl, os, sys; fcntl.ioctl(os.open(sys.argv[1], 0), 0x800c6613, bytes([0, 1, 4, 0]) + b'key-of-8')";
    let made = Command::new("python3").args(["-c", script]).arg(&secret).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped, nothing can be encrypted here: {test}");
    }
    let error = count().unwrap_err();
    assert!(error.is::<super::Unsuitable>(), "{error:#}");
    assert!(format!("{error:#}").contains("v/_data`: `secret` in it is encrypted"), "{error:#}");
    // What stands is no live data.
    super::measure::tree(&volume.data(), 512).unwrap();
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let test = "a_full_disk_is_an_error_that_says_so";
    let Some(mounted) = Mounted::new("ext4", &[], test) else { return };
    let place = Place::at(&mounted.path());
    for n in 0..25 {
        place.file(&format!("{n}"), vec![1; 10 << 20]);
    }
    let error = place.take_as("copy", |_| {}).unwrap_err();
    assert!(format!("{error:#}").contains("No space left"), "{error:#}");
    // Nobody is in the way of what was half made.
    fs::remove_dir_all(place.path("copy")).unwrap();
    drop(make_top(&place.path("copy")).unwrap());
}

#[test]
fn the_preflight_sees_a_quota_of_btrfs() {
    let Some(mounted) = Mounted::new("btrfs", &[], "the_preflight_sees_a_quota_of_btrfs") else { return };
    let root = mounted.path();
    let btrfs = |arguments: &[&str]| -> String {
        let output = Command::new("btrfs").args(arguments).arg(&root).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let store = Store::new(&Dirs::new(root.join("state")), &"login".parse().unwrap());
    let volume = Volume { name: "v".to_owned(), dir: root.join("v") };
    fs::create_dir_all(volume.data()).unwrap();
    for number in 0..1000 {
        fs::write(volume.data().join(number.to_string()), vec![7; 5000]).unwrap();
    }
    btrfs(&["quota", "enable"]);
    btrfs(&["quota", "rescan", "-w"]);
    btrfs(&["filesystem", "sync"]);
    let shown = btrfs(&["qgroup", "show", "--raw"]);
    let used: u64 = shown
        .lines()
        .find(|line| line.starts_with("0/5 "))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let refusal = || store.preflight(std::slice::from_ref(&volume), 0, None).unwrap().refusal();
    for (room, fits) in [(512 << 10, false), (64 << 20, true)] {
        btrfs(&["qgroup", "limit", &(used + room).to_string(), "0/5"]);
        let refusal = refusal();
        assert_eq!(refusal.is_none(), fits, "{refusal:?}");
        assert!(fits || refusal.unwrap().contains("a quota leaves less"));
    }
    assert_eq!(fs::read_dir(&volume.dir).unwrap().count(), 1, "nothing is left of the trial");
}
