//! The two files that say what is deployed and how it is (format 1). The first is written by cc-warm before anything is
//! started, and removed when nothing is left; the second is the supervisor's.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::folder::Folder;
use super::recipe::Plan;
use crate::config::names::AppName;
use crate::deployer::Stopped;
use crate::error::Problem;
use crate::identity::Identity;
use crate::sys::durable;
use crate::sys::procfs::ProcessId;
use crate::sys::untrusted::Untrusted;

/// The newest format of either file that this program reads.
const FORMAT: u32 = 1;

/// What is deployed: `deployment.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deployed {
    pub(super) format: u32,
    pub(super) app: AppName,
    /// What it is.
    pub(super) identity: Identity,
    /// Random, made anew by each deploy.
    pub(super) generation: String,
    /// The boot in which it was deployed: in another one nothing of it runs.
    pub(super) boot: String,
    pub(super) at: Timestamp,
    /// As whom it runs; `None`: as cc-warm, which is not root then.
    pub(super) account: Option<Account>,
    /// As whom cc-warm runs.
    pub(super) outside: Account,
    /// How long its processes have to end when asked, in seconds.
    pub(super) grace: u64,
    /// What is run: may hold secrets, as the environment beside it does.
    pub(super) plan: Plan,
    /// The state folder, which is hidden from the app but for what is named here.
    pub(super) state: PathBuf,
    /// Folders of the app that it may write: its volumes' data and its scratch folder.
    pub(super) writable: Vec<PathBuf>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// As whom an app was last started: `account.json`, which a stop leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RanAs {
    format: u32,
    account: Account,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl RanAs {
    pub(super) fn read(folder: &Folder) -> Result<Option<Account>> {
        Ok(read::<Self>(folder, &folder.account())?.map(|ran| ran.account))
    }

    /// Written only if it is another one: on a full disk an app must be startable again. That it cannot be written
    /// matters once its user is changed.
    pub(super) fn note(folder: &Folder, account: Account) {
        if Self::read(folder).is_ok_and(|ran| ran == Some(account)) {
            return;
        }
        let ran = Self { format: FORMAT, account, rest: Map::new() };
        if let Err(error) = durable::replace_json(&folder.account(), &ran) {
            tracing::warn!("as whom the app runs cannot be noted: {error:#}");
        }
    }
}

/// How an app is kept together, from the strongest to the weakest. Chosen by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Containment {
    /// A PID namespace, made by root: its end kills every process of the app. Own mounts and `/proc`.
    Namespace,
    /// The same inside a user namespace, where cc-warm is not root.
    UserNamespace,
    /// A session, a child subreaper, and a mark in the environment.
    Session,
}

/// How it is: `status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) format: u32,
    /// The deployment that it speaks of.
    pub(super) generation: String,
    pub(super) supervisor: ProcessId,
    pub(super) containment: Containment,
    /// One a line of the `Procfile`.
    pub(super) processes: Vec<ProcessStatus>,
    /// How often any process died since the deploy.
    pub(super) deaths: u64,
    /// The last of these.
    pub(super) last_death: Option<Death>,
    /// How the stop that was asked for went.
    pub(super) stopped: Option<Stopped>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// One process of the `Procfile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessStatus {
    pub(super) name: String,
    pub(super) running: bool,
    pub(super) starts: u64,
}

/// A process ended without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Death {
    pub(super) at: Timestamp,
    pub(super) process: String,
    /// `exited with 1`, `was killed by signal 9`.
    pub(super) how: String,
    /// Its last lines.
    pub(super) last_words: Untrusted,
}

impl Deployed {
    pub(super) fn read(folder: &Folder) -> Result<Option<Self>> {
        read(folder, &folder.deployment())
    }

    pub(super) fn write(&self, folder: &Folder) -> Result<()> {
        durable::replace_json(&folder.deployment(), self)
    }

    pub(super) fn format() -> u32 {
        FORMAT
    }
}

impl Status {
    pub(super) fn new(generation: &str, supervisor: ProcessId, containment: Containment) -> Self {
        Self {
            format: FORMAT,
            generation: generation.to_owned(),
            supervisor,
            containment,
            processes: Vec::new(),
            deaths: 0,
            last_death: None,
            stopped: None,
            rest: Map::new(),
        }
    }

    /// What the supervisor of deployment `generation` wrote; `None` if nothing yet.
    pub(super) fn read(folder: &Folder, generation: &str) -> Result<Option<Self>> {
        let status: Option<Self> = read(folder, &folder.status())?;
        Ok(status.filter(|status| status.generation == generation))
    }

    pub(super) fn write(&self, folder: &Folder) -> Result<()> {
        durable::replace_json(&folder.status(), self)
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn read<T: serde::de::DeserializeOwned>(folder: &Folder, path: &std::path::Path) -> Result<Option<T>> {
    let Some(bytes) = durable::read(path)? else { return Ok(None) };
    let parse = || -> Result<T> {
        let Format { format } = serde_json::from_slice(&bytes)?;
        anyhow::ensure!(format <= FORMAT, "its format is {format}, and this cc-warm reads up to {FORMAT}");
        Ok(serde_json::from_slice(&bytes)?)
    };
    let app = folder.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
    parse().map(Some).with_context(|| format!("`{}` cannot be used", path.display())).map_err(|error| {
        Problem::new(format!("it is not known what of app `{app}` is deployed; nothing was touched"))
            .hint("use the cc-warm that wrote the file, or move the file away once nothing of the app runs")
            .because(error)
            .into()
    })
}
