//! How restored data and live data change places: journaled first, one rename, and the same end however often it is done.
//!
//! The restored tree is built as `<volume>/.cc-warm-new-<operation>/_data`, in a folder that nobody else may enter. After the
//! exchange, what was live is `<volume>/.cc-warm-failed-<operation>`, beside the new `_data`. A failed tree that is there
//! already is never replaced.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{
    AtFlags, CWD, RenameFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, renameat_with, statx, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::garbage::{FAILED, NEW};
use super::record::{DATA, Volume};
use super::trash;
use crate::sys::{durable, fault};

/// A pending exchange of one volume's data: which folder is which, whatever their names are by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The volume's name.
    pub volume: String,
    new: FolderId,
    live: FolderId,
    /// The flags that the restored `_data` itself shall have: they forbid to rename it, so they are set last.
    #[serde(default, skip_serializing_if = "is_zero")]
    flags: u32,
    /// The time, in nanoseconds since 1970, at which the restored `_data` itself was last changed: xfs takes a folder that
    /// gets another parent for changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(flags: &u32) -> bool {
    *flags == 0
}

/// A folder that cannot be mistaken for another, not even for a later one with the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub(super) struct FolderId {
    inode: u64,
    /// Nanoseconds since 1970, where the file system knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    birth: Option<i64>,
}

/// The first journals held the inode alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Inode(u64),
    Whole {
        inode: u64,
        #[serde(default)]
        birth: Option<i64>,
    },
}

impl From<Written> for FolderId {
    fn from(written: Written) -> Self {
        match written {
            Written::Inode(inode) => Self { inode, birth: None },
            Written::Whole { inode, birth } => Self { inode, birth },
        }
    }
}

impl FolderId {
    /// Of the folder `path`; `None` if there is nothing. A link, or anything but a folder, is an error.
    fn of(path: &Path) -> Result<Option<Self>> {
        let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME;
        let found = match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, wanted) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot look at `{}`", path.display())),
        };
        let kind = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
        if kind != rustix::fs::FileType::Directory {
            return Err(anyhow!("`{}` is not a folder", path.display()));
        }
        let known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let birth = || Some(found.stx_btime.tv_sec.checked_mul(1_000_000_000)? + i64::from(found.stx_btime.tv_nsec));
        Ok(Some(Self { inode: found.stx_ino, birth: if known { birth() } else { None } }))
    }

    fn is(self, other: Option<Self>) -> bool {
        other.is_some_and(|other| {
            self.inode == other.inode && (self.birth == other.birth || self.birth.is_none() || other.birth.is_none())
        })
    }
}

/// Why an exchange did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// What is live is neither the restored data nor what was live.
    #[error("{0}")]
    Neither(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// The folder in which the restored data of `volume` is built.
pub(super) fn new_folder(volume: &Volume, operation: &str) -> PathBuf {
    volume.dir.join(format!("{NEW}{operation}"))
}

/// Where what was live in `volume` is kept.
#[must_use]
pub fn failed_folder(volume: &Volume, operation: &str) -> PathBuf {
    volume.dir.join(format!("{FAILED}{operation}"))
}

impl Exchange {
    /// Of what is built for `volume` with what is live there.
    pub(super) fn between(volume: &Volume, operation: &str) -> Result<Self> {
        let identify =
            |path: &Path| FolderId::of(path)?.with_context(|| format!("there is no folder `{}`", path.display()));
        let new = new_folder(volume, operation).join(DATA);
        let flags = trash::unlock(&new)?;
        let found = fs::symlink_metadata(&new).with_context(|| format!("cannot look at `{}`", new.display()))?;
        let changed = found.mtime().checked_mul(1_000_000_000).and_then(|s| s.checked_add(found.mtime_nsec()));
        Ok(Self { volume: volume.name.clone(), new: identify(&new)?, live: identify(&volume.data())?, flags, changed })
    }

    /// Whether the restored data is what is live in `volume`.
    pub fn is_done(&self, volume: &Volume) -> Result<bool> {
        Ok(self.new.is(FolderId::of(&volume.data())?))
    }

    /// Exchanges them; done again, it does what is left of it.
    pub fn perform(&self, volume: &Volume, operation: &str) -> Result<(), ExchangeError> {
        let folder = new_folder(volume, operation);
        let (data, new, failed) = (volume.data(), folder.join(DATA), failed_folder(volume, operation));
        let (at_data, at_new) = (FolderId::of(&data)?, FolderId::of(&new)?);
        match step(self, at_data, at_new, FolderId::of(&failed)?) {
            Step::Exchange => {
                trash::unlock(&data)?;
                fault::point("snapshot.exchange.ready").map_err(anyhow::Error::from)?;
                change_places(&new, &data, &failed)?;
                fault::point("snapshot.exchange.exchanged").map_err(anyhow::Error::from)?;
            }
            Step::Put => rename(&new, &data)?,
            Step::Keep | Step::Done => {}
            Step::Neither => {
                return Err(ExchangeError::Neither(format!(
                    "the live data of volume `{}` (`{}`) is neither what was live when the restore began nor what was restored: somebody changed it meanwhile",
                    volume.name,
                    data.display()
                )));
            }
        }
        // Whatever is left in the place of the new data is what was live.
        if FolderId::of(&new)?.is_some() {
            rename(&new, &failed)?;
            fault::point("snapshot.exchange.kept").map_err(anyhow::Error::from)?;
        }
        match fs::remove_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(anyhow!(e).context(format!("cannot remove `{}`", folder.display())).into());
            }
            _ => {}
        }
        self.keep_time(&data)?;
        trash::lock(&data, self.flags)?;
        durable::sync_dir(&data)?;
        durable::sync_dir(&volume.dir)?;
        fault::point("snapshot.exchange.synced").map_err(anyhow::Error::from)?;
        Ok(())
    }

    /// Gives what was live its name, where that alone is left to do: under the one that it has it would be garbage.
    pub fn keep_live(&self, volume: &Volume, operation: &str) -> Result<(), ExchangeError> {
        let (new, failed) = (new_folder(volume, operation).join(DATA), failed_folder(volume, operation));
        match step(self, FolderId::of(&volume.data())?, FolderId::of(&new)?, FolderId::of(&failed)?) {
            Step::Keep => self.perform(volume, operation),
            _ => Ok(()),
        }
    }

    /// Gives the restored `_data` the time that it was built with. Nobody uses it yet.
    fn keep_time(&self, data: &Path) -> Result<()> {
        let Some(changed) = self.changed else { return Ok(()) };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let tv_nsec = changed.rem_euclid(1_000_000_000);
        let last_modification = Timespec { tv_sec: changed.div_euclid(1_000_000_000), tv_nsec };
        let times = Timestamps { last_access: omit, last_modification };
        utimensat(CWD, data, &times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("cannot set the time of `{}`", data.display()))
    }
}

/// What is left to do of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The live data is in its place: exchange.
    Exchange,
    /// The restored data is in its place, what was live is not: give it its name.
    Keep,
    /// There is no data at all, both are beside it (a file system that cannot exchange): put the restored data there.
    Put,
    /// Nothing.
    Done,
    /// It is not known what is live.
    Neither,
}

fn step(exchange: &Exchange, data: Option<FolderId>, new: Option<FolderId>, failed: Option<FolderId>) -> Step {
    if exchange.new.is(data) {
        return match new {
            None => Step::Done,
            Some(_) if exchange.live.is(new) => Step::Keep,
            Some(_) => Step::Neither,
        };
    }
    if !exchange.new.is(new) {
        return Step::Neither;
    }
    match data {
        Some(_) if exchange.live.is(data) => Step::Exchange,
        None if exchange.live.is(failed) => Step::Put,
        _ => Step::Neither,
    }
}

fn change_places(new: &Path, data: &Path, failed: &Path) -> Result<()> {
    match renameat_with(CWD, new, CWD, data, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Two renames; between them there is no data, and the journal says which is which.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rename(data, failed)?;
            fault::point("snapshot.exchange.between")?;
            rename(new, data)
        }
        Err(e) => Err(e).with_context(|| format!("`{}` and `{}` cannot be exchanged", new.display(), data.display())),
    }
}

/// Renames `from` to `to`, where nothing may be.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let problem = || format!("cannot rename `{}` to `{}`", from.display(), to.display());
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            // The folders around them are ours alone, so nobody makes one in between.
            if fs::symlink_metadata(to).is_ok() {
                return Err(anyhow!(io::Error::from(io::ErrorKind::AlreadyExists)).context(problem()));
            }
            fs::rename(from, to).with_context(problem)
        }
        other => other.with_context(problem),
    }
}

#[cfg(test)]
impl Exchange {
    pub(crate) fn sample(volume: &str) -> Self {
        let id = |inode| FolderId { inode, birth: Some(7) };
        Self { volume: volume.to_owned(), new: id(1), live: id(2), flags: 0, changed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the table wants it")]
    fn id(inode: u64, birth: i64) -> Option<FolderId> {
        Some(FolderId { inode, birth: Some(birth) })
    }

    #[test]
    fn every_place_that_a_cut_can_leave_is_told_apart() {
        let (new, live) = (id(1, 10).unwrap(), id(2, 20).unwrap());
        let exchange = Exchange { volume: "v".to_owned(), new, live, flags: 0, changed: None };
        let (new, live, other) = (id(1, 10), id(2, 20), id(3, 30));
        let table = [
            (live, new, None, Step::Exchange),
            (live, new, other, Step::Exchange),
            (new, live, None, Step::Keep),
            (new, None, live, Step::Done),
            (new, None, None, Step::Done),
            (None, new, live, Step::Put),
            (None, new, None, Step::Neither),
            (None, None, live, Step::Neither),
            (live, None, None, Step::Neither),
            (live, other, None, Step::Neither),
            (other, new, live, Step::Neither),
            (new, other, None, Step::Neither),
            // The same inode, born again.
            (id(2, 21), new, None, Step::Neither),
            (id(1, 11), None, None, Step::Neither),
        ];
        for (data, at_new, failed, wanted) in table {
            assert_eq!(step(&exchange, data, at_new, failed), wanted, "{data:?} {at_new:?} {failed:?}");
        }
    }

    #[test]
    fn journals_that_held_the_inode_alone_are_still_read() {
        let old: Exchange = serde_json::from_str(r#"{"volume": "v", "new": 1, "live": 2}"#).unwrap();
        assert_eq!(step(&old, id(2, 5), id(1, 6), None), Step::Exchange);
        let text = serde_json::to_string(&Exchange::sample("v")).unwrap();
        assert_eq!(serde_json::from_str::<Exchange>(&text).unwrap(), Exchange::sample("v"));
    }

    fn volume(dir: &Path) -> Volume {
        let volume = Volume { name: "v".to_owned(), dir: dir.to_owned() };
        fs::create_dir_all(volume.data()).unwrap();
        fs::write(volume.data().join("file"), "live").unwrap();
        let new = new_folder(&volume, "op").join(DATA);
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("file"), "restored").unwrap();
        volume
    }

    fn content(path: &Path) -> String {
        fs::read_to_string(path.join("file")).unwrap()
    }

    #[test]
    fn done_again_it_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let exchange = Exchange::between(&volume, "op").unwrap();
        assert!(!exchange.is_done(&volume).unwrap());
        for _ in 0..2 {
            exchange.perform(&volume, "op").unwrap();
            assert_eq!(
                (content(&volume.data()).as_str(), content(&failed_folder(&volume, "op")).as_str()),
                ("restored", "live")
            );
            assert!(exchange.is_done(&volume).unwrap() && !new_folder(&volume, "op").exists());
        }
    }

    #[test]
    fn a_failed_tree_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let exchange = Exchange::between(&volume, "op").unwrap();
        fs::create_dir(failed_folder(&volume, "op")).unwrap();
        fs::write(failed_folder(&volume, "op").join("file"), "earlier").unwrap();
        for _ in 0..2 {
            assert!(matches!(
                exchange.perform(&volume, "op"),
                Err(ExchangeError::Other(_) | ExchangeError::Neither(_))
            ));
            assert_eq!(content(&failed_folder(&volume, "op")), "earlier");
        }
        assert_eq!(content(&new_folder(&volume, "op").join(DATA)), "live");
    }

    #[test]
    fn without_an_exchange_two_renames_do_it_and_are_finished_after_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let exchange = Exchange::between(&volume, "op").unwrap();
        fs::rename(volume.data(), failed_folder(&volume, "op")).unwrap();
        exchange.perform(&volume, "op").unwrap();
        assert_eq!(
            (content(&volume.data()).as_str(), content(&failed_folder(&volume, "op")).as_str()),
            ("restored", "live")
        );
    }

    #[test]
    fn data_that_somebody_replaced_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let exchange = Exchange::between(&volume, "op").unwrap();
        fs::rename(volume.data(), dir.path().join("taken away")).unwrap();
        fs::create_dir(volume.data()).unwrap();
        assert!(matches!(exchange.perform(&volume, "op"), Err(ExchangeError::Neither(_))));
        assert!(new_folder(&volume, "op").join(DATA).is_dir());
        assert_eq!(fs::read_dir(volume.data()).unwrap().count(), 0);
    }
}
