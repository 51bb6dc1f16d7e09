//! One file system: what is there, and what is needed of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::statfs;
use serde::{Deserialize, Serialize};

use super::measure::Amount;
use super::tree;
use super::trial::smallest;
use crate::sys::raw;

/// What an entry takes of a file system's own records, generously; where they were made with the file system, nothing.
const RECORDS: u64 = 1024;
/// What btrfs takes for a name of a file that is taken over, with its copy: measured, 0.95 KB.
const NAME_OF_BTRFS: u64 = 1024;

/// One file system: what is there, and what is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSystem {
    /// A folder on it.
    pub path: PathBuf,
    /// Bytes for the snapshot.
    pub snapshot: u64,
    /// Bytes for the way back.
    pub restore: u64,
    /// Inodes for both.
    pub inodes: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Inodes that are free; `None`: they are made as they are needed.
    pub free_inodes: Option<u64>,
    #[serde(skip)]
    pub(super) key: Key,
    #[serde(skip)]
    pub(super) kind: String,
    /// Bytes of the smallest piece of content.
    #[serde(skip)]
    pub(super) block: u64,
}

/// What two paths on one file system have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Key {
    #[default]
    Unknown,
    Device(u64),
    /// Subvolumes have devices of their own, and share the space.
    Btrfs([u8; 16]),
}

impl FileSystem {
    /// That of `path`, of which nothing is needed yet.
    pub(super) fn at(path: &Path, key: Key, kind: String) -> Result<Self> {
        let found = statfs(path).with_context(|| format!("cannot ask the file system of `{}`", path.display()))?;
        let block = u64::try_from(found.f_bsize).unwrap_or(1);
        Ok(Self {
            path: path.to_owned(),
            snapshot: 0,
            restore: 0,
            inodes: 0,
            free: found.f_bavail.saturating_mul(block),
            free_inodes: (found.f_files > 0).then_some(found.f_ffree),
            key,
            block: match kind.as_str() {
                "ext4" => smallest(path, block),
                "xfs" | "btrfs" | "tmpfs" => block,
                // What others call their block is the largest that they have (ZFS), or the best to read (NFS).
                _ => block.min(4096),
            },
            kind,
        })
    }

    /// What of `amount` becomes this file system's, when `reflink`ed or not, beside names of `linked` files.
    pub(super) fn takes(&self, amount: Amount, reflink: bool, linked: u64) -> u64 {
        let content = if reflink { 0 } else { amount.blocks };
        let records = match self.kind.as_str() {
            "ext4" | "tmpfs" => 0,
            "btrfs" => amount.btrfs.saturating_add(linked.saturating_mul(NAME_OF_BTRFS)),
            _ => amount.totals.entries.saturating_mul(RECORDS),
        };
        content.saturating_add(records)
    }

    pub(super) fn shortage(&self, reserve: u64) -> Option<String> {
        let needed = self.snapshot.saturating_add(self.restore).saturating_add(reserve);
        let at = self.path.display();
        if needed > self.free {
            return Some(format!(
                "on the file system of `{at}` {} are needed ({} for the snapshot, {} for the way back, {} in reserve), {} are free",
                bytes(needed),
                bytes(self.snapshot),
                bytes(self.restore),
                bytes(reserve),
                bytes(self.free)
            ));
        }
        let free = self.free_inodes?;
        (self.inodes > free)
            .then(|| format!("on the file system of `{at}` {} inodes are needed, {free} are free", self.inodes))
    }
}

/// Bytes as people read them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn bytes(count: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

/// Which file system `path` is on, and of which kind.
pub(super) fn identify(path: &Path) -> Result<(Key, String)> {
    let open = || -> Result<(Key, String)> {
        let file = fs::File::open(path)?;
        let key = match raw::btrfs_id(&file) {
            Ok(id) => Key::Btrfs(id),
            Err(_) => Key::Device(file.metadata()?.dev()),
        };
        Ok((key, tree::file_system(&file)?))
    };
    open().with_context(|| format!("cannot open `{}`", path.display()))
}

/// Whether two folders share one file system: subvolumes of a btrfs do, although each has a device of its own.
pub fn are_on_one_file_system(one: &Path, other: &Path) -> Result<bool> {
    Ok(identify(one)?.0 == identify(other)?.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::measure::Totals;
    use super::*;

    pub(in super::super) fn place(path: &str, free: u64, free_inodes: Option<u64>) -> FileSystem {
        let path = PathBuf::from(path);
        FileSystem {
            path,
            snapshot: 0,
            restore: 0,
            inodes: 0,
            free,
            free_inodes,
            key: Key::Unknown,
            kind: String::new(),
            block: 1,
        }
    }

    #[test]
    fn what_is_shared_takes_records_alone_and_each_file_system_its_own() {
        let amount =
            Amount { totals: Totals { entries: 10, bytes: 1 << 30 }, content: 1 << 30, blocks: 2 << 30, btrfs: 40_960 };
        for (kind, reflink, linked, expected) in [
            ("ext4", false, 7, 2 << 30),
            ("xfs", true, 7, 10 * 1024),
            ("xfs", false, 7, (2 << 30) + 10 * 1024),
            ("btrfs", true, 0, 40_960),
            ("btrfs", true, 7, 40_960 + 7 * 1024),
        ] {
            let found = FileSystem { kind: kind.to_owned(), ..place("/s", 0, None) }.takes(amount, reflink, linked);
            assert_eq!(found, expected, "{kind} {reflink} {linked}");
        }
    }
}
