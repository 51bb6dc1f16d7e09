//! Recipes: what a git remote publishes, and how to have one version of it on disk.

pub mod mirror;
pub mod notes;
pub mod published;
pub mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};

pub use self::mirror::Mirror;
pub use self::published::Published;
use crate::sys::dirs::Dirs;

/// Every recipe of one run of the program: each remote is asked once, however many apps share it.
#[derive(Debug)]
pub struct Recipes {
    root: PathBuf,
    asked: Mutex<BTreeMap<String, Result<Arc<Published>, String>>>,
}

impl Recipes {
    /// Mirrors under `dirs`.
    #[must_use]
    pub fn new(dirs: &Dirs) -> Self {
        Self { root: dirs.recipes(), asked: Mutex::default() }
    }

    /// What `remote` publishes now; what is new is fetched. An error touches nothing.
    pub fn published(&self, remote: &str) -> Result<Arc<Published>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = asked
            .entry(remote.to_owned())
            .or_insert_with(|| self.mirror(remote).refresh().map(Arc::new).map_err(|error| format!("{error:#}")));
        answer.clone().map_err(|error| anyhow!(error))
    }

    /// The mirror of `remote`, which may not be there yet.
    #[must_use]
    pub fn mirror(&self, remote: &str) -> Mirror {
        Mirror::at(&self.root, remote)
    }
}
