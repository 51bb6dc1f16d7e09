//! Where the process deployer keeps an app.
//!
//! ```text
//! <state>/process/apps/<app>/deployment.json   what is deployed (0600)
//!                            status.json       how it is, by its supervisor
//!                            launch.lock       held while a supervisor starts
//!                            launch-failure.json   why the last one that failed did
//!                            releases/<commit>/…   the code
//!                            scratch/          HOME and TMPDIR, emptied by each deploy
//!                            log, log.1        what the app said
//! <state>/process/volumes/<stack>_<name>/_data     docker's layout
//!                                        owner     the app's name
//! ```

use std::path::{Path, PathBuf};

use crate::config::names::AppName;
use crate::identity::CommitId;
use crate::sys::dirs::Dirs;

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
