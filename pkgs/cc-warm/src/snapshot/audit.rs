//! Checking a snapshot that stands: its structure against what was recorded of it, its content against its digests.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::catalog::Reader;
use super::copies::{Folder, Told, Work};
use super::record::{Snapshot, SnapshotId, VolumeCopy};
use super::scrub::{self, Scrub};
use super::store::{Role, Store};
use super::verify::{self, Check, Differs};
use crate::recipe::version::Version;
use crate::sys::fault;

/// What is checked.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Whether the content of files is read and held against its digest.
    pub content: bool,
    /// Bytes a second, at most.
    pub rate: Option<u64>,
}

/// What a check of one snapshot found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Its id.
    pub id: SnapshotId,
    /// Which name keeps it.
    pub role: Role,
    /// What it is of.
    pub version: Version,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Whether the app had to be killed before.
    pub unclean: bool,
    /// Entries whose structure was checked.
    pub entries: u64,
    /// Files whose content was checked.
    pub checked: u64,
    /// Files that have no digest (yet).
    pub undigested: u64,
    /// What is wrong; empty: nothing.
    pub problems: Vec<String>,
    /// Whether it came to the end.
    pub complete: bool,
}

/// What may be concluded from a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// All of it was looked at, and nothing is wrong.
    Whole,
    /// This is wrong.
    Damaged(&'a [String]),
    /// It was interrupted before it found anything: nothing is known.
    Unfinished,
}

impl Audit {
    /// What may be concluded.
    #[must_use]
    pub fn finding(&self) -> Finding<'_> {
        match (self.problems.as_slice(), self.complete) {
            ([], true) => Finding::Whole,
            ([], false) => Finding::Unfinished,
            (problems, _) => Finding::Damaged(problems),
        }
    }
}

impl Store {
    /// Checks `snapshot`. What is wrong with it is a finding, not an error.
    pub fn audit(&self, snapshot: &Snapshot, depth: Depth, work: Work<'_>) -> Result<Audit> {
        let mut audit = Audit {
            id: snapshot.id.clone(),
            role: self.role(&snapshot.id)?,
            version: snapshot.tag.identity.version.clone(),
            taken_at: snapshot.tag.taken_at,
            unclean: snapshot.tag.unclean,
            entries: 0,
            checked: 0,
            undigested: 0,
            problems: Vec::new(),
            complete: true,
        };
        let total = snapshot.totals();
        let told = Told::begin(work.reporter, &format!("verifying snapshot {}", snapshot.id), Some(total));
        let folder = Folder::of(self.folder(&snapshot.id));
        for copy in &snapshot.volumes {
            told.next();
            fault::point("snapshot.audit.volume")?;
            audit.structure(copy, &folder, work);
            if depth.content {
                audit.content(copy, &folder, depth, &told, work);
            }
        }
        drop(told);
        // What is wrong is wrong however little was read; that nothing is, only all of it says.
        if !audit.problems.is_empty() || audit.complete && depth.content {
            // On a full disk, too, what was found is to be told.
            if let Err(error) = self.note_damage(&snapshot.id, &audit.problems) {
                tracing::warn!(app = %self.app, "what was found of snapshot {} cannot be noted: {error:#}", snapshot.id);
            }
        }
        Ok(audit)
    }

    /// Digests what has no digest yet, because it was reflinked, while the app was down. Interrupted, it goes on from there
    /// the next time.
    pub fn complete_digests(&self, id: &SnapshotId, work: Work<'_>) -> Result<()> {
        let Some(snapshot) = self.get(id)? else { return Ok(()) };
        let folder = Folder::of(self.folder(id));
        let done = folder.digested();
        if snapshot.volumes.iter().all(|copy| copy.digested) || done.exists() {
            return Ok(());
        }
        let total = snapshot.totals();
        let told = Told::begin(work.reporter, &format!("digesting snapshot {id}"), Some(total));
        let mut complete = true;
        fault::point("snapshot.digest.begun")?;
        for copy in snapshot.volumes.iter().filter(|copy| !copy.digested) {
            told.next();
            let (tree, catalog) = (folder.tree(&copy.name), folder.catalog(&copy.name));
            let order = Scrub { copy: &tree, catalog: &catalog, rate: None, from: 0 };
            complete &= scrub::complete(&order, &told, work.interrupt)?;
            fault::point("snapshot.digest.volume")?;
        }
        if complete {
            return crate::sys::durable::replace_json(&done, &true);
        }
        tracing::warn!(app = %self.app, "snapshot {id} has no digests of all its content yet; the next update goes on with them");
        Ok(())
    }
}

impl Audit {
    fn structure(&mut self, copy: &VolumeCopy, folder: &Folder, work: Work<'_>) {
        let (tree, catalog) = (folder.tree(&copy.name), folder.catalog(&copy.name));
        let check = || -> Result<u64> {
            let recorded = Reader::open(&catalog)?.header().sum.clone();
            anyhow::ensure!(recorded == copy.sum, "its entries are not those that were recorded when it was taken");
            let check = Check { flags: copy.lessened == 0, ..Check::of(&tree, &catalog) };
            let entries = verify::verify(&check, &(), work.interrupt)?;
            let lacks = (copy.digested || folder.digested().exists()) && !Reader::open(&catalog)?.is_digested();
            anyhow::ensure!(!lacks, "digests of its content are missing, and were taken");
            Ok(entries)
        };
        match check() {
            Ok(entries) => self.entries += entries,
            Err(_) if work.interrupt.is_set() => self.complete = false,
            Err(error) => {
                let text = error.downcast_ref::<Differs>().map_or_else(|| format!("{error:#}"), ToString::to_string);
                self.problems.push(format!("volume `{}`: {text}", copy.name));
            }
        }
    }

    fn content(&mut self, copy: &VolumeCopy, folder: &Folder, depth: Depth, told: &Told<'_>, work: Work<'_>) {
        let (tree, catalog) = (folder.tree(&copy.name), folder.catalog(&copy.name));
        let scrubbed = match scrub::scrub(
            &Scrub { copy: &tree, catalog: &catalog, rate: depth.rate, from: 0 },
            told,
            work.interrupt,
        ) {
            Ok(scrubbed) => scrubbed,
            Err(error) => {
                self.problems.push(format!("volume `{}`: {error:#}", copy.name));
                return;
            }
        };
        self.checked += scrubbed.checked;
        self.undigested += scrubbed.undigested;
        self.complete &= scrubbed.complete;
        self.problems.extend(scrubbed.damage.iter().map(|text| format!("volume `{}`: {text}", copy.name)));
        let more = scrubbed.wrong.saturating_sub(scrubbed.damage.len() as u64);
        if more > 0 {
            self.problems.push(format!("volume `{}`: {more} more files", copy.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};

    use super::*;
    use crate::snapshot::Reporter;
    use crate::snapshot::Totals;
    use crate::snapshot::store_tests::Place;
    use crate::sys::signals::Interrupt;

    /// Ends what it is told of once so much is done.
    struct Ends(Interrupt);

    impl Reporter for Ends {
        fn done(&self, done: Totals) {
            if done.bytes > 1 << 17 {
                self.0.set();
            }
        }
    }

    #[test]
    fn damage_is_found_though_it_cannot_be_noted() {
        let place = Place::new(&["a"]);
        let snapshot = place.take("one");
        fs::remove_file(Folder::of(place.store.folder(&snapshot.id)).tree("a").join("file")).unwrap();
        fs::create_dir(place.store.folder(&snapshot.id).join("damaged.json")).unwrap();
        let depth = Depth { content: true, rate: None };
        let work = Work { reporter: &(), interrupt: &Interrupt::never() };
        let audit = place.store.audit(&snapshot, depth, work).unwrap();
        assert!(audit.problems.concat().contains("`file` cannot be read"), "{audit:?}");
    }

    #[test]
    fn damage_that_was_read_before_an_interrupt_is_found_and_noted() {
        let place = Place::new(&["a"]);
        for n in 0..8 {
            fs::write(place.volumes[0].data().join(n.to_string()), vec![n; 1 << 16]).unwrap();
        }
        let snapshot = place.take("one");
        let path = Folder::of(place.store.folder(&snapshot.id)).tree("a").join("0");
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, vec![9; 1 << 16]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(changed)).unwrap();
        let interrupt = Interrupt::never();
        let work = Work { reporter: &Ends(interrupt.clone()), interrupt: &interrupt };
        let depth = Depth { content: true, rate: Some(1 << 18) };
        let audit = place.store.audit(&snapshot, depth, work).unwrap();
        assert!(!audit.complete && audit.checked < 8, "{audit:?}");
        assert_eq!(audit.problems, ["volume `a`: `0` has other content than its digest says"]);
        assert!(place.store.is_damaged(&snapshot.id));
    }
}
