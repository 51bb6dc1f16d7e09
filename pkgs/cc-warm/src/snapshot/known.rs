//! What there is to take over from: the snapshot before, or a staging copy.

use std::path::PathBuf;

use super::catalog::{Catalog, Reader};
use super::copies::{Folder, Staged};
use super::generations::Generations;
use super::moment::Moment;
use super::predecessor::Predecessor;
use super::record::{Snapshot, VolumeCopy};
use super::store::Store;
use super::synced;

/// What there is of a volume to take over from.
pub(super) struct Known {
    tree: PathBuf,
    catalog: Catalog,
    /// Entries of it whose flags (or the like) its file system cannot have.
    pub(super) lessened: u64,
    /// What the shutdown of the boot before this one wrote, if it did.
    shutdown: Option<Moment>,
}

impl Known {
    pub(super) fn predecessor(&self) -> Predecessor<'_> {
        Predecessor { tree: &self.tree, catalog: &self.catalog, shutdown: self.shutdown.as_ref() }
    }
}

impl Store {
    /// The snapshot from which the next one may take over.
    pub(super) fn base(&self) -> Option<Snapshot> {
        let names = Generations::read(&self.dir).ok()??;
        let base = self.get(&names.current).ok()??;
        let fit = base.since_full.saturating_add(1) < self.full_every && !self.is_damaged(&base.id);
        fit.then_some(base)
    }

    /// What there is of `volume` in `base`.
    pub(super) fn known(&self, base: &Snapshot, volume: &str) -> Option<Known> {
        let folder = Folder::of(self.folder(&base.id));
        let copy = base.volumes.iter().find(|copy| copy.name == volume)?;
        // After a restore the live data has other inodes; what was recorded then is the newest word on it.
        self.usable(copy, folder.tree(volume), folder.restored(volume))
            .or_else(|| self.usable(copy, folder.tree(volume), folder.catalog(volume)))
    }

    /// What there is of `volume` in a staging copy.
    pub(super) fn of_staged(&self, staged: &Staged, volume: &str) -> Option<Known> {
        let (copy, folder) = staged.copy_of(volume)?;
        self.usable(copy, folder.tree(volume), folder.catalog(volume))
    }

    /// A tree of which something is known: what cannot be read is not taken over from, and no error.
    fn usable(&self, copy: &VolumeCopy, tree: PathBuf, catalog: Catalog) -> Option<Known> {
        if !catalog.entries.exists() {
            return None;
        }
        match Reader::open(&catalog) {
            Ok(_) if tree.is_dir() => {
                let shutdown = Moment::now().ok().and_then(|now| synced::before(&self.dirs, &now.boot));
                Some(Known { tree, catalog, lessened: copy.lessened, shutdown })
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!("nothing is taken over from `{}`: {error:#}", tree.display());
                None
            }
        }
    }
}
