//! Space that is set aside when an operation begins, so that its way back can be written down on a full disk.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::snapshot::tree::file_system;
use crate::sys::dirs::AppDirs;
use crate::sys::durable;

/// Enough for every record of a way back.
const BYTES: u64 = 256 << 10;
/// The same on btrfs, where a rename alone takes a few megabytes of a quota until the next commit.
const BYTES_BTRFS: u64 = 16 << 20;

/// Sets it aside.
pub(super) fn set(dirs: &AppDirs) -> Result<()> {
    let allocate = || -> Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(dirs.ballast())?;
        let length = if is_btrfs(&file) { BYTES_BTRFS } else { BYTES };
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            // A file system that cannot reserve space has none to give back either.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    };
    allocate().context("no space for the journal of a way back")
}

/// Bytes that the journal of an operation may have: twice what the longest one was.
const JOURNAL: u64 = 64 << 10;

/// Sets aside, behind the end of the journal, what its further records need: what is given back with the ballast, somebody
/// else may be the first to take. Where that cannot be had, there is the ballast.
pub(super) fn reserve_records(dirs: &AppDirs) {
    let reserve = || -> Result<()> {
        let file = OpenOptions::new().write(true).open(dirs.journal())?;
        Ok(fallocate(&file, FallocateFlags::KEEP_SIZE, 0, JOURNAL)?)
    };
    if let Err(error) = reserve() {
        tracing::debug!("the journal has no room of its own: {error:#}");
    }
}

/// Gives it back.
pub(super) fn free(dirs: &AppDirs) -> Result<()> {
    let path = dirs.ballast();
    if !path.exists() {
        return Ok(());
    }
    durable::remove(&path)?;
    let root = File::open(dirs.root()).with_context(|| format!("cannot open `{}`", dirs.root().display()))?;
    if is_btrfs(&root) {
        // What was deleted counts until that is written. An error is told to whoever needs what was written.
        let _ = rustix::fs::syncfs(&root);
    }
    Ok(())
}

fn is_btrfs(file: &File) -> bool {
    file_system(file).is_ok_and(|kind| kind == "btrfs")
}
