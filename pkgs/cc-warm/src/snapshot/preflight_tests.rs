//! What was counted before a snapshot, and what it then takes, on real file systems in loop files.

use std::fs;
use std::path::Path;

use rustix::fs::futimens;

use super::file_system_tests::Mounted;
use super::make::times;
use super::stat::Time;
use super::store_tests::{Place, work};
use super::{Unsuitable, differs, is_no_space, is_passing};
use crate::sys::durable;

/// Bytes that are free once all is written.
fn free(path: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(path).unwrap()).unwrap();
    super::free_space(path).unwrap()
}

/// A file system, by its kind and the options that it is made with.
type Made<'a> = (&'a str, &'a [&'a str]);

const EXT4: Made<'_> = ("ext4", &["-q"]);
const XFS: Made<'_> = ("xfs", &["-q"]);
const BTRFS: Made<'_> = ("btrfs", &["-q"]);

#[test]
fn a_snapshot_takes_no_more_than_was_counted() {
    let test = "a_snapshot_takes_no_more_than_was_counted";
    let small_blocks: Made<'_> = ("ext4", &["-q", "-b", "1024"]);
    let clusters: Made<'_> = ("ext4", &["-q", "-O", "bigalloc", "-C", "65536", "-b", "4096"]);
    let inline: Made<'_> = ("ext4", &["-q", "-b", "4096", "-O", "inline_data"]);
    for (volumes, state, files, size) in [
        (EXT4, EXT4, 2000, 6000),
        (small_blocks, EXT4, 3000, 100),
        (inline, EXT4, 3000, 60),
        (EXT4, clusters, 2000, 100),
        (XFS, XFS, 2000, 6000),
        (XFS, EXT4, 2000, 6000),
        (EXT4, XFS, 2000, 6000),
        (BTRFS, BTRFS, 3000, 1500),
        (BTRFS, BTRFS, 3000, 6000),
        (EXT4, BTRFS, 3000, 1500),
    ] {
        let what = format!("{volumes:?} to {state:?}, {size}");
        let Some(there) = Mounted::new(volumes.0, volumes.1, test) else { return };
        let other = if volumes == state { None } else { Mounted::new(state.0, state.1, test) };
        if volumes != state && other.is_none() {
            return;
        }
        let store = other.as_ref().map_or_else(|| there.path(), Mounted::path);
        let place = Place::at(tempfile::tempdir().unwrap(), &store.join("state"), &there.path().join("v"), &["a"]);
        for n in 0..files {
            fs::write(place.volumes[0].data().join(n.to_string()), vec![7; size]).unwrap();
        }
        let preflight = place.store.preflight(&place.volumes, 0, None).unwrap();
        assert_eq!(preflight.refusal(), None, "{what}");
        let said = preflight.file_systems[0].snapshot;
        let before = free(&store);
        place.take("one");
        let took = before.saturating_sub(free(&store));
        assert!(took <= said + (1 << 20), "{what}: {said} were said, {took} were taken");
        // Of its records btrfs does not say how many there are, until they fill what was set aside for them.
        assert!(state == BTRFS || said < 4 * took + (4 << 20), "{what}: {said} were said, {took} were taken");
        assert_eq!(preflight.content().bytes / 1000, (files * size + 1) as u64 / 1000, "{what}");
    }
}

#[test]
fn times_that_the_snapshots_file_system_cannot_keep_are_found_before_any_downtime() {
    let test = "times_that_the_snapshots_file_system_cannot_keep_are_found_before_any_downtime";
    let seconds: Made<'_> = ("ext4", &["-q", "-I", "128"]);
    for (volumes, state, time, fits) in [
        (EXT4, EXT4, (1_000_000_000, 5), true),
        (EXT4, seconds, (1_000_000_000, 0), false),
        (BTRFS, EXT4, (20_000_000_000, 0), false),
        (BTRFS, EXT4, (-3_000_000_000, 0), false),
        (BTRFS, BTRFS, (20_000_000_000, 0), true),
    ] {
        let what = format!("{volumes:?} to {state:?}: {time:?}");
        let (Some(there), Some(store)) =
            (Mounted::new(volumes.0, volumes.1, test), Mounted::new(state.0, state.1, test))
        else {
            return;
        };
        let place =
            Place::at(tempfile::tempdir().unwrap(), &store.path().join("state"), &there.path().join("v"), &["a"]);
        let odd = place.volumes[0].data().join("odd");
        fs::write(&odd, "x").unwrap();
        let at = Time { seconds: time.0, nanos: time.1 };
        futimens(fs::File::open(&odd).unwrap(), &times(at, at)).unwrap();
        match place.store.preflight(&place.volumes, 0, None) {
            Ok(preflight) => assert!(fits && preflight.refusal().is_none(), "{what}"),
            Err(error) => {
                assert!(!fits && error.is::<Unsuitable>(), "{what}: {error:#}");
                assert!(error.to_string().contains("cannot keep"), "{what}: {error:#}");
            }
        }
        assert_eq!(fs::read_dir(&place.store.dir).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn what_the_snapshots_file_system_does_not_keep_is_found_while_the_app_runs() {
    let test = "what_the_snapshots_file_system_does_not_keep_is_found_while_the_app_runs";
    for (state, fits) in [(EXT4, true), (("ext4", &["-q", "-I", "128"][..]), false)] {
        let (Some(there), Some(store)) = (Mounted::new("ext4", &["-q"], test), Mounted::new(state.0, state.1, test))
        else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir, &store.path().join("state"), &there.path().join("v"), &["a"]);
        durable::make_dir(&place.store.dir).unwrap();
        match place.store.stage(&place.volumes, None, work()) {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits && differs(&error).is_some() && !is_passing(&error), "{error:#}");
                assert!(format!("{error:#}").contains("has another time"), "{error:#}");
            }
        }
    }
}

#[test]
fn an_attribute_that_is_too_large_is_no_full_disk() {
    let test = "an_attribute_that_is_too_large_is_no_full_disk";
    let (Some(there), Some(store)) = (Mounted::new("xfs", &["-q"], test), Mounted::new("ext4", &["-q"], test)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir, &store.path().join("state"), &there.path().join("v"), &["a"]);
    durable::make_dir(&place.store.dir).unwrap();
    let file = place.volumes[0].data().join("file");
    rustix::fs::setxattr(&file, "user.large", &vec![7; 20_000], rustix::fs::XattrFlags::empty()).unwrap();
    let error = place.store.stage(&place.volumes, None, work()).unwrap_err();
    assert!(format!("{error:#}").contains("its attribute `user.large` cannot be set: No space left"), "{error:#}");
    assert!(!is_no_space(&error) && !is_passing(&error), "{error:#}");
}
