//! Copies between different kinds of file systems, on real ones in loop files. Wants root, and `mkfs` of each kind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    CWD, FileType, IFlags, Mode, RenameFlags, XattrFlags, ioctl_getflags, ioctl_setflags, lgetxattr, lsetxattr,
    makedev, mknodat, renameat_with,
};
use rustix::io::Errno;

use super::catalog::Catalog;
use super::file_system_tests::Mounted;
use super::flags;
use super::restore::{Restore, restore};
use super::room::are_on_one_file_system;
use super::take::{Take, take};
use super::test_tree::{Place, see};
use super::trash;
use super::verify::{Check, verify};
use crate::sys::raw::{get_fs_xattr, set_fs_xattr};
use crate::sys::signals::Interrupt;

/// Where the live data lies, and where its copies do.
struct Pair {
    live: Place,
    store: Place,
    _mounted: [Mounted; 2],
}

impl Pair {
    fn new(live: &str, store: &str, test: &str) -> Option<Self> {
        let mounted = [Mounted::new(live, &[], test)?, Mounted::new(store, &[], test)?];
        Some(Self { live: Place::at(&mounted[0].path()), store: Place::at(&mounted[1].path()), _mounted: mounted })
    }

    fn catalog(&self) -> Catalog {
        self.store.catalog("copy")
    }

    fn try_take(&self, running: bool) -> anyhow::Result<()> {
        let (source, target, catalog) = (self.live.source(), self.store.path("copy"), self.catalog());
        let order = Take {
            source: &source,
            target: &target,
            flush: &self.store.flush(),
            catalog: &catalog,
            predecessor: None,
            running,
            digest: true,
            reflink: true,
        };
        take(&order, &(), &Interrupt::never()).map(drop)
    }

    /// A copy, which has to be what was recorded and what is there.
    fn take(&self) {
        self.try_take(false).unwrap();
        let (source, copy, catalog) = (self.live.source(), self.store.path("copy"), self.catalog());
        let check = Check { source: Some(&source), ..Check::of(&copy, &catalog) };
        verify(&check, &(), &Interrupt::never()).unwrap();
    }

    /// The way back, which has to give what was there.
    fn restore(&self) {
        let (source, target, catalog) = (self.store.path("copy"), self.live.path("new"), self.catalog());
        let order = Restore {
            source: &source,
            catalog: &catalog,
            target: &target,
            flush: &self.live.flush(),
            live: None,
            digest: true,
            reflink: true,
        };
        restore(&order, &(), &Interrupt::never()).unwrap();
        verify(&Check { live: true, ..Check::of(&target, &catalog) }, &(), &Interrupt::never()).unwrap();
        assert_eq!(see(&self.live.source()), see(&target));
    }
}

fn set(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    lsetxattr(path, name, value, XattrFlags::empty())
}

/// Gives `path` attributes for which an ext4 has just the room: one of them lies in the inode.
fn fill(path: &Path) {
    set(path, "user.b", &[1; 68]).unwrap();
    set(path, "user.a", &[2; 40]).unwrap();
    let fits = (1..4096).rev().find(|&length| match set(path, "user.c", &vec![3; length]) {
        Ok(()) => true,
        Err(e) => {
            assert_eq!(e, Errno::NOSPC);
            false
        }
    });
    assert!(fits.unwrap() > 700, "{fits:?}");
}

#[test]
fn attributes_that_fit_in_one_order_alone_are_copied_and_come_back() {
    for store in ["ext4", "xfs", "btrfs"] {
        let test = "attributes_that_fit_in_one_order_alone_are_copied_and_come_back";
        let Some(pair) = Pair::new("ext4", store, test) else { return };
        fill(&pair.live.file("a", "a"));
        fs::create_dir(pair.live.source().join("folder")).unwrap();
        fill(&pair.live.source().join("folder"));
        pair.take();
        pair.restore();
    }
}

/// `u::rwx,g::rwx,g:100:rwx,m::rwx,o::r-x`, as the kernel takes it.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 7_u16, u32::MAX), (4, 7, u32::MAX), (8, 7, 100), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn acls_which_xfs_lists_twice_go_to_any_kind_of_file_system_and_back() {
    let test = "acls_which_xfs_lists_twice_go_to_any_kind_of_file_system_and_back";
    for (live, store) in [("ext4", "xfs"), ("btrfs", "xfs"), ("xfs", "ext4"), ("xfs", "xfs"), ("ext4", "ext4")] {
        let Some(pair) = Pair::new(live, store, test) else { return };
        let source = pair.live.source();
        fs::create_dir(source.join("shared")).unwrap();
        let file = pair.live.file("file", "x");
        set(&source.join("shared"), "system.posix_acl_default", &acl()).unwrap();
        set(&source.join("shared"), "system.posix_acl_access", &acl()).unwrap();
        set(&file, "system.posix_acl_access", &acl()).unwrap();
        pair.live.file("shared/inherits", "y");
        fs::hard_link(&file, source.join("again")).unwrap();
        pair.take();
        pair.restore();
        let copy = pair.store.path("copy");
        for name in ["file", "shared", "shared/inherits"] {
            let read = |tree: &Path| {
                let mut value = [0; 256];
                let length = lgetxattr(tree.join(name), "system.posix_acl_access", &mut value).unwrap();
                (value[..length].to_vec(), fs::metadata(tree.join(name)).unwrap().mode())
            };
            assert_eq!(read(&source), read(&copy), "{live} {store}");
        }
    }
}

#[test]
fn data_of_another_project_than_its_folder_hands_down_cannot_change_places() {
    let test = "data_of_another_project_than_its_folder_hands_down_cannot_change_places";
    let Some(mounted) = Mounted::new("xfs", &[], test) else { return };
    let (folder, data) = (mounted.path().join("v"), mounted.path().join("v/_data"));
    fs::create_dir_all(&data).unwrap();
    let put = |path: &Path, project: u32, flags: IFlags| {
        let file = fs::File::open(path).unwrap();
        let mut value = get_fs_xattr(&file).unwrap();
        value.project = project;
        set_fs_xattr(&file, value).unwrap();
        ioctl_setflags(&file, ioctl_getflags(&file).unwrap() | flags).unwrap();
    };
    put(&data, 9, IFlags::empty());
    assert_eq!(flags::pins(&data), None);
    put(&folder, 7, IFlags::PROJECT_INHERIT);
    assert!(flags::pins(&data).unwrap().contains("hands down project 7"));
    // So it is: what is built gets the data's project.
    let new = mounted.path().join("v/new");
    fs::create_dir(&new).unwrap();
    put(&new, 9, IFlags::empty());
    fs::create_dir(folder.join("in")).unwrap();
    let exchanged = renameat_with(CWD, &new, CWD, folder.join("in"), RenameFlags::EXCHANGE);
    assert_eq!(exchanged, Err(Errno::XDEV));
    put(&data, 7, IFlags::empty());
    assert_eq!(flags::pins(&data), None);
}

#[test]
fn a_device_number_that_the_state_folders_file_system_cannot_have_is_no_change_of_the_data() {
    let test = "a_device_number_that_the_state_folders_file_system_cannot_have_is_no_change_of_the_data";
    let Some(pair) = Pair::new("btrfs", "xfs", test) else { return };
    let node = pair.live.source().join("node");
    let Ok(()) = mknodat(CWD, &node, FileType::CharacterDevice, Mode::RUSR, makedev(4095, 1_048_575)) else {
        return eprintln!("skipped, no such node can be made here: {test}");
    };
    for running in [true, false] {
        let error = pair.try_take(running).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("`node`: it cannot be made in the copy: Invalid argument"), "{said}");
        assert!(!super::is_passing(&error), "{said}");
        trash::delete(&pair.store.path("copy")).unwrap();
        for path in [pair.catalog().entries, pair.catalog().digests] {
            trash::delete(&path).unwrap();
        }
    }
}

#[test]
fn subvolumes_share_their_file_system_and_others_do_not() {
    let test = "subvolumes_share_their_file_system_and_others_do_not";
    let (Some(btrfs), Some(other)) = (Mounted::new("btrfs", &[], test), Mounted::new("btrfs", &[], test)) else {
        return;
    };
    let sub = btrfs.path().join("sub");
    assert!(Command::new("btrfs").args(["subvolume", "create"]).arg(&sub).output().unwrap().status.success());
    assert_ne!(fs::metadata(&sub).unwrap().dev(), fs::metadata(btrfs.path()).unwrap().dev());
    assert!(are_on_one_file_system(&sub, &btrfs.path()).unwrap());
    assert!(!are_on_one_file_system(&sub, &other.path()).unwrap());
}
