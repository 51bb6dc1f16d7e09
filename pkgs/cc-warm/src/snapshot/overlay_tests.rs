//! What lies on an overlayfs whose layers are different file systems. Wants root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::measure::{self, Unsuitable};
use super::test_tree::is_root;
use super::trash;

/// An overlayfs above two layers; unmounted at the end.
struct Overlay {
    dir: tempfile::TempDir,
}

impl Overlay {
    /// With what `fill` puts into the lower layers, of which it is told the number. The upper one is a file system of its own.
    fn new(fill: impl Fn(usize, &Path), test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let overlay = Self { dir: tempfile::tempdir().unwrap() };
        for (number, name) in ["one", "two", "upper"].into_iter().enumerate() {
            let at = overlay.path(name);
            fs::create_dir(&at).unwrap();
            if mount("tmpfs", &at, "tmpfs", MountFlags::empty(), None).is_err() {
                eprintln!("skipped, nothing can be mounted here: {test}");
                return None;
            }
            if name == "upper" {
                fs::create_dir(at.join("data")).unwrap();
                fs::create_dir(at.join("work")).unwrap();
            } else {
                fill(number, &at);
            }
        }
        fs::create_dir(overlay.path("all")).unwrap();
        let path = |name: &str| overlay.path(name).display().to_string();
        let (upper, work) = (path("upper/data"), path("upper/work"));
        let options = format!("lowerdir={}:{},upperdir={upper},workdir={work},xino=off", path("one"), path("two"));
        let options = std::ffi::CString::new(options).unwrap();
        if mount("overlay", overlay.path("all"), "overlay", MountFlags::empty(), options.as_c_str()).is_err() {
            eprintln!("skipped, no overlayfs here: {test}");
            return None;
        }
        Some(overlay)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("all/tree")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for name in ["all", "upper", "two", "one"] {
            let _ = unmount(self.path(name), UnmountFlags::DETACH);
        }
    }
}

fn linked(layer: usize, at: &Path) {
    fs::create_dir(at.join("tree")).unwrap();
    fs::write(at.join(format!("tree/{layer}")), format!("of layer {layer}")).unwrap();
    fs::hard_link(at.join(format!("tree/{layer}")), at.join(format!("tree/{layer} again"))).unwrap();
}

#[test]
fn files_of_two_layers_that_may_have_one_inode_number_are_refused() {
    let test = "files_of_two_layers_that_may_have_one_inode_number_are_refused";
    let Some(overlay) = Overlay::new(linked, test) else { return };
    let of = |name: &str| fs::metadata(overlay.tree().join(name)).unwrap();
    assert_eq!(of("0").ino(), of("1").ino());
    assert_ne!(of("0").dev(), of("1").dev());
    let error = measure::live(&overlay.tree(), None, 512).unwrap_err();
    assert!(error.is::<Unsuitable>() && format!("{error:#}").contains("overlayfs"), "{error:#}");
    // A snapshot that stands is not asked: it has to go back.
    measure::tree(&overlay.tree(), 512).unwrap();
    // What is of one layer can be told apart.
    fs::remove_file(overlay.tree().join("1")).unwrap();
    fs::remove_file(overlay.tree().join("1 again")).unwrap();
    fs::write(overlay.tree().join("new"), "of the upper one").unwrap();
    measure::live(&overlay.tree(), None, 512).unwrap();
}

#[test]
fn files_of_other_layers_than_their_folder_are_deleted() {
    let test = "files_of_other_layers_than_their_folder_are_deleted";
    let Some(overlay) = Overlay::new(linked, test) else { return };
    fs::write(overlay.tree().join("new"), "x").unwrap();
    trash::delete(&overlay.tree()).unwrap();
    assert!(!overlay.tree().exists());
}
