//! Copies of whole trees, as others see them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags, ioctl_getflags, ioctl_setflags, lsetxattr, mknodat};

use super::beneath::Root;
use super::changed::Changed;
use super::descent::Descent;
use super::flags::clear_guards;
use super::restore::Damaged;
use super::scrub::{Scrub, complete, scrub};
use super::test_tree::{Place, build, is_root, plans, see};
use super::verify::Differs;
use crate::sys::signals::Interrupt;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_copy_and_what_is_restored_from_it_look_like_the_source(tree in prop::collection::vec(plans(), 0..40)) {
        let place = Place::new();
        build(&place.source(), &tree);
        let before = see(&place.source());
        place.take("copy");
        place.assert_same("source", "copy");
        place.restore_as("copy", "new", |_| {}).unwrap();
        place.assert_same("source", "new");
        prop_assert_eq!(see(&place.source()), before, "the source is only read");
    }
}

#[test]
fn reading_a_tree_does_not_move_its_times_of_access() {
    let place = Place::new();
    for path in ["file", "folder/file", "folder/deeper/file"] {
        place.file(path, "content");
    }
    // So long ago that every usual mount would move them.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    let paths = ["", "file", "folder", "folder/file", "folder/deeper", "folder/deeper/file"];
    for path in paths {
        File::open(place.source().join(path)).unwrap().set_times(times).unwrap();
    }
    place.take("copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    for tree in ["source", "copy", "new"] {
        for path in paths {
            let accessed = fs::metadata(place.path(tree).join(path)).unwrap().accessed().unwrap();
            assert_eq!(accessed, long_ago, "`{path}` of the {tree}");
        }
    }
}

#[test]
fn keeps_holes_and_large_files_whole() {
    let place = Place::new();
    let file = File::create(place.source().join("sparse")).unwrap();
    file.set_len(200 << 20).unwrap();
    for at in [0, (8 << 20) - 5, 70 << 20, (150 << 20) + 77_777] {
        file.write_all_at(&vec![7; 100_000], at).unwrap();
    }
    place.file("large", (0..40_u32 << 20).map(|n| (n >> 7).to_le_bytes()[0]).collect::<Vec<_>>());
    place.file("zeros", vec![0; 1 << 20]);
    for (name, digest) in [("digested", true), ("plain", false)] {
        let copied = place.take_as(name, |order| (order.digest, order.reflink) = (digest, false)).unwrap();
        assert_eq!(copied.sparse, 1);
        place.verify(name).unwrap();
        place.assert_same("source", name);
        for file in ["sparse", "zeros"] {
            let blocks = |tree: &str| fs::metadata(place.path(tree).join(file)).unwrap().blocks();
            assert!(blocks(name).abs_diff(blocks("source")) < 100, "{} {}", blocks(name), blocks("source"));
        }
    }
    place.restore_as("digested", "new", |order| order.reflink = false).unwrap();
    place.assert_same("source", "new");
}

#[test]
fn leaves_sockets_out_and_counts_them() {
    let place = Place::new();
    place.file("a", "a");
    let _socket = UnixListener::bind(place.source().join("socket")).unwrap();
    assert_eq!(place.take("copy").sockets, 1);
    assert!(!place.path("copy/socket").exists());
    assert_eq!(place.restore_as("copy", "new", |_| {}).unwrap().sockets, 1);
}

#[test]
fn reads_and_writes_nothing_outside_and_is_not_blocked() {
    let place = Place::new();
    fs::write(place.path("secret"), "secret").unwrap();
    symlink("../secret", place.source().join("file")).unwrap();
    symlink("..", place.source().join("folder")).unwrap();
    symlink("/proc/self/root", place.source().join("magic")).unwrap();
    mknodat(CWD, place.source().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    place.take("copy");
    place.assert_same("source", "copy");
    assert!(fs::symlink_metadata(place.path("copy/folder")).unwrap().is_symlink());
}

#[test]
fn what_is_swapped_for_a_symlink_while_it_is_copied_leads_nowhere() {
    let place = Place::in_memory();
    fs::write(place.path("secret"), "secret").unwrap();
    fs::create_dir(place.path("outside")).unwrap();
    fs::write(place.path("outside/inner"), "secret").unwrap();
    let (source, stop) = (place.source(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, folder, new) = (source.join("file"), source.join("folder"), source.join(".new"));
            while !stop.load(Ordering::Relaxed) {
                fs::write(&new, "own").unwrap();
                fs::rename(&new, &file).unwrap();
                symlink("../secret", &new).unwrap();
                fs::rename(&new, &file).unwrap();
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("inner"), "own").unwrap();
                fs::remove_file(folder.join("inner")).unwrap();
                fs::remove_dir(&folder).unwrap();
                symlink("../outside", &folder).unwrap();
                fs::remove_file(&folder).unwrap();
            }
        });
        let rounds = || -> anyhow::Result<()> {
            for round in 0..100 {
                let name = format!("copy{round}");
                place.take_as(&name, |order| order.running = true)?;
                let secret = see(&place.path(&name)).into_iter().find(|(_, seen)| seen.content == b"secret");
                anyhow::ensure!(secret.is_none(), "{secret:?}");
                fs::remove_dir_all(place.path(&name))?;
            }
            Ok(())
        };
        let result = rounds();
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    assert_eq!(fs::read(place.path("outside/inner")).unwrap(), b"secret");
}

#[test]
fn says_what_still_writes_whatever_it_does() {
    let changes: [Change; 9] = [
        ("a", |top| fs::write(top.join("a"), "other").unwrap()),
        ("a", |top| File::options().append(true).open(top.join("a")).unwrap().write_all_at(b"more", 9).unwrap()),
        ("a", |top| fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("a", |top| fs::remove_file(top.join("a")).unwrap()),
        ("a", |top| fs::hard_link(top.join("a"), top.join("z")).unwrap()),
        ("d/.", |top| fs::write(top.join("d/new"), "").unwrap()),
        ("d/.", |top| fs::remove_file(top.join("d/b")).unwrap()),
        (".", |top| fs::remove_dir_all(top.join("d")).unwrap()),
        ("d/b", |top| {
            let file = File::options().write(true).open(top.join("d/b")).unwrap();
            let times = fs::metadata(top.join("d/b")).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(b"B", 0).unwrap();
            file.set_modified(times.modified().unwrap()).unwrap();
        }),
    ];
    for (number, (path, change)) in changes.into_iter().enumerate() {
        let place = Place::new();
        place.file("a", "a");
        place.file("d/b", "b");
        place.take("copy");
        change(&place.source());
        let error = place.verify("copy").unwrap_err();
        let found = error.downcast_ref::<Changed>().unwrap_or_else(|| panic!("{number}: {error:#}"));
        // A change in a folder may be seen in the folder itself, or in what is in it.
        assert!(path.starts_with(found.path.trim_end_matches('.')) || found.path == ".", "{number}: {found}");
    }
}

#[test]
fn says_what_is_wrong_with_a_copy_whatever_it_is() {
    let changes: [Change; 8] = [
        ("`a` has another size", |top| fs::write(top.join("a"), "longer").unwrap()),
        ("`a` has another mode", |top| fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o601)).unwrap()),
        ("`a` is missing", |top| fs::remove_file(top.join("a")).unwrap()),
        ("`d/new` was not recorded", |top| fs::write(top.join("d/new"), "").unwrap()),
        ("`e` is missing", |top| fs::remove_dir(top.join("e")).unwrap()),
        ("`a` has other extended attributes", |top| {
            lsetxattr(top.join("a"), "user.new", b"1", XattrFlags::empty()).unwrap();
        }),
        ("`l` leads elsewhere", |top| {
            let modified = fs::symlink_metadata(top.join("l")).unwrap();
            fs::remove_file(top.join("l")).unwrap();
            symlink("A", top.join("l")).unwrap();
            put_time(&top.join("l"), &modified);
        }),
        ("is linked otherwise", |top| {
            let modified = fs::metadata(top.join("h1")).unwrap();
            fs::remove_file(top.join("h1")).unwrap();
            fs::write(top.join("h1"), "h").unwrap();
            put_time(&top.join("h1"), &modified);
        }),
    ];
    for (expected, change) in changes {
        let place = Place::new();
        place.file("a", "a");
        place.file("d/b", "b");
        place.file("h1", "h");
        fs::hard_link(place.source().join("h1"), place.source().join("h2")).unwrap();
        fs::create_dir(place.source().join("e")).unwrap();
        symlink("a", place.source().join("l")).unwrap();
        place.take("copy");
        let times = see(&place.path("copy"));
        change(&place.path("copy"));
        // What the change did to the folders' times would be found first.
        for (path, seen) in times.iter().rev().filter(|(path, _)| place.path("copy").join(path).is_dir()) {
            set_mtime(&place.path("copy").join(path), seen.mtime);
        }
        let error = place.verify("copy").unwrap_err();
        assert!(error.chain().any(<dyn std::error::Error>::is::<Differs>), "{error:#}");
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

/// Where it shows, and what is done.
type Change = (&'static str, fn(&Path));

fn put_time(path: &Path, as_of: &fs::Metadata) {
    set_mtime(path, (as_of.mtime(), as_of.mtime_nsec()));
}

fn set_mtime(path: &Path, (seconds, nanos): (i64, i64)) {
    let spec = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: spec, last_modification: spec };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_snapshot_whose_content_rotted_is_found_and_not_restored() {
    let place = Place::new();
    place.file("a", vec![1; 100_000]);
    place.file("b", "b");
    place.take("copy");
    let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
    let order = Scrub { copy: &copy, catalog: &catalog, rate: None, from: 0 };
    let found = scrub(&order, &(), &Interrupt::never()).unwrap();
    assert_eq!((found.checked, found.wrong, found.complete), (2, 0, true));
    // As a disk does it: one byte, and no time moves.
    let meta = fs::metadata(copy.join("a")).unwrap();
    File::options().write(true).open(copy.join("a")).unwrap().write_all_at(&[2], 70_000).unwrap();
    put_time(&copy.join("a"), &meta);
    place.verify("copy").unwrap();
    let found = scrub(&order, &(), &Interrupt::never()).unwrap();
    assert_eq!((found.checked, found.wrong), (2, 1));
    assert_eq!(found.damage, ["`a` has other content than its digest says"]);
    let error = place.restore_as("copy", "new", |_| {}).unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<Damaged>), "{error:#}");
}

#[test]
fn a_label_that_a_security_module_gave_to_a_copy_is_no_damage_and_another_one_is() {
    let test = "a_label_that_a_security_module_gave_to_a_copy_is_no_damage_and_another_one_is";
    let place = Place::new();
    place.file("a", "a");
    symlink("a", place.source().join("link")).unwrap();
    place.take("one");
    let label = |path: &Path, text: &str| lsetxattr(path, "security.selinux", text.as_bytes(), XattrFlags::empty());
    if label(&place.path("one/a"), "given\0").is_err() || label(&place.path("one/link"), "given\0").is_err() {
        return eprintln!("skipped, no labels here: {test}");
    }
    place.verify("one").unwrap();
    place.restore_as("one", "new", |_| {}).unwrap();
    label(&place.source().join("a"), "own\0").unwrap();
    place.take("two");
    label(&place.path("two/a"), "other\0").unwrap();
    let error = place.restore_as("two", "newer", |_| {}).unwrap_err();
    assert!(error.to_string().contains("has other extended attributes"), "{error:#}");
}

#[test]
fn a_scrub_goes_on_where_it_ended() {
    let place = Place::new();
    for n in 0..100 {
        place.file(&format!("{}/{n}", n % 7), format!("{n}"));
    }
    place.take("copy");
    let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
    let order = |from| Scrub { copy: &copy, catalog: &catalog, rate: None, from };
    let interrupted = Interrupt::never();
    interrupted.set();
    let found = scrub(&order(0), &(), &interrupted).unwrap();
    assert!(!found.complete);
    let found = scrub(&order(60), &(), &Interrupt::never()).unwrap();
    assert_eq!((found.checked, found.position, found.complete), (40, 100, true));
}

#[test]
fn digests_that_were_not_taken_are_taken_later() {
    let place = Place::new();
    place.file("a", "a");
    place.file("d/b", "b");
    fs::hard_link(place.source().join("a"), place.source().join("d/a")).unwrap();
    place.take("whole");
    place.take_as("copy", |order| order.digest = false).unwrap();
    let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
    let order = Scrub { copy: &copy, catalog: &catalog, rate: None, from: 0 };
    let interrupted = Interrupt::never();
    interrupted.set();
    assert!(!complete(&order, &(), &interrupted).unwrap(), "interrupted, it has not got them all");
    assert!(complete(&order, &(), &Interrupt::never()).unwrap());
    let found = scrub(&order, &(), &Interrupt::never()).unwrap();
    assert_eq!((found.wrong, found.undigested, found.complete), (0, 0, true));
    fs::write(copy.join("d/b"), "x").unwrap();
    assert_eq!(scrub(&order, &(), &Interrupt::never()).unwrap().wrong, 1);
}

#[test]
fn a_tree_4000_deep_is_copied_verified_and_restored() {
    let place = Place::in_memory();
    {
        let root = Root::open(&place.source()).unwrap();
        let mut descent = Descent::new(&root).unwrap();
        for depth in 0..4000 {
            let dir = descent.dir().unwrap();
            rustix::fs::mkdirat(&*dir, "folder", Mode::RWXU).unwrap();
            if depth % 500 == 0 {
                let file = root.create_file(&dir, b"file", 0o640).unwrap();
                rustix::io::write(&file, b"deep").unwrap();
            }
            descent.enter(b"folder").unwrap();
        }
    }
    let copied = place.take("copy");
    assert_eq!(copied.entries, 4001 + 8);
    assert_eq!(place.restore_as("copy", "new", |_| {}).unwrap().entries, 4001 + 8);
}

#[test]
fn flags_are_copied_last_and_do_not_hinder() {
    if !is_root("flags_are_copied_last_and_do_not_hinder") {
        return;
    }
    let place = Place::new();
    let set = |path: &Path, flags: IFlags| {
        let file = File::open(path).unwrap();
        ioctl_setflags(&file, ioctl_getflags(&file).unwrap() | flags).map(|()| file)
    };
    place.file("d/a", "a");
    fs::hard_link(place.source().join("d/a"), place.source().join("b")).unwrap();
    place.file("log", "log");
    let mut all = Vec::new();
    for (name, flags) in [
        ("d/a", IFlags::IMMUTABLE | IFlags::NODUMP),
        ("log", IFlags::APPEND | IFlags::NOATIME),
        ("d", IFlags::IMMUTABLE),
    ] {
        match set(&place.source().join(name), flags) {
            Ok(_) => all.push((name, flags)),
            Err(e) => return eprintln!("skipped, no flags here ({e}): flags_are_copied_last_and_do_not_hinder"),
        }
    }
    place.take("copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    for tree in ["copy", "new", "source"] {
        for (name, flags) in all.iter().rev() {
            let file = File::open(place.path(tree).join(name)).unwrap();
            assert!(ioctl_getflags(&file).unwrap().contains(*flags), "{tree}/{name}");
            assert!(clear_guards(&file).unwrap());
        }
    }
    place.assert_same("source", "copy");
    place.assert_same("source", "new");
}

#[test]
fn default_acls_are_given_to_folders_and_not_to_what_is_made_in_them() {
    let place = Place::new();
    place.file("d/plain", "a");
    // Version 2; user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::---.
    let acl: Vec<u8> = [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
        .iter()
        .fold(2_u32.to_le_bytes().to_vec(), |mut bytes, (tag, rights, id)| {
            bytes.extend(tag.to_le_bytes().iter().chain(&rights.to_le_bytes()).chain(&id.to_le_bytes()));
            bytes
        });
    for (path, name) in
        [("d", "system.posix_acl_default"), ("d", "system.posix_acl_access"), ("", "system.posix_acl_default")]
    {
        lsetxattr(place.source().join(path), name, &acl, XattrFlags::empty()).unwrap();
    }
    let group = fs::Permissions::from_mode(0o2775);
    fs::set_permissions(place.source().join("d"), group).unwrap();
    // The folder that the copies are made in would hand its own down.
    lsetxattr(place.path(""), "system.posix_acl_default", &acl, XattrFlags::empty()).unwrap();
    place.take("copy");
    place.assert_same("source", "copy");
    place.restore_as("copy", "new", |_| {}).unwrap();
    place.assert_same("source", "new");
}
