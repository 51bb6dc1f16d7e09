//! Copies there and back: a staging copy while the app runs, a snapshot of live volumes, and a snapshot's data beside them.
//! The engine copies one tree; in here is which trees, in which order, and from what they may take over.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Map;

use super::catalog::Catalog;
use super::changed::Changed;
use super::exchange::{self, Exchange};
use super::flush::{Flush, sync_file_systems};
use super::garbage::STAGING;
use super::known::Known;
use super::measure::Totals;
use super::meter::Progress;
use super::record::{DATA, FORMAT, Snapshot, SnapshotId, Tag, Volume, VolumeCopy, must_be_a_name};
use super::report::Reporter;
use super::restore::{self, Restore};
use super::store::{Store, helper};
use super::synced;
use super::take::{self, Take};
use super::verify::{self, Check};
use crate::sys::signals::Interrupt;
use crate::sys::{durable, fault, procfs, random};

/// Who is told how far it is, and who may end it.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Told.
    pub reporter: &'a dyn Reporter,
    /// Ends it, with an error.
    pub interrupt: &'a Interrupt,
}

/// On what the time of a snapshot went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Copying.
    pub copy: Duration,
    /// Checking the copy.
    pub verify: Duration,
    /// Making it durable.
    pub sync: Duration,
}

/// A copy made while the app ran: never a snapshot, never verified, but what did not change since is taken over from it.
#[derive(Debug)]
pub struct Staged {
    folder: Folder,
    since_full: u32,
    copies: Vec<VolumeCopy>,
    /// Since before its first byte: a disk error that is told once is told here, and ends whatever was to take over.
    flush: Flush,
}

impl Staged {
    /// The copy of `volume`, and where it lies.
    pub(super) fn copy_of(&self, volume: &str) -> Option<(&VolumeCopy, &Folder)> {
        Some((self.copies.iter().find(|copy| copy.name == volume)?, &self.folder))
    }

    /// What the volumes held.
    fn total(&self) -> Totals {
        self.copies.iter().map(VolumeCopy::totals).sum()
    }
}

/// Where the copies of a snapshot, or of a staging copy, lie.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn tree(&self, volume: &str) -> PathBuf {
        self.0.join("volumes").join(volume)
    }

    /// What is known of the tree, and of the live data that it is a copy of.
    pub(super) fn catalog(&self, volume: &str) -> Catalog {
        Catalog { entries: self.0.join("entries").join(volume), digests: self.0.join("digests").join(volume) }
    }

    /// There where all of its content was digested after it was taken.
    pub(super) fn digested(&self) -> PathBuf {
        self.0.join("digested.json")
    }

    /// What is known of live data that was restored from it.
    pub(super) fn restored(&self, volume: &str) -> Catalog {
        let folder = self.0.join("restored");
        Catalog { entries: folder.join(format!("{volume}.entries")), digests: folder.join(format!("{volume}.digests")) }
    }

    fn make(&self) -> Result<()> {
        ["volumes", "entries", "digests"].iter().try_for_each(|name| durable::make_dir(&self.0.join(name)))
    }
}

/// Adds up what the engine tells of one volume after the other.
pub(super) struct Told<'a> {
    reporter: &'a dyn Reporter,
    before: Cell<Totals>,
    now: Cell<Totals>,
}

impl<'a> Told<'a> {
    pub(super) fn begin(reporter: &'a dyn Reporter, what: &str, total: Option<Totals>) -> Self {
        reporter.begin(what, total);
        Self { reporter, before: Cell::default(), now: Cell::default() }
    }

    /// The next volume begins.
    pub(super) fn next(&self) {
        self.before.set(self.before.get().plus(self.now.take()));
    }
}

impl Progress for Told<'_> {
    fn done(&self, entries: u64, bytes: u64) {
        self.now.set(Totals { entries, bytes });
        self.reporter.done(self.before.get().plus(self.now.get()));
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.reporter.end();
    }
}

/// A snapshot to take.
pub struct Order<'a> {
    /// Its id.
    pub id: &'a SnapshotId,
    /// Of what. Nobody may use them.
    pub volumes: &'a [Volume],
    /// What it is of.
    pub tag: &'a Tag,
    /// What the app ran with.
    pub env: &'a [u8],
    /// What was copied while the app ran.
    pub staged: Option<Staged>,
}

impl Store {
    /// Copies `volumes` while the app runs, so that only what changes from now on has to be copied while it is stopped.
    pub fn stage(&self, volumes: &[Volume], total: Option<Totals>, work: Work<'_>) -> Result<Staged> {
        if let Some(error) = self.set_staging_apart().into_iter().next() {
            return Err(error.context("an earlier staging copy cannot be set apart"));
        }
        // What cannot be deleted keeps no app from its updates: its room is counted.
        for error in self.empty_trash(&[], work) {
            tracing::warn!("leftovers could not be deleted: {error:#}");
        }
        synced::forget_unseen(&self.dirs)?;
        let base = self.base();
        let path = self.dir.join(format!("{STAGING}{}", random::id()?));
        let folder = Folder::of(path.clone());
        folder.make()?;
        let flush = Flush::hold(&path)?;
        let told = Told::begin(work.reporter, "copying while it runs", total);
        let mut copies = Vec::new();
        for volume in volumes {
            told.next();
            let known = base.as_ref().and_then(|base| self.known(base, &volume.name));
            let copy = self.copy(volume, (&folder, &flush), known.as_ref(), true, &told, work.interrupt)?;
            // Not against the volume, which changes: what this file system cannot keep would be found out with the app down.
            let (tree, catalog) = (folder.tree(&volume.name), folder.catalog(&volume.name));
            let check = Check { flags: copy.lessened == 0, busy: true, ..Check::of(&tree, &catalog) };
            verify::verify(&check, &(), work.interrupt).map_err(|error| explain(error, volume))?;
            copies.push(copy);
        }
        flush.pause();
        fault::point("snapshot.stage.copied")?;
        let since_full = base.map_or(0, |base| base.since_full.saturating_add(1));
        Ok(Staged { folder, since_full, copies, flush })
    }

    /// Copies the volumes, verified and durable. Not yet the known-good.
    pub fn take(&self, order: &Order<'_>, work: Work<'_>) -> Result<(Snapshot, Spent)> {
        let mut spent = Spent::default();
        synced::forget_unseen(&self.dirs)?;
        let new = self.begin(order.id)?;
        let own;
        // All lies on one file system.
        let flush = if let Some(staged) = &order.staged {
            &staged.flush
        } else {
            own = Flush::hold(&new)?;
            &own
        };
        let folder = Folder::of(new.clone());
        folder.make()?;
        let base = if order.staged.is_none() { self.base() } else { None };
        let since = Instant::now();
        let told = Told::begin(work.reporter, "copying", order.staged.as_ref().map(Staged::total));
        let mut copies = Vec::new();
        for volume in order.volumes {
            told.next();
            let known = match (&order.staged, &base) {
                (Some(staged), _) => self.of_staged(staged, &volume.name),
                (None, Some(base)) => self.known(base, &volume.name),
                (None, None) => None,
            };
            copies.push(self.copy(volume, (&folder, flush), known.as_ref(), false, &told, work.interrupt)?);
        }
        drop(told);
        spent.copy = since.elapsed();
        fault::point("snapshot.take.copied")?;
        let since = Instant::now();
        let entries = copies.iter().map(|copy| copy.entries).sum();
        let told = Told::begin(work.reporter, "checking the copy", Some(Totals { entries, bytes: 0 }));
        for (volume, copy) in order.volumes.iter().zip(&copies) {
            told.next();
            let catalog = folder.catalog(&volume.name);
            let check = Check {
                copy: &folder.tree(&volume.name),
                catalog: &catalog,
                source: Some(&volume.data()),
                flush: Some(flush),
                flags: copy.lessened == 0,
                live: false,
                busy: false,
                record: None,
            };
            verify::verify(&check, &told, work.interrupt).map_err(|error| explain(error, volume))?;
        }
        drop(told);
        spent.verify = since.elapsed();
        fault::point("snapshot.take.verified")?;
        let since = Instant::now();
        flush.finish()?;
        fault::point("snapshot.take.synced")?;
        let since_full = match (&order.staged, &base) {
            (Some(staged), _) => staged.since_full,
            (None, Some(base)) => base.since_full.saturating_add(1),
            (None, None) => 0,
        };
        let snapshot = Snapshot {
            format: FORMAT,
            helper: helper(),
            id: order.id.clone(),
            tag: order.tag.clone(),
            volumes: copies,
            since_full,
            unknown: Map::new(),
        };
        self.complete(&new, &snapshot, order.env)?;
        spent.sync = since.elapsed();
        Ok((snapshot, spent))
    }

    /// Lets the file systems of `volumes` and of the snapshots write back what they have.
    pub fn sync_file_systems(&self, volumes: &[Volume]) -> Result<()> {
        durable::make_dir(&self.dir)?;
        sync_file_systems(volumes.iter().map(|volume| volume.dir.as_path()).chain([self.dir.as_path()]))
    }

    fn copy(
        &self,
        volume: &Volume,
        (folder, flush): (&Folder, &Flush),
        known: Option<&Known>,
        running: bool,
        told: &Told<'_>,
        interrupt: &Interrupt,
    ) -> Result<VolumeCopy> {
        must_be_a_name(&volume.name)?;
        let order = Take {
            source: &volume.data(),
            target: &folder.tree(&volume.name),
            flush,
            catalog: &folder.catalog(&volume.name),
            predecessor: known.map(Known::predecessor),
            running,
            digest: true,
            reflink: true,
        };
        let mut copied = take::take(&order, told, interrupt).map_err(|error| explain(error, volume))?;
        if copied.taken_over > 0 {
            // What was taken over lacks what it lacked.
            copied.lessened = copied.lessened.max(known.map_or(0, |known| known.lessened));
        }
        tracing::debug!(app = %self.app, volume = %volume.name, ?copied, "copied");
        Ok(VolumeCopy::of(volume, copied))
    }

    /// Builds the data of the snapshot `id` beside what is live in `volumes`, verified and durable.
    pub fn build(&self, id: &SnapshotId, volumes: &[Volume], operation: &str, work: Work<'_>) -> Result<Vec<Exchange>> {
        let snapshot = self.get(id)?.with_context(|| format!("snapshot {id} is not there any more"))?;
        for volume in volumes {
            let folder = exchange::new_folder(volume, operation);
            if fs::symlink_metadata(&folder).is_ok() {
                // Of an attempt that was cut short.
                self.discard(&folder)?;
            }
        }
        let total = snapshot.totals();
        let told = Told::begin(work.reporter, "restoring", Some(total));
        let mut exchanges = Vec::new();
        for volume in volumes {
            told.next();
            let copy = snapshot.volumes.iter().find(|copy| copy.name == volume.name);
            let copy = copy.with_context(|| format!("volume `{}` is not part of snapshot {id}", volume.name))?;
            self.build_one(id, volume, copy, operation, &told, work.interrupt)?;
            exchanges.push(Exchange::between(volume, operation)?);
        }
        Ok(exchanges)
    }

    fn build_one(
        &self,
        id: &SnapshotId,
        volume: &Volume,
        copy: &VolumeCopy,
        operation: &str,
        told: &Told<'_>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let problem = || format!("volume `{}` cannot be restored from snapshot {id}", volume.name);
        let from = Folder::of(self.folder(id));
        let (source, catalog) = (from.tree(&volume.name), from.catalog(&volume.name));
        let folder = exchange::new_folder(volume, operation);
        make_private(&folder)?;
        let flush = Flush::hold(&folder)?;
        fault::point("snapshot.build.begun")?;
        let target = folder.join(DATA);
        let order = Restore {
            source: &source,
            catalog: &catalog,
            target: &target,
            flush: &flush,
            live: None,
            digest: true,
            reflink: true,
        };
        let restored = restore::restore(&order, told, interrupt).with_context(problem)?;
        fault::point("snapshot.build.copied")?;
        // The record of what is going to be live is only of use to the next snapshot: it is never needed.
        let record = from.restored(&volume.name);
        let recordable = prepare_record(&record);
        let check = Check {
            copy: &target,
            catalog: &catalog,
            source: None,
            flush: Some(&flush),
            flags: copy.lessened == 0 && restored.lessened == 0,
            live: true,
            busy: false,
            record: recordable.is_ok().then_some(&record),
        };
        verify::verify(&check, &(), interrupt).with_context(problem)?;
        fault::point("snapshot.build.verified")?;
        flush.finish().with_context(problem)?;
        fault::point("snapshot.build.synced")?;
        Ok(())
    }
}

fn prepare_record(record: &Catalog) -> Result<()> {
    durable::make_dir(record.entries.parent().context("a path without a folder")?)?;
    for path in [&record.entries, &record.digests] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Names the volume, and whoever has it open where something still writes to it.
fn explain(error: anyhow::Error, volume: &Volume) -> anyhow::Error {
    if error.downcast_ref::<Changed>().is_none() {
        return error.context(format!("volume `{}` cannot be copied", volume.name));
    }
    let users = procfs::users_of(std::slice::from_ref(&volume.dir));
    let who = if users.is_empty() { "it is not known who".to_owned() } else { users.join(", ") };
    error.context(anyhow!("something still writes to volume `{}` ({who})", volume.name))
}

/// Makes the folder `path`, which nobody else may enter.
fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make `{}`", path.display()))?;
    durable::sync_dir(path.parent().unwrap_or(path))
}
