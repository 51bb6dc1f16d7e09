//! What no file system tells of itself, and is tried instead: with files that are gone again.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, futimens, ioctl_ficlone};
use rustix::io::Errno;

use super::flush::sync_file_systems;
use super::garbage::{TRASH, UNFINISHED};
use super::make::times as times_of;
use super::preflight::Quota;
use super::space::is_no_space;
use super::stat::{Stat, Time};
use super::tree;
use crate::sys::random;

/// Whether content can be shared between the folders `from` and `to`: tried with a block.
pub(super) fn reflinks(from: &Path, to: &Path) -> bool {
    let attempt = || -> Result<()> {
        let source = Gone::named(from, TRASH)?;
        std::io::Write::write_all(&mut &source.file, &[b'x'; 4096])?;
        let target = Gone::named(to, UNFINISHED)?;
        Ok(ioctl_ficlone(target.file.as_fd(), source.file.as_fd())?)
    };
    attempt().is_ok()
}

/// Bytes that a file of one byte takes in `dir`: a block, or a cluster of them (ext4's `bigalloc`). Not less than `block`.
pub(super) fn smallest(dir: &Path, block: u64) -> u64 {
    let attempt = || -> Result<u64> {
        let one = Gone::named(dir, TRASH)?;
        std::io::Write::write_all(&mut &one.file, b"x")?;
        Ok(one.file.metadata()?.blocks().saturating_mul(512))
    };
    attempt().map_or(block, |taken| taken.max(block))
}

/// The first of `times` that what lies in `dir` cannot have.
pub(super) fn lost_time(dir: &Path, times: impl Iterator<Item = Time>) -> Result<Option<Time>> {
    let attempt = || -> Result<Option<Time>> {
        let one = Gone::named(dir, UNFINISHED)?;
        for time in times {
            if futimens(&one.file, &times_of(time, time)).is_err() || Stat::of(&one.file)?.mtime() != time {
                return Ok(Some(time));
            }
        }
        Ok(None)
    };
    match attempt() {
        // How much room there is, is asked next.
        Err(error) if is_no_space(&error) => Ok(None),
        tried => tried.with_context(|| format!("it cannot be tried which times `{}` keeps", dir.display())),
    }
}

/// Which of the `wanted` bytes a quota forbids; each with the path of a file to try it with, without the end of its name.
/// Quotas of btrfs hold for root, and do not show in what is free: there it is tried, all at the same time.
pub(super) fn quotas(wanted: &[(PathBuf, u64)]) -> Result<Vec<Quota>> {
    let mut short = Vec::new();
    let mut tried = Vec::new();
    for (path, needed) in wanted.iter().filter(|(_, needed)| *needed > 0) {
        let dir = path.parent().unwrap_or(path);
        let attempt = || -> Result<Option<Gone>> {
            if tree::file_system(fs::File::open(dir)?)? != "btrfs" {
                return Ok(None);
            }
            let mut name = path.clone().into_os_string();
            name.push(random::id()?);
            let gone = Gone::make(name.into())?;
            match fallocate(&gone.file, FallocateFlags::empty(), 0, *needed) {
                Ok(()) | Err(Errno::OPNOTSUPP) => Ok(Some(gone)),
                Err(e) => Err(e.into()),
            }
        };
        match attempt() {
            Ok(gone) => tried.extend(gone),
            Err(error) if is_no_space(&error) => short.push(Quota { path: dir.to_owned(), needed: *needed }),
            Err(error) => {
                return Err(error.context(format!("it cannot be tried whether there is room in `{}`", dir.display())));
            }
        }
    }
    let folders: BTreeSet<PathBuf> = tried.iter().filter_map(|gone| Some(gone.path.parent()?.to_owned())).collect();
    drop(tried);
    // What was deleted counts until then.
    sync_file_systems(folders.iter().map(PathBuf::as_path))?;
    Ok(short)
}

/// A file that is gone at the end.
struct Gone {
    path: PathBuf,
    file: fs::File,
}

impl Gone {
    /// In `dir`, by a name that begins with `prefix`.
    fn named(dir: &Path, prefix: &str) -> Result<Self> {
        Ok(Self::make(dir.join(format!("{prefix}{}", random::id()?)))?)
    }

    fn make(path: PathBuf) -> std::io::Result<Self> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
