//! File systems whose image is changed, or copied, behind their back. Wants root, and `mkfs` of each kind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::test_tree::is_root;
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
