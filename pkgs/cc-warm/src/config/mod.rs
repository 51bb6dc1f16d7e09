//! The configuration, in two levels: [`raw`] is the JSON as Nix wrote it; everything else sees only the validated types
//! in here, with every default filled in. The journal carries a whole [`App`], so these are read leniently.

mod check;
mod defaults;
pub mod duration;
pub mod names;
pub mod raw;
pub mod secret;
pub mod window;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::duration::Span;
use self::names::{AppName, Domain};
use self::secret::SecretFile;
use self::window::Window;
use crate::error::{Because, Exit, Problem};
use crate::recipe::version::Version;

/// Where the NixOS module puts the configuration.
pub const DEFAULT_PATH: &str = "/etc/cc-warm/config.json";

/// The whole configuration of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The state folder.
    pub state_dir: PathBuf,
    /// abra's folder of servers, in it one folder a server and one `.env` file an app.
    pub servers_dir: PathBuf,
    /// How alerts name this host.
    pub host: String,
    /// Every declared app.
    pub apps: BTreeMap<AppName, App>,
    /// Where alerts go, by name.
    pub alerts: BTreeMap<String, Sink>,
    /// After how long a standing fact is reported again.
    pub reminder: Span,
    /// Space that no snapshot may take, in bytes, on each file system.
    pub reserve: u64,
    /// A file like docker's `config.json` with logins for registries.
    pub registry_auth: Option<SecretFile>,
    /// What test runs are bound to.
    pub tests: Tests,
    /// Consecutive failures to fetch a recipe before the operator is told.
    pub fetch_failures: u32,
}

impl Config {
    /// Reads, parses and validates the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let problem = || {
            Problem::new(format!("the configuration `{}` cannot be used; nothing was done", path.display()))
                .exit(Exit::Usage)
                .hint("`cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another")
        };
        let text = std::fs::read_to_string(path).problem(problem)?;
        raw::parse(&text).and_then(raw::Raw::validate).problem(problem)
    }

    /// Whether an app of it is deployed on docker's swarm.
    #[must_use]
    pub fn is_on_swarm(&self) -> bool {
        self.apps.values().any(|app| matches!(app.deployer, DeployerConfig::Abra { .. }))
    }

    /// Nothing but the state folder that the file at `path` names, and what this host is; it may be of no use otherwise.
    pub fn of_state_dir(path: &Path) -> Result<Self> {
        let Value::Object(mut all) = serde_json::from_slice(&std::fs::read(path)?)? else { bail!("it is no object") };
        let mut bare = Map::new();
        bare.insert("format".to_owned(), raw::FORMAT.into());
        bare.insert("apps".to_owned(), Map::new().into());
        bare.extend(all.remove_entry("stateDir"));
        let parsed = |bare: &Map<String, Value>| raw::parse(&Value::Object(bare.clone()).to_string())?.validate();
        // What alerts are known by, and how much room there has to be: each where it can be used alone.
        for key in ["host", "reminder", "disk"] {
            let mut more = bare.clone();
            more.extend(all.remove_entry(key));
            if parsed(&more).is_ok() {
                bare = more;
            }
        }
        parsed(&bare)
    }

    /// Every app's name, each after those it comes after (`after` has no cycles), else by name.
    #[must_use]
    pub fn in_order(&self) -> Vec<AppName> {
        let mut order: Vec<AppName> = Vec::new();
        let mut rest: Vec<&App> = self.apps.values().collect();
        while !rest.is_empty() {
            let before = rest.len();
            rest.retain(|app| {
                let ready = app.after.iter().all(|name| order.contains(name));
                if ready {
                    order.push(app.name.clone());
                }
                !ready
            });
            if rest.len() == before {
                order.extend(rest.drain(..).map(|app| app.name.clone()));
            }
        }
        order
    }

    /// The same, with every secret of an app read where it comes from: for a unit that was given the credentials of
    /// another configuration, which may be other files under the same names.
    #[must_use]
    pub fn without_credentials(mut self) -> Self {
        for app in self.apps.values_mut() {
            app.environment_files = app.environment_files.iter().map(SecretFile::at_its_source).collect();
            if let DeployerConfig::Abra { registry_auth: Some(logins), .. } = &mut app.deployer {
                *logins = logins.at_its_source();
            }
        }
        self
    }

    /// The app called `name`.
    pub fn app(&self, name: &AppName) -> Result<&App> {
        self.apps.get(name).ok_or_else(|| {
            let declared: Vec<&str> = self.apps.keys().map(AppName::as_str).collect();
            Problem::new(format!("no app `{name}` is declared"))
                .exit(Exit::Usage)
                .hint(format!("declared are: {}", declared.join(", ")))
                .into()
        })
    }
}

/// What all test runs of a host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tests {
    /// The DNS zone of their domains.
    pub zone: Option<Domain>,
    /// Where their certificates come from.
    pub tls: TlsMode,
    /// How many may be under way at once.
    pub at_once: u32,
}

/// Where the domains of test runs get their certificates from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// The proxy has one for the whole zone.
    #[default]
    Wildcard,
    /// The proxy makes one by itself; probes do not verify it.
    Internal,
    /// One for each run, counted against Let's Encrypt's limits.
    Acme,
}

/// One app, resolved: all that an operation on it, or its recovery, needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Its recipe's name (the last part of the remote, without `.git`).
    pub recipe: String,
    /// The git remote, URL or path, that publishes the recipe.
    pub remote: String,
    /// Where it is served.
    pub domain: Domain,
    /// Whether it runs all the time.
    pub warm: Warm,
    /// Whether it has data: then it is stopped and snapshotted around an update.
    pub stateful: bool,
    /// Whether it is deployed if it was never seen on this host; else it is only adopted.
    #[serde(default = "yes")]
    pub ensure: bool,
    /// What runs it.
    pub deployer: DeployerConfig,
    /// Environment of the app.
    pub env: BTreeMap<String, String>,
    /// Files with more of it, `KEY=value` lines, later ones win. Their content never enters the journal.
    pub environment_files: Vec<SecretFile>,
    /// Apps that must be healthy before this one is updated.
    pub after: Vec<AppName>,
    /// Which of the host's alerts are told about it; `None`: all.
    #[serde(default)]
    pub alerts: Option<Vec<String>>,
    /// What healthy means.
    pub health: Health,
    /// How it is updated.
    pub update: Update,
    /// Every so many snapshots, nothing is taken over from the one before.
    #[serde(default = "defaults::full_every")]
    pub full_every: u32,
}

/// How warm an app is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Warm {
    /// Deployed and running.
    Live,
    /// Undeployed, its volumes retained.
    Data,
}

/// What runs an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DeployerConfig {
    /// The embedded deployer: the recipe's `Procfile` as a supervised group.
    Process {
        /// The user that the app runs as when cc-warm is root: a name or a uid; `None`: a uid of its own, derived
        /// from the app's name.
        user: Option<String>,
    },
    /// abra on Docker Swarm.
    Abra {
        /// The server's name in abra.
        server: String,
        /// The stack's name, if it is not what abra derives from the domain.
        stack: Option<String>,
        /// abra's folder of servers: the host's, here so that a recovery needs nothing but the journal.
        #[serde(default = "defaults::servers_dir")]
        servers_dir: PathBuf,
        /// Logins for registries: likewise.
        #[serde(default)]
        registry_auth: Option<SecretFile>,
    },
}

/// What healthy means for an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// All of them must pass.
    pub probes: Vec<Probe>,
    /// So many times in a row.
    pub successes: u32,
    /// With this pause between rounds.
    pub interval: Span,
    /// And then nothing fails for so long.
    pub soak: Span,
    /// All that within this.
    pub deadline: Span,
    /// A command whose output must be the same before the stop and after the update.
    pub continuity: Option<CommandProbe>,
}

/// One question put to an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// A command that must exit with 0.
    Command(CommandProbe),
}

/// An HTTP request and what its answer must look like. At most 64 KiB of the body are read; caches are bypassed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: String,
    /// The status that the answer must have.
    #[serde(default = "default_status")]
    pub status: u16,
    /// A regular expression that the body must match somewhere.
    #[serde(default)]
    pub body: Option<String>,
    /// Header names and regular expressions that their values must match.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether the certificate must be valid.
    #[serde(default = "yes")]
    pub tls_verify: bool,
    /// Connect to this address, whatever the URL's host resolves to.
    #[serde(default)]
    pub resolve: Option<SocketAddr>,
    /// Whether redirects are followed.
    #[serde(default)]
    pub follow_redirects: bool,
    /// How long one request may take in all.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// A command, run without a shell and with an environment built from empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandProbe {
    /// Program and arguments. `CC_WARM_APP`, `CC_WARM_DOMAIN` are in its environment.
    pub argv: Vec<String>,
    /// How long it may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// How an app is updated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Whether updates are applied or only reported.
    pub policy: Policy,
    /// Which version is the target.
    pub to: Target,
    /// Only this version.
    pub pin: Option<Version>,
    /// Never these versions.
    pub ignore: Vec<Version>,
    /// A version must have been seen by this host for so long.
    pub min_age: Span,
    /// Regular expressions, case-insensitive; a release note that matches one holds.
    pub markers: Vec<String>,
    /// When a stateful app may be stopped; empty: always.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Mounts that are not snapshotted and do not go back.
    pub unmanaged: Vec<String>,
    /// For how long the data of a failed update is kept.
    pub keep_failed: Span,
    /// For how long the snapshot before the current one is kept.
    pub keep_previous: Span,
}

/// Whether updates are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Applied when no hold reason stands.
    Auto,
    /// Always held.
    Hold,
}

/// Which version is the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The highest published one.
    Latest,
    /// The highest that no hold reason stands before.
    LatestCompatible,
}

/// Where alerts go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Sink {
    /// POST of the alert as JSON.
    #[serde(rename_all = "camelCase")]
    Webhook {
        /// Where to.
        url: String,
        /// A file with a bearer token.
        #[serde(default)]
        token_file: Option<SecretFile>,
    },
    /// An ntfy topic.
    #[serde(rename_all = "camelCase")]
    Ntfy {
        /// Server and topic, `https://ntfy.example.org/ops`.
        url: String,
        /// A file with an access token.
        #[serde(default)]
        token_file: Option<SecretFile>,
    },
    /// A command that gets the alert as JSON on stdin.
    #[serde(rename_all = "camelCase")]
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// A file whose content is in its environment as `CC_WARM_TOKEN`.
        #[serde(default)]
        token_file: Option<SecretFile>,
    },
}

fn default_status() -> u16 {
    200
}

fn yes() -> bool {
    true
}

fn default_timeout() -> Span {
    Span::seconds(10)
}
