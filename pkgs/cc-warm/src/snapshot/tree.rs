//! What copying, verifying and scrubbing have in common.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FileType, Gid, Mode, Uid, fchmod, fchown, fstatfs, mkdirat};

use super::beneath::{Dir, Root};
use super::flags;
use super::names::Names;
use super::predecessor::Takeover;
use super::xattrs::clear_inherited;

/// What a copy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Entries that were recorded, the top and sockets among them.
    pub entries: u64,
    /// Bytes of content that were dealt with, holes left out.
    pub bytes: u64,
    /// Bytes that were written; the rest was reflinked or taken over.
    pub written: u64,
    /// Files whose extents are shared with the source's.
    pub reflinked: u64,
    /// Files that were taken over from the predecessor.
    pub taken_over: u64,
    /// Sockets, which are left out.
    pub sockets: u64,
    /// Files with holes.
    pub sparse: u64,
    /// Entries of which the target's file system cannot have all flags, the project or the like.
    pub lessened: u64,
    /// Whether the digest of each file's content is known.
    pub digested: bool,
    /// What was made of the predecessor.
    pub takeover: Takeover,
    /// The catalog's checksum.
    pub sum: String,
}

/// The kind of file system that `dir` is on, as records name it.
pub fn file_system(dir: impl AsFd) -> Result<String> {
    let magic = fstatfs(dir)?.f_type;
    Ok(match u32::try_from(magic & 0xffff_ffff) {
        Ok(0xEF53) => "ext4".to_owned(),
        Ok(0x5846_5342) => "xfs".to_owned(),
        Ok(0x9123_683E) => "btrfs".to_owned(),
        Ok(0x0102_1994) => "tmpfs".to_owned(),
        _ => format!("{magic:x}"),
    })
}

/// Makes the top of a copy, closed to everybody else until it is complete.
pub fn make_top(path: &Path) -> Result<Root> {
    let make = || -> io::Result<Root> {
        mkdirat(rustix::fs::CWD, path, Mode::RWXU)?;
        let root = Root::open(path)?;
        // Whatever the folder above would hand down to all that is made in it.
        clear_inherited(root.dir())?;
        flags::apply_late(root.dir(), 0, &flags::Ability::default())?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        fchown(root.dir(), Some(Uid::from_raw(uid.as_raw())), Some(Gid::from_raw(gid.as_raw())))?;
        fchmod(root.dir(), Mode::RWXU)?;
        Ok(root)
    };
    make().with_context(|| format!("cannot make the folder `{}`", path.display()))
}

/// How many threads work at a time.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// What is in a folder: names of what is no folder, and of folders, each sorted.
#[derive(Debug, Default)]
pub struct Listing {
    /// What is no folder.
    pub names: Names,
    /// Folders.
    pub folders: VecDeque<Box<[u8]>>,
}

impl Listing {
    /// Of `dir` in `root`.
    pub fn read(root: &Root, dir: &Dir) -> io::Result<Self> {
        let mut listing = Self::default();
        let mut folders = Vec::new();
        let mut unknown = Vec::new();
        let mut pushed = Ok(());
        dir.each(|name, kind| match kind {
            FileType::Directory => folders.push(Box::from(name)),
            FileType::Unknown => unknown.push(Box::<[u8]>::from(name)),
            _ if pushed.is_ok() => pushed = listing.names.push_of(name, kind == FileType::RegularFile),
            _ => {}
        })?;
        pushed?;
        for name in unknown {
            match root.stat_at(dir, &name) {
                Ok(stat) if stat.kind() == FileType::Directory => folders.push(name),
                // What vanished meanwhile is found out by whoever looks for it.
                _ => listing.names.push(&name)?,
            }
        }
        listing.names.sort();
        folders.sort_unstable();
        listing.folders = folders.into();
        Ok(listing)
    }
}
