//! Trees for tests, and what is seen of them by other means than the engine's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lsetxattr, makedev, mknodat,
    utimensat,
};

use super::catalog::Catalog;
use super::flush::Flush;
use super::predecessor::Predecessor;
use super::restore::{Restore, restore};
use super::take::{Take, take};
use super::tree::Copied;
use super::verify::{Check, verify};
use crate::sys::signals::Interrupt;

/// What is seen of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: u32,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    pub(crate) mtime: (i64, i64),
    pub(crate) device: u64,
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path with the same inode.
    pub(crate) same: PathBuf,
}

/// All that is seen below `top`, the top among it.
pub(crate) fn see(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    let mut paths = Vec::new();
    while let Some(path) = left.pop() {
        if fs::symlink_metadata(top.join(&path)).unwrap().is_dir() {
            left.extend(fs::read_dir(top.join(&path)).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let full = top.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec()
        } else if meta.is_file() {
            fs::read(&full).unwrap()
        } else {
            Vec::new()
        };
        let same = inodes.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
        let seen = Seen {
            kind: meta.mode() & 0o170_000,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            size: if meta.is_dir() { 0 } else { meta.size() },
            mtime: (meta.mtime(), meta.mtime_nsec()),
            device: meta.rdev(),
            content,
            xattrs: xattrs(&full),
            same,
        };
        all.insert(path, seen);
    }
    all
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Whether this runs as root; says so by `name` if not.
pub(crate) fn is_root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped, wants root: {name}");
    }
    root
}

/// A folder with a source, and room for copies and catalogs.
pub(crate) struct Place {
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let place = Self { dir: temporary.path().to_owned(), _temporary: Some(temporary) };
        fs::create_dir(place.source()).unwrap();
        place
    }

    /// In memory, if that can be, for what makes many entries or syncs often.
    pub(crate) fn in_memory() -> Self {
        let Ok(temporary) = tempfile::tempdir_in("/dev/shm") else { return Self::new() };
        let place = Self { dir: temporary.path().to_owned(), _temporary: Some(temporary) };
        fs::create_dir(place.source()).unwrap();
        place
    }

    /// In a folder that somebody else made.
    pub(crate) fn at(dir: &Path) -> Self {
        let place = Self { dir: dir.to_owned(), _temporary: None };
        fs::create_dir_all(place.source()).unwrap();
        place
    }

    /// The file system that all of it lies on.
    pub(crate) fn flush(&self) -> Flush {
        Flush::hold(&self.dir).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn catalog(&self, name: &str) -> Catalog {
        Catalog { entries: self.path(&format!("{name}.entries")), digests: self.path(&format!("{name}.digests")) }
    }

    /// Takes a copy called `name`, digested; it is changed by `change` before that.
    pub(crate) fn take_as(&self, name: &str, change: impl FnOnce(&mut Take<'_>)) -> anyhow::Result<Copied> {
        self.take_with(name, None, change)
    }

    /// Takes a copy called `name`, digested, from the source and its predecessor.
    pub(crate) fn take_from(&self, name: &str, predecessor: Predecessor<'_>) -> anyhow::Result<Copied> {
        self.take_with(name, Some(predecessor), |_| {})
    }

    fn take_with(
        &self,
        name: &str,
        predecessor: Option<Predecessor<'_>>,
        change: impl FnOnce(&mut Take<'_>),
    ) -> anyhow::Result<Copied> {
        let (source, target, catalog) = (self.source(), self.path(name), self.catalog(name));
        let flush = self.flush();
        let mut order = Take {
            source: &source,
            target: &target,
            flush: &flush,
            catalog: &catalog,
            predecessor,
            running: false,
            digest: true,
            reflink: true,
        };
        change(&mut order);
        take(&order, &(), &Interrupt::never())
    }

    /// Takes and verifies a copy called `name`.
    pub(crate) fn take(&self, name: &str) -> Copied {
        let copied = self.take_as(name, |_| {}).unwrap();
        self.verify(name).unwrap();
        copied
    }

    /// Verifies the copy called `name` against the source.
    pub(crate) fn verify(&self, name: &str) -> anyhow::Result<u64> {
        let (source, copy, catalog) = (self.source(), self.path(name), self.catalog(name));
        let check = Check { source: Some(&source), ..Check::of(&copy, &catalog) };
        verify(&check, &(), &Interrupt::never())
    }

    /// Restores the copy `name` to `target`; it is changed by `change` before that.
    pub(crate) fn restore_as(
        &self,
        name: &str,
        target: &str,
        change: impl FnOnce(&mut Restore<'_>),
    ) -> anyhow::Result<Copied> {
        self.restore_with(name, target, None, change)
    }

    /// Restores the copy `name` to `target`, with what did not change of `live`.
    pub(crate) fn restore_with(
        &self,
        name: &str,
        target: &str,
        live: Option<Predecessor<'_>>,
        change: impl FnOnce(&mut Restore<'_>),
    ) -> anyhow::Result<Copied> {
        let (source, catalog, target) = (self.path(name), self.catalog(name), self.path(target));
        let flush = self.flush();
        let mut order = Restore {
            source: &source,
            catalog: &catalog,
            target: &target,
            flush: &flush,
            live,
            digest: true,
            reflink: true,
        };
        change(&mut order);
        let copied = restore(&order, &(), &Interrupt::never())?;
        verify(&Check { live: true, ..Check::of(&target, &catalog) }, &(), &Interrupt::never())?;
        Ok(copied)
    }

    /// Asserts that the trees `one` and `other` look the same.
    pub(crate) fn assert_same(&self, one: &str, other: &str) {
        let (one, other) = (see(&self.path(one)), see(&self.path(other)));
        for (path, seen) in &one {
            assert_eq!(Some(seen), other.get(path), "{}", path.display());
        }
        assert_eq!(one.len(), other.len());
    }
}

/// Changes what `catalog` says of the moment that it was made in, and of the tree. It has no checksum of its own.
pub(crate) fn change_header(catalog: &Catalog, change: impl FnOnce(&mut serde_json::Value)) {
    let mut bytes = fs::read(&catalog.entries).unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[..512]).unwrap();
    change(&mut header);
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(511, b' ');
    header.push(b'\n');
    bytes.splice(..512, header);
    fs::write(&catalog.entries, bytes).unwrap();
}

/// An entry of a generated tree.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    up: usize,
    name: Vec<u8>,
    what: What,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    xattrs: Vec<(u8, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum What {
    File(Vec<(u64, Vec<u8>)>, u64),
    Folder,
    Symlink(Vec<u8>),
    Link(usize),
    Fifo,
    Device,
}

fn whats() -> impl Strategy<Value = What> {
    let piece = (0..300_000_u64, prop::collection::vec(any::<u8>(), 1..5000));
    prop_oneof![
        6 => (prop::collection::vec(piece, 0..4), 0..300_000_u64).prop_map(|(pieces, end)| What::File(pieces, end)),
        3 => Just(What::Folder),
        1 => prop::collection::vec(1..=255_u8, 1..300).prop_map(What::Symlink),
        2 => any::<usize>().prop_map(What::Link),
        1 => Just(What::Fifo),
        1 => Just(What::Device),
    ]
}

prop_compose! {
    pub(crate) fn plans()(
        up in any::<usize>(),
        name in prop::collection::vec((1..=255_u8).prop_filter("no slash", |b| *b != b'/'), 1..=255),
        what in whats(),
        mode in 0..0o10000_u32,
        owner in (0..3000_u32, 0..3000_u32),
        mtime in (-1_000_000_000_i64..4_000_000_000, 0..1_000_000_000_i64),
        xattrs in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)), 0..3),
    ) -> Plan {
        Plan { up, name, what, mode, owner, mtime, xattrs }
    }
}

/// Makes the tree of `plans` at `top`; as root also what only root can make.
pub(crate) fn build(top: &Path, plans: &[Plan]) {
    let root = rustix::process::geteuid().is_root();
    let mut folders = vec![top.to_owned()];
    let mut made: Vec<(PathBuf, &Plan)> = Vec::new();
    for plan in plans {
        let path = folders[plan.up % folders.len()].join(OsStr::from_bytes(&plan.name));
        if matches!(&*plan.name, b"." | b"..") || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &plan.what {
            What::File(pieces, end) => {
                let file = File::create(&path).unwrap();
                for (at, bytes) in pieces {
                    file.write_all_at(bytes, *at).unwrap();
                }
                let size = file.metadata().unwrap().len();
                file.set_len(size.max(*end)).unwrap();
            }
            What::Folder => {
                fs::create_dir(&path).unwrap();
                folders.push(path.clone());
            }
            What::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            What::Link(index) => {
                let files: Vec<_> = made.iter().filter(|(_, plan)| !matches!(plan.what, What::Folder)).collect();
                let Some((first, _)) = files.get(index % files.len().max(1)) else { continue };
                fs::hard_link(first, &path).unwrap();
            }
            What::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            What::Device if root => {
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::RWXU, makedev(1, 3)).unwrap();
            }
            What::Device => continue,
        }
        made.push((path, plan));
    }
    for (path, plan) in made.iter().rev() {
        dress(path, plan, root);
    }
}

fn dress(path: &Path, plan: &Plan, root: bool) {
    let is_link = fs::symlink_metadata(path).unwrap().is_symlink();
    if root {
        std::os::unix::fs::lchown(path, Some(plan.owner.0), Some(plan.owner.1)).unwrap();
    }
    if !is_link {
        // Whoever is not root must be able to get in again.
        let mode = if root { plan.mode } else { plan.mode & 0o777 | 0o700 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let special = !fs::symlink_metadata(path).unwrap().is_file() && !path.is_dir();
    for (key, value) in &plan.xattrs {
        let space = if root { "trusted" } else { "user" };
        if root || !special {
            lsetxattr(path, format!("{space}.k{key}"), value, XattrFlags::empty()).unwrap();
        }
    }
    let spec = Timespec { tv_sec: plan.mtime.0, tv_nsec: plan.mtime.1 };
    let times = Timestamps { last_access: spec, last_modification: spec };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
