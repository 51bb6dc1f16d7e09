//! Where the deployer keeps what, and what it keeps.
//!
//! ```text
//! abra/<app>/run/             $ABRA_DIR: recipes/<recipe> is a work tree of our own, servers a link to the host's folder
//! abra/<app>/docker/          $DOCKER_CONFIG, where logins are configured
//! abra/<app>/code/<commit>/   the files of a release, for rendering
//! abra/<app>/deployed.json    what cc-warm deployed last, and what docker then said
//! abra/<app>/releases/<key>   what a release needs of this host: images, secrets
//! abra/<app>/volumes.json     how its volumes were made
//! apps/<app>/env/<digest>     the text of an `.env`, whatever version it names
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::names::AppName;
use crate::deployer::swarm::{self, Service};
use crate::identity::{CommitId, Identity};
use crate::sys::dirs::Dirs;
use crate::sys::durable;

/// The newest format of the files in here.
const FORMAT: u32 = 1;

/// The folder of one app.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn of(dirs: &Dirs, app: &AppName) -> Self {
        Self { root: dirs.abra().join(app.as_str()) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn abra_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn recipe(&self, recipe: &str) -> PathBuf {
        self.abra_dir().join("recipes").join(recipe)
    }

    pub(super) fn docker_config(&self) -> PathBuf {
        self.root.join("docker")
    }

    pub(super) fn codes(&self) -> PathBuf {
        self.root.join("code")
    }

    pub(super) fn code(&self, commit: &CommitId) -> PathBuf {
        self.codes().join(commit.as_str())
    }

    pub(super) fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    fn release(&self, identity: &Identity) -> Result<PathBuf> {
        Ok(self.releases().join(key(identity)?))
    }

    fn deployed(&self) -> PathBuf {
        self.root.join("deployed.json")
    }

    fn volumes(&self) -> PathBuf {
        self.root.join("volumes.json")
    }

    pub(super) fn read_record(&self) -> Result<Record> {
        read(&self.deployed()).map(Option::unwrap_or_default)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<()> {
        durable::make_dir(&self.root)?;
        durable::replace_json(&self.deployed(), record)
    }

    pub(super) fn read_needs(&self, identity: &Identity) -> Result<Option<Needs>> {
        read(&self.release(identity)?)
    }

    pub(super) fn write_needs(&self, identity: &Identity, needs: &Needs) -> Result<()> {
        durable::make_dir(&self.releases())?;
        durable::replace_json(&self.release(identity)?, needs)
    }

    pub(super) fn read_volumes(&self) -> Result<Volumes> {
        read(&self.volumes()).map(Option::unwrap_or_default)
    }

    pub(super) fn write_volumes(&self, volumes: &Volumes) -> Result<()> {
        durable::make_dir(&self.root)?;
        durable::replace_json(&self.volumes(), volumes)
    }
}

/// The file name of what is kept of `identity`.
pub(super) fn key(identity: &Identity) -> Result<String> {
    Ok(blake3::hash(&serde_json::to_vec(identity)?).to_hex()[..32].to_owned())
}

trait Formatted {
    fn format(&self) -> u32;
}

fn read<T: Formatted + serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let found: Option<T> = durable::read_json(path)?;
    if let Some(found) = &found {
        let format = found.format();
        ensure!(format == FORMAT, "`{}` has format {format}, this cc-warm reads format {FORMAT}", path.display());
    }
    Ok(found)
}

/// What cc-warm deployed last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// It, and what docker said when it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deployed: Option<Mark>,
    /// What is being deployed: there only if that was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) under_way: Option<Identity>,
    /// Whether `deployed` is being stopped, or a stop of it was cut short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) stopping: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A deployment as docker showed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// What it is.
    pub(super) identity: Identity,
    /// What it took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Identity>,
    /// When it began.
    pub(super) at: Timestamp,
    /// Its services, by id.
    pub(super) services: BTreeMap<String, ServiceMark>,
}

impl Mark {
    fn generation(&self) -> String {
        let mark = |(id, service): (&String, &ServiceMark)| (id.clone(), service.mark.clone());
        swarm::generation(&self.services.iter().map(mark).collect())
    }
}

/// One of its services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceMark {
    /// [`Service::mark`] of the deployment.
    pub(super) mark: String,
    /// Of what it was before, which the swarm may put back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
}

impl Default for Record {
    fn default() -> Self {
        Self { format: FORMAT, deployed: None, under_way: None, stopping: false, rest: Map::new() }
    }
}

impl Formatted for Record {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record {
    /// The marks of `services`. One that the swarm itself put back counts as what was deployed: nobody else did it.
    pub(super) fn marks(&self, services: &[Service]) -> BTreeMap<String, String> {
        let known = self.deployed.as_ref().map(|deployed| &deployed.services);
        let mark = |service: &Service| {
            let mark = service.mark();
            match known.and_then(|known| known.get(&service.id)) {
                Some(known) if service.was_rolled_back() && known.before.as_ref() == Some(&mark) => known.mark.clone(),
                _ => mark,
            }
        };
        services.iter().map(|service| (service.id.clone(), mark(service))).collect()
    }

    /// Which deployment `services` are. What a stop of ours has left so far is still the whole that it was.
    pub(super) fn generation(&self, services: &[Service]) -> String {
        match self.is_rest(services).filter(|_| self.stopping) {
            Some(deployed) => deployed.generation(),
            None => swarm::generation(&self.marks(services)),
        }
    }

    /// The deployment of ours that `services` still are.
    pub(super) fn is_still(&self, services: &[Service]) -> Option<&Mark> {
        let deployed = self.deployed.as_ref()?;
        (deployed.generation() == swarm::generation(&self.marks(services))).then_some(deployed)
    }

    /// The deployment of ours of which `services` are what a stop has left so far.
    pub(super) fn is_rest(&self, services: &[Service]) -> Option<&Mark> {
        let deployed = self.deployed.as_ref()?;
        let is_known =
            |service: &Service| deployed.services.get(&service.id).is_some_and(|known| known.mark == service.mark());
        (!services.is_empty() && services.iter().all(is_known)).then_some(deployed)
    }
}

/// What a release needs of this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Needs {
    format: u32,
    /// What it is of.
    pub(super) identity: Identity,
    /// Images: as the recipe names them → their ids.
    pub(super) images: BTreeMap<String, String>,
    /// Secrets: name → object id. The same name can be another secret.
    pub(super) secrets: BTreeMap<String, String>,
    /// External configs: likewise.
    pub(super) configs: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Needs {
    pub(super) fn of(identity: &Identity) -> Self {
        let (images, secrets, configs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { format: FORMAT, identity: identity.clone(), images, secrets, configs, rest: Map::new() }
    }
}

impl Formatted for Needs {
    fn format(&self) -> u32 {
        self.format
    }
}

/// How volumes were made, so that they can be made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Volumes {
    format: u32,
    /// By name.
    pub(super) made: BTreeMap<String, Made>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// How one was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) options: BTreeMap<String, String>,
}

impl Default for Volumes {
    fn default() -> Self {
        Self { format: FORMAT, made: BTreeMap::new(), rest: Map::new() }
    }
}

impl Formatted for Volumes {
    fn format(&self) -> u32 {
        self.format
    }
}
