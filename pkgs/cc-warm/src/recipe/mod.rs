//! Recipes: what a git remote publishes, and how to have one version of it on disk.

pub mod error;
pub mod mirror;
pub mod notes;
pub mod objects;
pub mod published;
mod refs;
pub mod version;
pub mod work_tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use rayon::prelude::*;

pub use self::error::{FetchError, FetchErrorKind};
pub use self::mirror::Mirror;
pub use self::notes::Notes;
pub use self::published::Published;
use crate::identity::CommitId;
use crate::sys::clock::Deadline;
use crate::sys::dirs::Dirs;
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;

/// How long one remote may take to answer, and to send what is new.
const PATIENCE: Duration = Duration::from_mins(5);

/// So many remotes are asked at once; most of the time it is their answer that is waited for.
const AT_ONCE: usize = 8;

/// Every recipe of one run of the program: each remote is asked once, however many apps share it.
#[derive(Debug)]
pub struct Recipes {
    root: PathBuf,
    patience: Duration,
    interrupt: Interrupt,
    known: Mutex<BTreeMap<String, Arc<Recipe>>>,
}

/// What is known of one remote, each found out once.
#[derive(Debug, Default)]
struct Recipe {
    published: OnceLock<Result<Arc<Published>, FetchError>>,
    notes: OnceLock<Result<Arc<Notes>, String>>,
    diffs: Mutex<BTreeMap<(CommitId, CommitId), Untrusted>>,
}

impl Recipes {
    /// Mirrors under `dirs`.
    #[must_use]
    pub fn new(dirs: &Dirs) -> Self {
        Self { root: dirs.recipes(), patience: PATIENCE, interrupt: Interrupt::never(), known: Mutex::default() }
    }

    /// Remotes are not asked any longer when `interrupt` is set.
    #[must_use]
    pub fn ends_with(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Gives each remote at most so long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What `remote` publishes now; what is new is fetched. An error touches nothing, and stays the answer of this run.
    pub fn published(&self, remote: &str) -> Result<Arc<Published>, FetchError> {
        let ask = || self.mirror(remote).refresh(Deadline::after(self.patience)).map(Arc::new);
        self.recipe(remote).published.get_or_init(ask).clone()
    }

    /// Asks each of `remotes`, some at once: they answer [`Recipes::published`] from then on.
    pub fn ask_all<'a>(&self, remotes: impl IntoIterator<Item = &'a str>) {
        let remotes: BTreeSet<&str> = remotes.into_iter().collect();
        // What one cannot be asked for is for whoever wants it.
        let ask = |remote: &&str| drop(self.published(remote));
        if let ([_, _, ..], Ok(pool)) =
            (&remotes.iter().collect::<Vec<_>>()[..], rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build())
        {
            pool.install(|| remotes.par_iter().for_each(ask));
        }
    }

    /// The release notes of everything that `remote` publishes, read once.
    pub fn notes(&self, remote: &str) -> Result<Arc<Notes>> {
        let recipe = self.recipe(remote);
        let read = || -> Result<Arc<Notes>> {
            let published = self.published(remote)?;
            let mirror = self.mirror(remote);
            match Notes::read(&mirror, &published) {
                Err(_) if mirror.is_damaged() => {
                    // Built anew from the remote; the tags are what they were, or the next run sees it.
                    mirror.refresh(Deadline::after(self.patience))?;
                    Notes::read(&mirror, &published).map(Arc::new)
                }
                notes => notes.map(Arc::new),
            }
        };
        let notes = recipe.notes.get_or_init(|| read().map_err(|error| format!("{error:#}")));
        notes.clone().map_err(|error| anyhow!(error))
    }

    /// What differs between two commits, for people; each pair is asked once. See [`Mirror::diff`].
    pub fn diff(&self, remote: &str, from: &CommitId, to: &CommitId) -> Result<Untrusted> {
        let recipe = self.recipe(remote);
        let mut diffs = recipe.diffs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (from.clone(), to.clone());
        if let Some(diff) = diffs.get(&key) {
            return Ok(diff.clone());
        }
        let diff = self.mirror(remote).diff(from, to)?;
        diffs.insert(key, diff.clone());
        Ok(diff)
    }

    /// The mirror of `remote`, which may not be there yet.
    #[must_use]
    pub fn mirror(&self, remote: &str) -> Mirror {
        Mirror::at(&self.root, remote).ends_with(&self.interrupt)
    }

    /// The lock of the table is held only to find the row: a remote that hangs does not keep the others waiting.
    fn recipe(&self, remote: &str) -> Arc<Recipe> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(remote.to_owned()).or_default())
    }
}
