//! The configuration file as the NixOS module writes it (format 1). Unknown keys are refused: a mistyped one would
//! silently mean the default.

mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::duration::Span;
use super::names::{AppName, Domain};
use super::secret::SecretFile;
use super::window::Window;
use super::{CommandProbe, Policy, Probe, Sink, Target, TlsMode, Warm, defaults};
use crate::recipe::version::Version;

/// The newest format of the file that this program reads.
pub const FORMAT: u32 = 1;

/// cc-warm's configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Raw {
    /// Always 1.
    #[expect(dead_code, reason = "parse() has looked at it first; here for the schema")]
    format: u32,
    /// The state folder.
    #[serde(default = "defaults::state_dir")]
    state_dir: PathBuf,
    /// abra's folder of servers, in it one folder a server and one `.env` file an app.
    #[serde(default = "defaults::servers_dir")]
    servers_dir: PathBuf,
    /// The DNS zone under which test runs get their domains.
    #[serde(default)]
    zone: Option<Domain>,
    /// Certificates of test runs.
    #[serde(default)]
    tls: RawTls,
    /// How many test runs may be under way at once.
    #[serde(default = "defaults::max_tests")]
    max_tests: u32,
    /// How alerts name this host; its host name by default.
    #[serde(default)]
    host: Option<String>,
    /// The apps that are kept warm.
    apps: BTreeMap<AppName, RawApp>,
    /// Where alerts go.
    #[serde(default)]
    alerts: BTreeMap<String, Sink>,
    /// After how long a standing fact (a held version, a stuck app) is reported again.
    #[serde(default = "defaults::reminder")]
    reminder: Span,
    /// Disk space.
    #[serde(default)]
    disk: RawDisk,
    /// Private image registries.
    #[serde(default)]
    registry: RawRegistry,
    /// Consecutive failures to fetch a recipe before the operator is told.
    #[serde(default = "defaults::fetch_failures")]
    fetch_failures: u32,
}

/// Disk space.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDisk {
    /// Bytes that no snapshot may take, on each file system.
    #[serde(default = "defaults::reserve")]
    reserve: u64,
}

/// Certificates of test runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTls {
    /// `wildcard`: the proxy has one for the zone. `internal`: it makes one by itself. `acme`: one for each run.
    #[serde(default)]
    mode: TlsMode,
}

/// Private image registries.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRegistry {
    /// A file like docker's `config.json`. By default, what `docker login` left for root.
    #[serde(default)]
    auth_file: Option<SecretFile>,
}

/// One app.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawApp {
    /// The git remote, URL or absolute path, that publishes the recipe.
    recipe: String,
    /// Where the app is served.
    domain: Domain,
    /// `live`: deployed and running. `data`: undeployed, its volumes retained.
    #[serde(default = "defaults::warm")]
    warm: Warm,
    /// Whether the app has data: then it is stopped and snapshotted around an update.
    #[serde(default = "defaults::yes")]
    stateful: bool,
    /// Whether an app that was never seen on this host is deployed. If not, only one that runs already is adopted.
    #[serde(default = "defaults::yes")]
    ensure: bool,
    /// What runs it.
    deployer: RawDeployer,
    /// Environment of the app.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files with `KEY=value` lines; later ones win.
    #[serde(default)]
    environment_files: Vec<SecretFile>,
    /// Apps that must be healthy before this one is updated.
    #[serde(default)]
    after: Vec<AppName>,
    /// Which of `alerts`, by name, are told about this app. By default all.
    #[serde(default)]
    alerts: Option<Vec<String>>,
    /// What healthy means.
    #[serde(default)]
    health: RawHealth,
    /// How it is updated.
    #[serde(default)]
    update: RawUpdate,
    /// How its snapshots are taken.
    #[serde(default)]
    snapshot: RawSnapshot,
}

/// What runs an app.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum RawDeployer {
    /// The recipe's `Procfile`, run as a supervised group.
    #[serde(rename_all = "camelCase")]
    Process {
        /// The user that the app runs as when cc-warm is root: a name or a uid. By default a uid of its own.
        #[serde(default)]
        user: Option<String>,
    },
    /// abra on Docker Swarm.
    #[serde(rename_all = "camelCase")]
    Abra {
        /// The server's name in abra.
        #[serde(default = "defaults::server")]
        server: String,
        /// The stack's name, if it is not what abra derives from the domain.
        #[serde(default)]
        stack: Option<String>,
    },
}

/// What healthy means.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawHealth {
    /// All of them must pass.
    #[serde(default)]
    probes: Vec<Probe>,
    /// So many times in a row.
    #[serde(default = "defaults::successes")]
    successes: u32,
    /// With this pause between rounds.
    #[serde(default = "defaults::interval")]
    interval: Span,
    /// And then nothing fails for so long.
    #[serde(default = "defaults::soak")]
    soak: Span,
    /// All that within this.
    #[serde(default = "defaults::deadline")]
    deadline: Span,
    /// A command whose output must be the same before the stop and after the update.
    #[serde(default)]
    continuity: Option<CommandProbe>,
}

/// How an app is updated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawUpdate {
    /// `auto`: applied when no hold reason stands. `hold`: only reported.
    #[serde(default = "defaults::policy")]
    policy: Policy,
    /// `latest`: the highest published version. `latest-compatible`: the highest before which no hold reason stands.
    #[serde(default = "defaults::target")]
    to: Target,
    /// Only this version.
    #[serde(default)]
    pin: Option<Version>,
    /// Never these versions.
    #[serde(default)]
    ignore: Vec<Version>,
    /// A version must have been seen by this host for so long.
    #[serde(default)]
    min_age: Span,
    /// Regular expressions; a release note that matches one holds. By default a list of usual phrases.
    #[serde(default)]
    markers: Option<Vec<String>>,
    /// When a stateful app may be stopped; outside, its update is only planned. By default always.
    #[serde(default)]
    windows: Vec<Window>,
    /// Mounts that are not snapshotted and do not go back.
    #[serde(default)]
    unmanaged: Vec<String>,
    /// For how long the data of a failed update is kept.
    #[serde(default = "defaults::keep")]
    keep_failed: Span,
    /// For how long the snapshot before the current one is kept.
    #[serde(default = "defaults::keep")]
    keep_previous: Span,
}

/// How an app's snapshots are taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSnapshot {
    /// Every so many snapshots, nothing is taken over from the one before and all is copied. 1: always.
    #[serde(default = "defaults::full_every")]
    #[schemars(range(min = 1))]
    full_every: u32,
}

/// Parses the text of a configuration file.
pub fn parse(text: &str) -> Result<Raw> {
    #[derive(Deserialize)]
    struct Probe {
        format: Option<u32>,
    }
    // The format first: a newer file has keys that would be refused with a misleading message.
    let Probe { format } = serde_json::from_str(text).context("it is not the JSON of a configuration")?;
    match format {
        Some(FORMAT) => {}
        Some(newer) => bail!("it has format {newer}; this cc-warm reads format {FORMAT}"),
        None => bail!("it has no `format`; this cc-warm reads format {FORMAT}"),
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    // Nobody knows the lines of a file that Nix wrote: the key is named.
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = anyhow::Error::from(error.into_inner());
        if path == "." { error } else { error.context(format!("`{path}`")) }
    })
}

/// The JSON schema of the file.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Raw)
}

impl Default for RawHealth {
    fn default() -> Self {
        Self {
            probes: Vec::new(),
            successes: defaults::successes(),
            interval: defaults::interval(),
            soak: defaults::soak(),
            deadline: defaults::deadline(),
            continuity: None,
        }
    }
}

impl Default for RawUpdate {
    fn default() -> Self {
        Self {
            policy: defaults::policy(),
            to: defaults::target(),
            pin: None,
            ignore: Vec::new(),
            min_age: Span::default(),
            markers: None,
            windows: Vec::new(),
            unmanaged: Vec::new(),
            keep_failed: defaults::keep(),
            keep_previous: defaults::keep(),
        }
    }
}

impl Default for RawSnapshot {
    fn default() -> Self {
        Self { full_every: defaults::full_every() }
    }
}

impl Default for RawDisk {
    fn default() -> Self {
        Self { reserve: defaults::reserve() }
    }
}
