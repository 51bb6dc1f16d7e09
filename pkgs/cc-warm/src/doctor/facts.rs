//! What was found on the host, before anything is judged.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::deployer::swarm::{Info, Node};

/// What was found on the host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The configuration file.
    pub config: PathBuf,
    /// Why it cannot be used.
    pub config_error: Option<String>,
    /// The state folder.
    pub state_dir: PathBuf,
    /// How it is.
    pub state: StateFolder,
    /// The wall clock.
    pub now: Timestamp,
    /// The newest time that anything in the state folder says.
    pub newest: Option<(Timestamp, String)>,
    /// git's version, or why it does not run.
    pub git: Option<Result<String, String>>,
    /// What abra's deployer needs; `None` if no app has it.
    pub swarm: Option<Swarm>,
    /// File systems that cc-warm writes to.
    pub disks: Vec<Disk>,
    /// Bytes that no snapshot may take.
    pub reserve: u64,
    /// The names of the sinks.
    pub sinks: Vec<String>,
    /// Alerts that are not delivered yet, the oldest time first.
    pub undelivered: Vec<Timestamp>,
    /// Alerts that cannot be read.
    pub unreadable: Vec<String>,
    /// The apps.
    pub apps: Vec<AppFacts>,
}

/// How the state folder is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateFolder {
    /// It is not there: nothing ran yet.
    #[default]
    Missing,
    /// It is there.
    There {
        /// Its permission bits.
        mode: u32,
        /// Whether it has its id.
        has_id: bool,
        /// Why nothing can be written to it.
        not_writable: Option<String>,
        /// Why it is not the folder from which apps run.
        foreign: Option<String>,
    },
}

/// What abra's deployer needs.
#[derive(Debug, Clone, Default)]
pub struct Swarm {
    /// `docker info`, or why it does not answer.
    pub info: Option<Result<Info, String>>,
    /// This node.
    pub node: Option<Node>,
    /// Whether `docker` is podman.
    pub is_podman: bool,
    /// abra's version, or why it does not run.
    pub abra: Option<Result<String, String>>,
    /// Whether volumes and state are on one file system; `None`: it cannot be told.
    pub one_file_system: Option<bool>,
    /// Where docker keeps volumes.
    pub volumes: PathBuf,
}

/// A file system.
#[derive(Debug, Clone)]
pub struct Disk {
    /// What lies on it.
    pub what: String,
    /// Bytes that are free.
    pub free: u64,
}

/// What was found of one app.
#[derive(Debug, Clone, Default)]
pub struct AppFacts {
    /// Its name.
    pub name: String,
    /// Whether it is declared.
    pub declared: bool,
    /// Who holds its lock.
    pub holder: Option<String>,
    /// Whether it has a journal that nobody works on: the last event, and whether that is `stuck`.
    pub journal: Option<(String, bool)>,
    /// A state file or a journal that cannot be used.
    pub unusable: Option<String>,
    /// Whether `verify` found its known-good damaged, or it cannot be read.
    pub damaged: Option<String>,
    /// Its `.env`, and whether it is missing though the app was deployed.
    pub env: Option<(PathBuf, EnvFile)>,
    /// What its probes say; `None`: not asked, for it does not run.
    pub probes: Option<Result<String, String>>,
    /// Whether it has none.
    pub no_probes: bool,
}

/// How an app's `.env` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvFile {
    /// There.
    There,
    /// There, but an update could not replace it: this folder is read-only for it.
    ReadOnly(PathBuf),
    /// Not there, and the folder of its server neither.
    NoServer,
    /// Not there; the first deployment makes it.
    ToBeMade,
    /// Not there, though the app is no new one.
    Missing,
}
