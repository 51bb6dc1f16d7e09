//! What a recipe's compose files come to on this host: docker renders them (`docker stack config`), so that what is
//! compared is what would be deployed; here its YAML is read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::Rendering;

/// The option by which docker holds a volume to a size.
pub const SIZE: &str = "size";
/// Why a volume that has it is not snapshotted.
pub const LIMITED: &str = "it has the driver option `size`, and data that is restored is built beside the data that is live: \
                           both together would be held to that size";

/// A rendered stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Compose {
    root: Value,
}

/// A mount of a service that may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`, …
    pub kind: String,
    /// The volume's name in the recipe, or the path on the host; empty: anonymous.
    pub source: String,
    /// `service:/path`.
    pub place: String,
    /// The folder of the volume that is mounted; empty: all of it.
    pub part: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

impl Compose {
    /// Reads what docker wrote.
    pub fn parse(yaml: &str) -> Result<Self> {
        let root = serde_saphyr::from_str(yaml).context("docker's rendering of the compose files cannot be read")?;
        Ok(Self { root })
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.root[name].as_object().into_iter().flatten()
    }

    /// The names of its services.
    #[must_use]
    pub fn services(&self) -> BTreeSet<String> {
        self.section("services").map(|(name, _)| name.clone()).collect()
    }

    /// Its images, as the recipe names them.
    #[must_use]
    pub fn images(&self) -> BTreeSet<String> {
        self.section("services").filter_map(|(_, service)| service["image"].as_str()).map(str::to_owned).collect()
    }

    /// The image of each service that has one.
    #[must_use]
    pub fn images_by_service(&self) -> BTreeMap<&str, &str> {
        self.section("services")
            .filter_map(|(name, service)| Some((name.as_str(), service["image"].as_str()?)))
            .collect()
    }

    /// The version that its labels will say is deployed.
    #[must_use]
    pub fn version_label(&self, stack: &str) -> Option<String> {
        let key = format!("coop-cloud.{stack}.version");
        self.section("services").find_map(|(_, service)| text(&service["deploy"]["labels"][&key]))
    }

    /// Secrets that have to be there: name in the recipe → name in docker.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<String, String> {
        self.externals("secrets")
    }

    /// Likewise configs.
    #[must_use]
    pub fn configs(&self) -> BTreeMap<String, String> {
        self.externals("configs")
    }

    fn externals(&self, section: &str) -> BTreeMap<String, String> {
        let external = self.section(section).filter(|(_, value)| is_external(value));
        external.map(|(name, value)| (name.clone(), full_name(name, value))).collect()
    }

    /// Every mount of every service.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        let mut all = Vec::new();
        for (service, value) in self.section("services") {
            for mount in value["volumes"].as_array().into_iter().flatten() {
                all.push(Mount {
                    kind: mount["type"].as_str().unwrap_or("volume").to_owned(),
                    source: mount["source"].as_str().unwrap_or_default().to_owned(),
                    place: format!("{service}:{}", mount["target"].as_str().unwrap_or_default()),
                    part: mount["volume"]["subpath"].as_str().unwrap_or_default().to_owned(),
                    read_only: mount["read_only"].as_bool().unwrap_or(false),
                });
            }
        }
        all
    }

    /// Why the volume that the recipe calls `name` cannot be snapshotted, from how it is declared; `None`: it can.
    #[must_use]
    pub fn unsuitable_volume(&self, name: &str) -> Option<String> {
        let value = &self.root["volumes"][name];
        if is_external(value) {
            return Some("it is external: another stack may use it".to_owned());
        }
        if let Some(driver) = value["driver"].as_str().filter(|driver| *driver != "local") {
            return Some(format!("its driver is `{driver}`, not `local`"));
        }
        let options = value["driver_opts"].as_object().into_iter().flatten();
        let (limits, other): (Vec<&str>, Vec<&str>) =
            options.map(|(key, _)| key.as_str()).partition(|key| *key == SIZE);
        if other.is_empty() {
            return (!limits.is_empty()).then(|| LIMITED.to_owned());
        }
        Some(format!("it has the driver options {}", other.join(", ")))
    }

    /// The volume's name in docker.
    #[must_use]
    pub fn volume_name(&self, stack: &str, name: &str) -> String {
        let value = &self.root["volumes"][name];
        match value["name"].as_str() {
            Some(full) => full.to_owned(),
            None if is_external(value) => name.to_owned(),
            None => format!("{stack}_{name}"),
        }
    }

    /// A volume as the gate tells it from others: with another name in docker it is another one, empty or somebody else's.
    fn volume_identity(&self, stack: &str, name: String) -> String {
        if name.is_empty() {
            return "(anonymous)".to_owned();
        }
        let full = self.volume_name(stack, &name);
        if full == format!("{stack}_{name}") { name } else { format!("{name} (docker's {full})") }
    }

    /// The rendered stack.
    #[must_use]
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// All of it that the gate compares, deployed as `stack`. Secrets are no external things: abra makes them.
    #[must_use]
    pub fn rendering(&self, stack: &str) -> Rendering {
        let mut rendering = Rendering { images: self.images(), ..Rendering::default() };
        for mount in self.mounts() {
            let part = if mount.part.is_empty() { String::new() } else { format!(" from `{}`", mount.part) };
            let how = format!("{part}{}", if mount.read_only { " (read-only)" } else { "" });
            match mount.kind.as_str() {
                "volume" => {
                    let name = self.volume_identity(stack, mount.source);
                    rendering.volumes.entry(name).or_default().insert(format!("{}{how}", mount.place));
                }
                "tmpfs" => {}
                kind => {
                    rendering.binds.insert(format!("{kind} {} at {}{how}", mount.source, mount.place));
                }
            }
        }
        for (name, value) in self.section("volumes") {
            rendering.binds.extend(driver_text(name, value));
        }
        for (section, what) in [("volumes", "volume"), ("networks", "network"), ("configs", "config")] {
            let external = self.section(section).filter(|(_, value)| is_external(value));
            rendering.external.extend(external.map(|(name, value)| format!("{what} {}", full_name(name, value))));
        }
        for (service, value) in self.section("services") {
            rendering.privileges.extend(privileges(service, value));
            rendering
                .ports
                .extend(value["ports"].as_array().into_iter().flatten().map(|port| port_text(service, port)));
        }
        rendering
    }
}

/// How a volume is kept, where that is not docker's own way: it may be any folder of the host.
fn driver_text(name: &str, value: &Value) -> Option<String> {
    let driver = value["driver"].as_str().filter(|driver| *driver != "local").map(|driver| format!("driver={driver}"));
    let options = value["driver_opts"].as_object().into_iter().flatten();
    let options = options.map(|(key, value)| format!("{key}={}", shown(key, &text(value).unwrap_or_default())));
    let all: Vec<String> = driver.into_iter().chain(options).collect();
    (!all.is_empty()).then(|| format!("volume {name} with {}", all.join(", ")))
}

/// The value of a driver's option as it may be told; what may be a password is told by its digest.
fn shown(key: &str, value: &str) -> String {
    let digest = |secret: &str| format!("({})", &blake3::hash(secret.as_bytes()).to_hex()[..8]);
    let mount_option = |option: &str| match option.split_once('=') {
        Some((key, secret)) if key.trim().to_lowercase().starts_with("pass") => format!("{key}={}", digest(secret)),
        _ => option.to_owned(),
    };
    match key {
        "type" | "device" | SIZE => value.to_owned(),
        "o" => value.split(',').map(mount_option).collect::<Vec<_>>().join(","),
        _ => digest(value),
    }
}

fn is_external(value: &Value) -> bool {
    match &value["external"] {
        Value::Bool(external) => *external,
        Value::Null => false,
        // `external: {name: …}`, as older files have it.
        _ => true,
    }
}

fn full_name(name: &str, value: &Value) -> String {
    let own = value["name"].as_str().or_else(|| value["external"]["name"].as_str());
    own.unwrap_or(name).to_owned()
}

/// What a service may do beyond the ordinary.
fn privileges(service: &str, value: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    // Of what is no privilege but the want of one, there is nothing to approve.
    let gives =
        |item: &String| !matches!(item.replace('=', ":").as_str(), "no-new-privileges" | "no-new-privileges:true");
    for key in ["cap_add", "devices", "security_opt"] {
        let items = value[key].as_array().into_iter().flatten().filter_map(text).filter(gives);
        all.extend(items.map(|item| format!("{service}: {key} {item}")));
    }
    if value["privileged"] == true {
        all.insert(format!("{service}: privileged"));
    }
    for key in ["pid", "ipc", "network_mode", "userns_mode", "cgroupns_mode", "user"] {
        if let Some(item) = text(&value[key]).filter(|item| !item.is_empty()) {
            all.insert(format!("{service}: {key} {item}"));
        }
    }
    let nothing = Map::new();
    for key in value["sysctls"].as_object().unwrap_or(&nothing).keys() {
        all.insert(format!("{service}: sysctl {key}"));
    }
    all
}

fn port_text(service: &str, port: &Value) -> String {
    let field = |key: &str| text(&port[key]).unwrap_or_default();
    format!("{service}: {} → {}/{} ({})", field("published"), field("target"), field("protocol"), field("mode"))
}

/// A scalar, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The variables that `abra.sh` exports: versions of configs. It is read, never run.
#[must_use]
pub fn exports(script: &str) -> BTreeMap<String, String> {
    let line = |line: &str| -> Option<(String, String)> {
        let (key, value) = line.strip_prefix("export ")?.trim().split_once('=')?;
        let is_name = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        let value = value.trim_matches(['"', '\'']);
        let is_plain = value.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        (is_name && is_plain).then(|| (key.to_owned(), value.to_owned()))
    };
    script.lines().filter_map(line).collect()
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
