//! Every question to docker, asked of its daemon's API. An answer is there in a moment, where a call of docker's program
//! starts forty megabytes; in the time that an app is down, it is asked a lot. What changes anything is left to the
//! program ([`super::docker_cli`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::docker_cli::STACK_LABEL;
use super::swarm::{Container, Image, Info, Node, Service, Task, VolumeInfo};
use crate::sys::unix_http;
use crate::sys::untrusted::Untrusted;

/// Where the daemon listens, if `DOCKER_HOST` does not say otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What need not be encoded in an image's name.
const IN_NAMES: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'/').remove(b':').remove(b'@');

/// The daemon of this host.
#[derive(Debug, Clone)]
pub struct Api {
    host: Option<String>,
    patience: Duration,
}

impl Default for Api {
    fn default() -> Self {
        Self { host: std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()), patience: PATIENCE }
    }
}

/// A list that has but names.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    name: String,
}

/// A secret or a config.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    #[serde(rename = "ID")]
    id: String,
    spec: Named,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    #[serde(default)]
    volumes: Option<Vec<VolumeInfo>>,
}

impl Api {
    /// Likewise, with another patience.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What `DOCKER_HOST` must be for docker's program to speak with the same daemon.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.clone().unwrap_or_else(|| format!("unix://{SOCKET}"))
    }

    fn socket(&self) -> Result<PathBuf> {
        let host = self.host();
        match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(path.into()),
            _ => bail!(
                "`DOCKER_HOST` is `{}`, and docker is asked on this host only (unix://…)",
                Untrusted::new(host).terminal()
            ),
        }
    }

    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<unix_http::Answer> {
        let answer = unix_http::get(&self.socket()?, path, query, self.patience);
        answer.map_err(|error| anyhow!("docker does not answer: {error}"))
    }

    fn read<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let answer = self.ask(path, query)?;
        if answer.status != 200 {
            bail!("docker answers {path} with {}: {}", answer.status, message(&answer.body));
        }
        serde_json::from_slice(&answer.body).with_context(|| format!("docker's answer to {path} cannot be read"))
    }

    fn list<T: DeserializeOwned>(&self, path: &str, key: &str, values: &[String]) -> Result<T> {
        self.read(path, &[("filters", &serde_json::json!({ key: values }).to_string())])
    }

    /// The daemon, and its part in a swarm.
    pub fn info(&self) -> Result<Info> {
        self.read("/info", &[])
    }

    /// A node, as the swarm sees it; `None` if there is none of this id.
    pub fn node(&self, id: &str) -> Result<Option<Node>> {
        let nodes: Vec<Node> = self.list("/nodes", "id", &[id.to_owned()])?;
        Ok(nodes.into_iter().next())
    }

    /// A stack's services.
    pub fn services(&self, stack: &str) -> Result<Vec<Service>> {
        self.list("/services", "label", &of_stack(stack))
    }

    /// All tasks, dead ones too, of these services.
    pub fn tasks(&self, services: &[Service]) -> Result<Vec<Task>> {
        if services.is_empty() {
            // Without a filter, it would be everybody's.
            return Ok(Vec::new());
        }
        let ids: Vec<String> = services.iter().map(|service| service.id.clone()).collect();
        self.list("/tasks", "service", &ids)
    }

    /// A stack's containers, those that ended too.
    pub fn containers(&self, stack: &str) -> Result<Vec<Container>> {
        self.containers_where("label", &of_stack(stack))
    }

    /// All containers that mount the volume `name`, in whatever state.
    pub fn containers_with(&self, name: &str) -> Result<Vec<Container>> {
        self.containers_where("volume", &[name.to_owned()])
    }

    fn containers_where(&self, key: &str, values: &[String]) -> Result<Vec<Container>> {
        let filters = serde_json::json!({ key: values }).to_string();
        self.read("/containers/json", &[("all", "true"), ("filters", &filters)])
    }

    /// The names of a stack's networks.
    pub fn networks(&self, stack: &str) -> Result<Vec<String>> {
        let networks: Vec<Named> = self.list("/networks", "label", &of_stack(stack))?;
        Ok(networks.into_iter().map(|network| network.name).collect())
    }

    /// A stack's volumes.
    pub fn volumes(&self, stack: &str) -> Result<Vec<VolumeInfo>> {
        let volumes: Volumes = self.list("/volumes", "label", &of_stack(stack))?;
        Ok(volumes.volumes.unwrap_or_default())
    }

    /// The names of all volumes of this node, whoever they belong to.
    pub fn volume_names(&self) -> Result<BTreeSet<String>> {
        let volumes: Volumes = self.read("/volumes", &[])?;
        Ok(volumes.volumes.into_iter().flatten().map(|volume| volume.name).collect())
    }

    /// Ids of all secrets or configs, by name.
    pub fn objects(&self, kind: Objects) -> Result<BTreeMap<String, String>> {
        let objects: Vec<Object> = self.read(kind.path(), &[])?;
        Ok(objects.into_iter().map(|object| (object.spec.name, object.id)).collect())
    }

    /// The image that is here under this name.
    pub fn image(&self, name: &str) -> Result<Option<Image>> {
        // No image is called so, and a path with it would be another question.
        if name.is_empty() || name.contains("..") {
            return Ok(None);
        }
        let path = format!("/images/{}/json", utf8_percent_encode(name, IN_NAMES));
        let answer = self.ask(&path, &[])?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map(Some).context("docker's answer cannot be read"),
            // A name that none can have, too.
            400 | 404 => Ok(None),
            other => bail!("docker answers {path} with {other}: {}", message(&answer.body)),
        }
    }
}

/// What a swarm keeps by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// Secrets.
    Secrets,
    /// Configs.
    Configs,
}

impl Objects {
    fn path(self) -> &'static str {
        match self {
            Self::Secrets => "/secrets",
            Self::Configs => "/configs",
        }
    }
}

fn of_stack(stack: &str) -> [String; 1] {
    [format!("{STACK_LABEL}={stack}")]
}

/// What the daemon says of an error.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let text =
        serde_json::from_slice::<Said>(body).map_or_else(|_| String::from_utf8_lossy(body).into(), |s| s.message);
    Untrusted::new(text).capped(500).first_line()
}

#[cfg(test)]
#[path = "docker_api_tests.rs"]
mod tests;
