//! What docker says of a stack, and what that means: pure functions over docker's JSON. Fields that a docker does not
//! have are as if they were empty; nothing is taken for granted that another version may leave out.

mod convergence;
mod spec;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

pub use self::convergence::convergence;
pub use self::spec::is_of;

/// The label in which docker keeps the image as the compose file names it.
const IMAGE_LABEL: &str = "com.docker.stack.image";

/// The daemon.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Its part in a swarm.
    pub swarm: SwarmInfo,
    /// Where it keeps everything.
    pub docker_root_dir: String,
    /// Whether containers outlive it. A swarm cannot have that.
    pub live_restore_enabled: bool,
    /// Why it does not answer.
    pub server_errors: Vec<String>,
    /// Its version.
    pub server_version: String,
    /// podman calls itself otherwise.
    pub name: String,
}

/// A daemon's part in a swarm.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// This node's id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// `active`, `inactive`, `pending` (still loading), `locked`, `error`.
    pub local_node_state: String,
    /// Whether it is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
}

/// A node of the swarm.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// How it is.
    pub status: NodeStatus,
    /// What it is.
    pub description: NodeDescription,
}

/// How a node is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// `ready`, `down`, `unknown`, `disconnected`.
    pub state: String,
}

/// What a node is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeDescription {
    /// Its host name.
    pub hostname: String,
}

/// A service of the stack.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it shall be.
    pub spec: Value,
    /// What it was before, as long as docker knows.
    pub previous_spec: Option<Value>,
    /// How its last update went.
    pub update_status: Option<UpdateStatus>,
}

/// How a service's last update went. It stays until the next one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateStatus {
    /// `updating`, `completed`, `paused`, `rollback_started`, `rollback_paused`, `rollback_completed`.
    pub state: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// In docker's words.
    pub message: String,
}

/// A task of a service, past or present.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Of which service.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// On which node, once it has one.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// What it was made from.
    pub spec: Value,
    /// How it is.
    pub status: TaskStatus,
    /// What it shall be: `running`, `ready`, `shutdown`, `remove`.
    pub desired_state: String,
}

/// How a task is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskStatus {
    /// `new` … `running`, or how it ended: `complete`, `failed`, `rejected`, `shutdown`, `orphaned`.
    pub state: String,
    /// Why it failed.
    pub err: String,
    /// Likewise.
    pub message: String,
    /// Its container.
    pub container_status: ContainerStatus,
}

/// A task's container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatus {
    /// Its id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// How it ended.
    pub exit_code: i64,
}

/// A volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// What keeps it.
    pub driver: String,
    /// Where its data is.
    pub mountpoint: String,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// What it was made with.
    pub options: Option<BTreeMap<String, String>>,
}

/// A container, in a list of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its names, each with a `/` before it.
    pub names: Vec<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// How it is: `created`, `running`, `paused`, `exited`, …
    pub state: String,
}

/// An image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    /// Its id: the digest of what it is.
    pub id: String,
}

impl Info {
    /// Why nothing can be known of a stack now. `node` is what the swarm says of this node, if it was asked.
    #[must_use]
    pub fn not_ready(&self, node: Option<&Node>) -> Option<String> {
        if let Some(error) = self.server_errors.first() {
            return Some(format!("docker does not answer: {error}"));
        }
        // Without a daemon, docker fills in nothing.
        if self.server_version.is_empty() {
            return Some("docker does not answer".to_owned());
        }
        match self.swarm.local_node_state.as_str() {
            "active" => {}
            "pending" => return Some("docker is still loading the swarm".to_owned()),
            "locked" => return Some("the swarm is locked (`docker swarm unlock`)".to_owned()),
            "" | "inactive" => return Some("this docker is not part of a swarm".to_owned()),
            other => return Some(format!("the swarm's state is `{other}`: {}", self.swarm.error)),
        }
        if !self.swarm.control_available {
            return Some("this node is no manager of its swarm".to_owned());
        }
        if !self.swarm.error.is_empty() {
            return Some(format!("the swarm says: {}", self.swarm.error));
        }
        node.filter(|node| node.status.state != "ready")
            .map(|node| format!("this node is not ready yet, but `{}`", node.status.state))
    }
}

impl Container {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }

    /// Whether it has processes, or is about to lose them: one that ended uses nothing.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting" | "removing")
    }
}

impl Service {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spec["Name"].as_str().unwrap_or_default()
    }

    /// One of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.spec["Labels"][key].as_str()
    }

    /// What stands for it in a [`generation`]: it changes with whatever anybody changes.
    #[must_use]
    pub fn mark(&self) -> String {
        // serde_json sorts the keys of objects, so equal specs have equal texts.
        blake3::hash(self.spec.to_string().as_bytes()).to_hex()[..32].to_owned()
    }

    /// Whether docker put the spec before back by itself.
    #[must_use]
    pub fn was_rolled_back(&self) -> bool {
        self.update_status.as_ref().is_some_and(|status| status.state.starts_with("rollback_"))
    }

    fn container(&self) -> &Value {
        &self.spec["TaskTemplate"]["ContainerSpec"]
    }

    /// The image that it shall run.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.container()["Image"].as_str()
    }

    /// The same, as the compose file names it.
    #[must_use]
    pub fn named_image(&self) -> Option<&str> {
        self.label(IMAGE_LABEL).or_else(|| self.image())
    }

    /// Names and object ids of the secrets (`Secrets`, `SecretName`, `SecretID`) or configs that it uses.
    fn objects<'a>(&'a self, list: &str, name: &'a str, id: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
        let all = self.container()[list].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(move |one| Some((one[name].as_str()?.to_owned(), one[id].as_str()?.to_owned())))
    }

    /// Names and object ids of its secrets and configs.
    #[must_use]
    pub fn secrets_and_configs(&self) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        (
            self.objects("Secrets", "SecretName", "SecretID").collect(),
            self.objects("Configs", "ConfigName", "ConfigID").collect(),
        )
    }

    /// The volumes that it mounts, by full name.
    #[must_use]
    pub fn volumes(&self) -> BTreeSet<String> {
        let mounts = self.container()["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
        mounts
            .iter()
            .filter(|mount| mount["Type"] == "volume")
            .filter_map(|mount| mount["Source"].as_str().filter(|name| !name.is_empty()).map(str::to_owned))
            .collect()
    }
}

/// The generation of a deployment: what changes when anybody changes it. Marks by the services' ids.
#[must_use]
pub fn generation(marks: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (id, mark) in marks {
        hasher.update(id.as_bytes());
        hasher.update(mark.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// What the labels of a stack say is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The version, as the compose file has it.
    pub version: String,
    /// After a chaos deployment: the commit, abbreviated; `+U` at its end means changes that are in no commit.
    pub chaos: Option<String>,
}

/// What the labels of the stack called `stack` say. Which service bears them is a custom, so any may.
#[must_use]
pub fn labels(stack: &str, services: &[Service]) -> Option<Labels> {
    let key = |what: &str| format!("coop-cloud.{stack}.{what}");
    let main = format!("{stack}_app");
    let bearer = services
        .iter()
        .filter(|service| service.label(&key("version")).is_some())
        .min_by_key(|service| service.name() != main)?;
    // Whether the keys are spelled `chaos-version` or `chaosVersion`, a chaos deployment must not pass for a clean one.
    let chaos = ["chaos-version", "chaosVersion", "chaos_version"].iter().find_map(|what| bearer.label(&key(what)));
    let is_chaos = bearer.label(&key("chaos")).map_or(chaos.is_some(), |text| text != "false");
    Some(Labels {
        version: bearer.label(&key("version"))?.to_owned(),
        chaos: is_chaos.then(|| chaos.unwrap_or_default().to_owned()),
    })
}

/// The services whose tasks are on another node than this one.
#[must_use]
pub fn elsewhere(here: &str, services: &[Service], tasks: &[Task]) -> BTreeSet<String> {
    let is_live = |task: &&Task| matches!(task.desired_state.as_str(), "running" | "ready");
    let away = tasks.iter().filter(is_live).filter(|task| !task.node_id.is_empty() && task.node_id != here);
    away.filter_map(|task| services.iter().find(|service| service.id == task.service_id))
        .map(|service| service.name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
