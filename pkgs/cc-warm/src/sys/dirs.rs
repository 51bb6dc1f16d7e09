//! Every path that cc-warm uses, under one state folder that tests inject.

use std::path::{Path, PathBuf};

/// The state folder (`/var/lib/ci-warm`, 0700) and what lies where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    root: PathBuf,
}

impl Dirs {
    /// The state folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Made once; missing while apps of ours run means an unmounted folder.
    #[must_use]
    pub fn id(&self) -> PathBuf {
        self.root.join("id")
    }

    /// One folder an app, whether declared or not.
    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }

    /// What belongs to the app called `app`.
    #[must_use]
    pub fn app(&self, app: &str) -> AppDirs {
        AppDirs { root: self.apps().join(app) }
    }

    /// Held for as long as somebody enters, or keeps others from entering.
    #[must_use]
    pub fn turnstile(&self) -> PathBuf {
        self.root.join("turnstile")
    }

    /// Held, shared, by every test run; exclusively by whoever wants none.
    #[must_use]
    pub fn activity(&self) -> PathBuf {
        self.root.join("activity")
    }

    /// A lock for each file system, held while an app on it is stopped.
    #[must_use]
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped")
    }

    /// Alerts not yet delivered, one file each.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// Bare mirrors of recipes, one folder a remote: cache, but for the commits that run.
    #[must_use]
    pub fn recipes(&self) -> PathBuf {
        self.root.join("recipes")
    }

    /// What the process deployer keeps: one folder an app, and `volumes/<name>/_data`.
    #[must_use]
    pub fn process(&self) -> PathBuf {
        self.root.join("process")
    }

    /// What the abra deployer keeps: one folder an app.
    #[must_use]
    pub fn abra(&self) -> PathBuf {
        self.root.join("abra")
    }

    /// What the last shutdown noted once all was synced.
    #[must_use]
    pub fn synced(&self) -> PathBuf {
        self.root.join("synced.json")
    }

    /// What is to be deleted; nothing in here is ever read.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

/// The folder of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDirs {
    root: PathBuf,
}

impl AppDirs {
    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The app's lock; its content names the holder.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Durable state, see [`crate::state`].
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// The intent log; there only while an operation is under way, or stuck.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.jsonl")
    }

    /// `<id>/…`, `current` and `previous`.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// `<operation>/<volume>`: what was live in volumes that a restore did away with.
    #[must_use]
    pub fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    /// One line an operation.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    /// Space that the journal may use when the disk is full, freed at the start of the way back.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// While there is a journal: a link to the Nix store path of the program that wrote it.
    #[must_use]
    pub fn helper(&self) -> PathBuf {
        self.root.join("helper")
    }

    /// Effective environments by digest: what an update comes from and goes to.
    #[must_use]
    pub fn env(&self) -> PathBuf {
        self.root.join("env")
    }
}
