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
mod tests {
    use super::*;

    /// As docker 28 renders it.
    const RENDERED: &str = r#"version: "3.8"
services:
  app:
    cap_add:
      - NET_ADMIN
    configs:
      - source: conf
        target: /etc/conf
    deploy:
      labels:
        coop-cloud.abx_test.timeout: "300"
        coop-cloud.abx_test.version: 1.0.0+1
    environment:
      GREETING: x
    image: bb:1
    networks:
      internal: null
      proxy: null
    ports:
      - mode: ingress
        target: 80
        published: 18099
        protocol: tcp
    secrets:
      - source: pw
    user: "0"
    volumes:
      - type: volume
        source: data
        target: /data
      - type: volume
        target: /scratch
      - type: bind
        source: /etc/hostname
        target: /host
        read_only: true
  db:
    image: db:2
    volumes:
      - type: volume
        source: data
        target: /var/data
        read_only: true
      - type: volume
        source: nfs
        target: /nfs
      - type: tmpfs
        target: /tmp
networks:
  internal: {}
  proxy:
    external: true
volumes:
  data: {}
  nfs:
    driver_opts:
      type: nfs
      o: addr=a
  limited:
    driver_opts:
      size: 10G
  shared:
    name: other_shared
    external: true
secrets:
  pw:
    name: abx_test_pw_v1
    external: true
configs:
  conf:
    name: abx_test_conf_v1
    file: /tmp/exp/conf.txt
"#;

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn reads_what_docker_renders() {
        let compose = Compose::parse(RENDERED).unwrap();
        assert_eq!(compose.services(), set(&["app", "db"]));
        assert_eq!(compose.version_label("abx_test").as_deref(), Some("1.0.0+1"));
        assert_eq!(compose.version_label("other"), None);
        assert_eq!(compose.secrets(), BTreeMap::from([("pw".to_owned(), "abx_test_pw_v1".to_owned())]));
        assert_eq!(compose.configs(), BTreeMap::new());
        let rendering = compose.rendering("abx_test");
        assert_eq!(rendering.images, set(&["bb:1", "db:2"]));
        assert_eq!(rendering.volumes["data"], set(&["app:/data", "db:/var/data (read-only)"]));
        assert_eq!(rendering.volumes["(anonymous)"], set(&["app:/scratch"]));
        let kept_elsewhere = ["volume nfs with o=addr=a, type=nfs", "volume limited with size=10G"];
        let bound = ["bind /etc/hostname at app:/host (read-only)"];
        assert_eq!(rendering.binds, set(&[&bound[..], &kept_elsewhere].concat()));
        assert_eq!(rendering.external, set(&["network proxy", "volume other_shared"]));
        assert_eq!(rendering.privileges, set(&["app: cap_add NET_ADMIN", "app: user 0"]));
        assert_eq!(rendering.ports, set(&["app: 18099 → 80/tcp (ingress)"]));
    }

    #[test]
    fn knows_volumes_that_cannot_be_snapshotted() {
        let compose = Compose::parse(RENDERED).unwrap();
        assert_eq!(compose.unsuitable_volume("data"), None);
        assert!(compose.unsuitable_volume("nfs").unwrap().contains("type"));
        assert_eq!(compose.unsuitable_volume("limited").unwrap(), LIMITED);
        assert!(compose.unsuitable_volume("shared").unwrap().contains("external"));
        assert_eq!(compose.volume_name("abx_test", "data"), "abx_test_data");
        assert_eq!(compose.volume_name("abx_test", "shared"), "other_shared");
    }

    #[test]
    fn a_volume_with_another_name_in_docker_is_another_volume() {
        let with = |volumes: &str| {
            let yaml = format!(
                "services: {{app: {{volumes: [{{type: volume, source: data, target: /d}}]}}}}\nvolumes: {volumes}\n"
            );
            Compose::parse(&yaml).unwrap().rendering("s")
        };
        let own = with("{data: {}}");
        assert_eq!(own, with("{data: {name: s_data}}"));
        for other in ["{data: {name: s_db}}", "{data: {name: other_data}}", "{data: {name: data, external: true}}"] {
            assert_ne!(own.volumes, with(other).volumes, "{other}");
        }
        let secret = |password: &str| {
            with(&format!(
                "{{data: {{driver_opts: {{type: cifs, o: 'username=u,password={password}', device: //h/s}}}}}}"
            ))
        };
        let (one, other) = (secret("hunter2"), secret("hunter3"));
        assert!(one.binds != other.binds && !format!("{one:?}").contains("hunter2"), "{one:?}");
        let host = with("{data: {driver_opts: {type: none, o: bind, device: /}}}");
        assert_eq!(host.binds, set(&["volume data with device=/, o=bind, type=none"]));
    }

    #[test]
    fn another_folder_of_a_volume_is_another_place() {
        let with = |options: &str| {
            let mount = format!("{{type: volume, source: data, target: /d, volume: {{{options}}}}}");
            Compose::parse(&format!("services: {{app: {{volumes: [{mount}]}}}}\n")).unwrap().rendering("s").volumes
        };
        assert_eq!(with("subpath: a")["data"], set(&["app:/d from `a`"]));
        assert_eq!(with("nocopy: true"), with("subpath: ''"));
        for other in ["subpath: b", "nocopy: true"] {
            assert_ne!(with("subpath: a"), with(other), "{other}");
        }
    }

    #[test]
    fn less_that_a_service_may_do_is_no_privilege() {
        let with = |option: &str| {
            let yaml = format!("services: {{app: {{security_opt: ['{option}']}}}}\n");
            Compose::parse(&yaml).unwrap().rendering("s").privileges
        };
        for option in ["no-new-privileges:true", "no-new-privileges=true", "no-new-privileges"] {
            assert_eq!(with(option), BTreeSet::new(), "{option}");
        }
        for option in ["no-new-privileges:false", "apparmor:unconfined", "seccomp=unconfined"] {
            assert_eq!(with(option).len(), 1, "{option}");
        }
    }

    #[test]
    fn an_empty_or_odd_rendering_is_no_panic() {
        for yaml in ["services: {}\n", "services:\n  app: null\n", "services: []\nvolumes: 3\n"] {
            let compose = Compose::parse(yaml).unwrap();
            assert_eq!(compose.rendering("s"), Rendering::default(), "{yaml}");
        }
        Compose::parse("a: [").unwrap_err();
    }

    #[test]
    fn exported_versions_are_read_and_commands_are_not() {
        let script = "export A_VERSION=v3\nexport B=\"v1\"\nexport C=$(id)\nD=1\n  export E=1\nrun() { x; }\n";
        let expected = [("A_VERSION", "v3"), ("B", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(exports(script), BTreeMap::from(expected));
    }
}
