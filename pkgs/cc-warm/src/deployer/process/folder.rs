//! Where the process deployer keeps an app.
//!
//! ```text
//! <state>/process/apps/<app>/deployment.json   what is deployed (0600)
//!                            account.json      as whom it was last started
//!                            status.json       how it is, by its supervisor
//!                            launch.lock       held while a supervisor starts
//!                            launch-failure.json   why the last one that failed did
//!                            releases/<commit>/…   the code
//!                            scratch/          HOME and TMPDIR, emptied by each deploy
//!                            scratch.old-*/    those of earlier deployments, until they are deleted
//!                            log, log.1        what the app said
//! <state>/process/volumes/<stack>_<name>/_data     docker's layout
//!                                        owner     the app's name
//! ```

use std::path::{Path, PathBuf};

use crate::config::names::AppName;
use crate::identity::CommitId;
use crate::sys::dirs::Dirs;

const OLD_SCRATCH: &str = "scratch.old-";

/// The folder of one app.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn of(dirs: &Dirs, app: &AppName) -> Self {
        Self { root: dirs.process().join("apps").join(app.as_str()) }
    }

    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn deployment(&self) -> PathBuf {
        self.root.join("deployment.json")
    }

    pub(super) fn account(&self) -> PathBuf {
        self.root.join("account.json")
    }

    pub(super) fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }

    pub(super) fn failure(&self) -> PathBuf {
        self.root.join("launch-failure.json")
    }

    pub(super) fn launch_lock(&self) -> PathBuf {
        self.root.join("launch.lock")
    }

    pub(super) fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    pub(super) fn release(&self, commit: &CommitId) -> PathBuf {
        self.releases().join(commit.as_str())
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Where a scratch folder waits for its deletion.
    pub(super) fn old_scratch(&self, id: &str) -> PathBuf {
        self.root.join(format!("{OLD_SCRATCH}{id}"))
    }

    /// What waits for its deletion.
    pub(super) fn old_scratches(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let is_old =
            |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(OLD_SCRATCH.as_bytes());
        entries.filter(is_old).map(|entry| entry.path()).collect()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn old_log(&self) -> PathBuf {
        self.root.join("log.1")
    }
}

/// The folder of all volumes.
pub(super) fn volumes(dirs: &Dirs) -> PathBuf {
    dirs.process().join("volumes")
}
