//! Getting rid of what nobody needs: first everything gets a name that says so, which is quick; then it is deleted, which is
//! not, once the app is up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;

use super::copies::{Told, Work};
use super::garbage::{self, Beside, Failed};
use super::generations::Generations;
use super::meter::{Interrupted, Progress as _};
use super::record::{SnapshotId, Volume, VolumeCopy};
use super::store::{Store, names_in};
use super::{measure, space, trash};
use crate::config::duration::Span;
use crate::sys::{durable, fault, procfs};

/// Names after which is told how far a deletion is.
const TELL: u64 = 256;

/// By which rules.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// For how long failed data is kept.
    pub keep_failed: Span,
    /// For how long the snapshot before the current one is kept.
    pub keep_previous: Span,
    /// Bytes that shall be free: for less, failed data goes before its time.
    pub reserve: u64,
    /// What time it is.
    pub now: Timestamp,
}

/// Failed data that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The operation that set it aside.
    pub operation: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Store {
    /// Gives everything that is garbage a name in the trash. Nothing may be under way but `operation`, whose failed data
    /// stays. What could not be done is told, and does not keep the rest from being done.
    #[must_use]
    pub fn tidy(&self, volumes: &[Volume], rules: &Rules, operation: Option<&str>) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        match self.expire_previous(rules) {
            Ok(names) => {
                errors.extend(self.discard_in_store(names.as_ref(), None));
            }
            // With names that cannot be read nothing is known to be garbage.
            Err(error) => errors.push(error),
        }
        errors.extend(self.discard_unfinished(volumes));
        errors.extend(self.discard_failed(volumes, rules, operation));
        errors
    }

    fn expire_previous(&self, rules: &Rules) -> Result<Option<Generations>> {
        let Some(names) = Generations::read(&self.dir)? else { return Ok(None) };
        let Some(without) = names.expired(rules.keep_previous, rules.now) else { return Ok(Some(names)) };
        without.write(&self.dir)?;
        fault::point("snapshot.tidy.expired")?;
        Ok(Some(without))
    }

    /// What is left of restores that were cut short, beside `volumes`.
    pub(super) fn discard_unfinished(&self, volumes: &[Volume]) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        for volume in volumes {
            for name in names_in(&volume.dir).unwrap_or_default() {
                if garbage::beside(&name) == Beside::Garbage && !name.starts_with(garbage::TRASH) {
                    errors.extend(self.discard(&volume.dir.join(name)).err());
                }
            }
        }
        errors
    }

    fn discard_failed(&self, volumes: &[Volume], rules: &Rules, operation: Option<&str>) -> Vec<anyhow::Error> {
        let kept = self.failed_data(volumes);
        let going = to_go(&kept, rules, operation);
        let mut errors = Vec::new();
        let going: Vec<&Kept> = kept.iter().filter(|one| going.contains(&one.operation)).collect();
        let paths: Vec<PathBuf> = going.iter().map(|one| one.path.clone()).collect();
        // Somebody may look into it: an operator with a shell, a backup.
        let users = if paths.is_empty() { Vec::new() } else { procfs::users_of(&paths) };
        if !users.is_empty() {
            errors.push(anyhow::anyhow!("failed data is kept although its time is over: {}", users.join(", ")));
            return errors;
        }
        for one in going {
            errors.extend(self.discard(&one.path).err());
            if let Some(folder) = one.path.parent().filter(|folder| folder.starts_with(&self.failed)) {
                // Only once it is empty.
                let _ = fs::remove_dir(folder);
            }
        }
        errors
    }

    /// All failed data of the app: beside `volumes`, and of volumes that are gone.
    #[must_use]
    pub fn failed_data(&self, volumes: &[Volume]) -> Vec<Kept> {
        let mut all = Vec::new();
        for volume in volumes {
            for name in names_in(&volume.dir).unwrap_or_default() {
                if let Beside::Failed(operation) = garbage::beside(&name) {
                    let operation = operation.split('.').next().unwrap_or(operation).to_owned();
                    all.push(Kept { operation, path: volume.dir.join(&name) });
                }
            }
        }
        for operation in names_in(&self.failed).unwrap_or_default() {
            for name in names_in(&self.failed.join(&operation)).unwrap_or_default() {
                all.push(Kept { operation: operation.clone(), path: self.failed.join(&operation).join(name) });
            }
        }
        all
    }

    /// Gives `path` a name in the trash.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        trash::set_apart(path, &self.trash, self.app.as_str())?;
        fault::point("snapshot.tidy.apart")?;
        Ok(())
    }

    /// Where failed data of volumes that are gone is kept.
    #[must_use]
    pub fn failed_folder(&self) -> &Path {
        &self.failed
    }

    /// Deletes at once whatever may go while `operation` wants room: all that is garbage, staging copies, the trash, failed
    /// data whose time is over, then all that is older than a day. Not the snapshot `wanted`, which may not be named yet.
    #[must_use]
    pub fn make_room(
        &self,
        volumes: &[Volume],
        rules: &Rules,
        (operation, wanted): (&str, Option<&SnapshotId>),
        work: Work<'_>,
    ) -> Vec<anyhow::Error> {
        let mut errors = self.discard_garbage(volumes, wanted);
        errors.extend(self.discard_failed(volumes, &Rules { reserve: u64::MAX, ..*rules }, Some(operation)));
        errors.extend(self.empty_trash(volumes, work));
        // On btrfs, what was deleted counts until that is written, above all for a quota.
        errors.extend(self.sync_file_systems(volumes).err());
        errors
    }

    /// Deletes at once what is unfinished, staging copies and the trash, and snapshots that have no name.
    #[must_use]
    pub fn delete_garbage(&self, volumes: &[Volume], work: Work<'_>) -> Vec<anyhow::Error> {
        let mut errors = self.discard_garbage(volumes, None);
        errors.extend(self.empty_trash(volumes, work));
        errors
    }

    fn discard_garbage(&self, volumes: &[Volume], wanted: Option<&SnapshotId>) -> Vec<anyhow::Error> {
        let mut errors = self.discard_unfinished(volumes);
        // With names that cannot be read, only what says so in its own name is garbage.
        let names = Generations::read(&self.dir).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        errors.extend(self.discard_in_store(names.as_ref(), wanted));
        errors
    }

    /// What of the snapshots is garbage by these `names`, but not `wanted`.
    fn discard_in_store(&self, names: Option<&Generations>, wanted: Option<&SnapshotId>) -> Vec<anyhow::Error> {
        let is_garbage = |name: &String| {
            garbage::in_store(name, names) && wanted.is_none_or(|wanted| name.as_str() != wanted.as_str())
        };
        let found = names_in(&self.dir).unwrap_or_default().into_iter().filter(is_garbage);
        found.filter_map(|name| self.discard(&self.dir.join(name)).err()).collect()
    }

    /// Deletes what is live in `volumes`, and what `operation` has set aside already: there is no room for it. The folders
    /// of the live data stay, empty.
    pub fn discard_live(&self, volumes: &[Volume], operation: &str, work: Work<'_>) -> Result<()> {
        if let Some(error) = self.discard_unfinished(volumes).into_iter().next() {
            return Err(error);
        }
        for kept in self.failed_data(volumes).iter().filter(|kept| kept.operation == operation) {
            trash::delete(&kept.path)?;
        }
        for volume in volumes {
            trash::empty(&volume.data())?;
            fault::point("snapshot.discard.emptied")?;
        }
        match self.empty_trash(volumes, work).into_iter().next() {
            Some(error) => Err(error),
            None => self.sync_file_systems(volumes),
        }
    }

    /// Deletes staging copies. Cut short, the next run goes on.
    #[must_use]
    pub fn discard_staging(&self, work: Work<'_>) -> Vec<anyhow::Error> {
        let mut errors = self.set_staging_apart();
        errors.extend(self.empty_trash(&[], work));
        errors
    }

    pub(super) fn set_staging_apart(&self) -> Vec<anyhow::Error> {
        let names = names_in(&self.dir).unwrap_or_default();
        let staging = names.iter().filter(|name| name.starts_with(garbage::STAGING));
        staging.filter_map(|name| self.discard(&self.dir.join(name)).err()).collect()
    }

    /// Deletes what is in the trash: this app's part of it, and what lies beside `volumes`. Cut short, the next one goes on.
    #[must_use]
    pub fn empty_trash(&self, volumes: &[Volume], work: Work<'_>) -> Vec<anyhow::Error> {
        let mut doomed = self.in_trash();
        for folder in volumes.iter().map(|volume| &volume.dir).chain([&self.dir]) {
            let names = names_in(folder).unwrap_or_default();
            doomed.extend(names.iter().filter(|name| name.starts_with(garbage::TRASH)).map(|name| folder.join(name)));
        }
        if doomed.is_empty() {
            return Vec::new();
        }
        let told = Told::begin(work.reporter, "deleting what is not needed any more", None);
        let mut gone = 0_u64;
        let mut go_on = || -> Result<()> {
            gone += 1;
            if gone.is_multiple_of(TELL) {
                told.done(gone, 0);
                ensure!(!work.interrupt.is_set(), Interrupted);
            }
            Ok(())
        };
        let mut delete = |path: &PathBuf| -> Result<()> {
            fault::point("snapshot.tidy.delete")?;
            trash::delete_while(path, &mut go_on)
        };
        doomed.iter().filter_map(|path| delete(path).err()).collect()
    }

    /// Forgets the app: its folder in the state folder, the folders `others` of it, and what of ours lies beside the volumes
    /// that its snapshots name, but for those in the folders `spared`, which other apps have by now. The volumes themselves
    /// stay. What could not be done is told; cut short, the next one goes on.
    pub fn forget(&self, others: &[PathBuf], spared: &[PathBuf], work: Work<'_>) -> Result<Vec<anyhow::Error>> {
        let listing = self.list()?;
        let volume = |copy: &VolumeCopy| Volume { name: copy.name.clone(), dir: copy.dir.clone() };
        let mut volumes: Vec<Volume> = listing.snapshots.iter().flat_map(|s| s.volumes.iter().map(volume)).collect();
        volumes.sort_by(|a, b| a.dir.cmp(&b.dir));
        volumes.dedup();
        volumes.retain(|volume| !spared.contains(&volume.dir));
        let mut errors = self.discard_unfinished(&volumes);
        for kept in self.failed_data(&volumes) {
            errors.extend(self.discard(&kept.path).err());
        }
        // Where the volumes are, nobody knows once the snapshots are gone.
        errors.extend(unless_interrupted(self.empty_trash(&volumes, work))?);
        for other in others {
            errors.extend(self.discard(other).err());
        }
        let Some(folder) = self.dir.parent() else { return Ok(errors) };
        self.discard(folder)?;
        durable::sync_dir(folder.parent().unwrap_or(folder))?;
        errors.extend(unless_interrupted(self.empty_trash(&[], work))?);
        Ok(errors)
    }

    /// Whether anything of the app is still to be deleted, although its folder may be gone.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        !self.in_trash().is_empty()
    }

    /// What is in the trash of this app.
    fn in_trash(&self) -> Vec<PathBuf> {
        let ours = format!("{}.", self.app);
        let names = names_in(&self.trash).unwrap_or_default();
        names.iter().filter(|name| name.starts_with(&ours)).map(|name| self.trash.join(name)).collect()
    }
}

/// `errors`, but for one that says that it was cut short: that one alone.
fn unless_interrupted(mut errors: Vec<anyhow::Error>) -> Result<Vec<anyhow::Error>> {
    let is_one = |error: &anyhow::Error| error.chain().any(<dyn std::error::Error>::is::<Interrupted>);
    match errors.iter().position(is_one) {
        Some(at) => Err(errors.swap_remove(at)),
        None => Ok(errors),
    }
}

/// The operations whose failed data goes, by the rules and by how full each file system is.
fn to_go(kept: &[Kept], rules: &Rules, operation: Option<&str>) -> BTreeSet<String> {
    let mut by_file_system: BTreeMap<u64, Vec<&Kept>> = BTreeMap::new();
    for one in kept {
        let device = fs::symlink_metadata(&one.path).map_or(0, |found| found.dev());
        by_file_system.entry(device).or_default().push(one);
    }
    let keep = rules.keep_failed.duration();
    let mut going = BTreeSet::new();
    for of_one in by_file_system.values() {
        let missing = of_one.first().map_or(0, |one| shortage(&one.path, rules.reserve));
        let all: Vec<Failed> = of_one.iter().map(|one| described(one, rules.now, missing > 0)).collect();
        going.extend(garbage::failed_to_go(&all, keep, missing, operation));
    }
    going
}

/// How much less than `reserve` is free where `path` lies.
fn shortage(path: &Path, reserve: u64) -> u64 {
    let Some(up) = path.parent() else { return 0 };
    space::free(up).map_or(0, |free| reserve.saturating_sub(free))
}

fn described(kept: &Kept, now: Timestamp, measured: bool) -> Failed {
    // Its folder was last changed by the rename that gave it its name.
    let since = fs::symlink_metadata(&kept.path).ok().and_then(|found| Timestamp::from_second(found.ctime()).ok());
    let age = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    let bytes = if measured { measure::tree(&kept.path, 1).map_or(0, |holds| holds.totals.bytes) } else { 0 };
    Failed { operation: kept.operation.clone(), age: age.unwrap_or_default(), bytes }
}
