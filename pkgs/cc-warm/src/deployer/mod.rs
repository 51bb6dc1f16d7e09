//! What runs apps. A [`Deployer`] speaks of one app; what it says is what the swarm or the kernel says, never what a
//! tool's exit code hopes.

pub mod abra;
pub mod abra_cli;
pub mod compose;
pub mod docker_api;
pub mod docker_cli;
pub mod dotenv;
pub mod outside;
pub mod process;
pub mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::abra::AbraDeployer;
use self::process::ProcessDeployer;
use crate::config::names::AppName;
use crate::config::{App, DeployerConfig};
use crate::error::{Exit, Problem};
use crate::host::Host;
use crate::identity::{CommitId, Env, Identity};
use crate::lock::AppLock;
use crate::recipe::Mirror;
use crate::recipe::version::Version;
use crate::snapshot::{Volume, is_no_space};
use crate::sys::clock::Deadline;
use crate::sys::dirs::Dirs;
use crate::sys::untrusted::Untrusted;

/// Why a deployer could not do or say something. The difference decides whether an app may be called stuck.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The machinery does not answer (docker, the swarm, a timeout): nothing is known of the app. Try again later.
    #[error("the deployer is not ready")]
    NotReady(#[source] anyhow::Error),
    /// A fact about this app or this release.
    #[error("the deployment failed")]
    Failed(#[source] anyhow::Error),
    /// cc-warm's own part of it failed, on its own disk: no fact about the app, and asked again it would fail again.
    #[error("cc-warm could not do its own part")]
    Ours(#[source] anyhow::Error),
}

impl DeployError {
    /// A fact about the app.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    /// A fact about the app, unless it is the disk that says no: what is written here is our own.
    #[must_use]
    pub fn of(error: anyhow::Error) -> Self {
        if Self::is_our_own(&error) { Self::Ours(error) } else { Self::Failed(error) }
    }

    /// Whether it is the disk that says no.
    pub(super) fn is_our_own(error: &anyhow::Error) -> bool {
        is_no_space(error) || error.chain().filter_map(|cause| cause.downcast_ref()).any(is_damaged)
    }

    /// Nothing known.
    pub fn not_ready(error: impl Into<anyhow::Error>) -> Self {
        Self::NotReady(error.into())
    }
}

fn is_damaged(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) || error.kind() == ErrorKind::ReadOnlyFilesystem
}

/// `error`, with the exit code of what is not ready where that is what it says.
#[must_use]
pub fn classified(error: anyhow::Error) -> anyhow::Error {
    let causes = || error.chain().filter_map(|cause| cause.downcast_ref::<DeployError>());
    let mut named = error.chain().filter_map(|cause| cause.downcast_ref::<Problem>());
    if named.next().is_some() || !causes().any(|cause| matches!(cause, DeployError::NotReady(_))) {
        return error;
    }
    Problem::new("nothing can be known of the app now; nothing was touched").exit(Exit::NotReady).because(error).into()
}

/// The deployer of `app`.
pub fn open<'a>(host: &Host, app: &'a App) -> Result<Box<dyn Deployer + 'a>> {
    match &app.deployer {
        DeployerConfig::Process { user } => {
            let source = Mirror::at(&host.dirs.recipes(), &app.remote);
            Ok(Box::new(ProcessDeployer::new(host, app, user.as_deref(), Box::new(source))))
        }
        DeployerConfig::Abra { server, stack, servers_dir, registry_auth } => {
            let mirror = Mirror::at(&host.dirs.recipes(), &app.remote);
            let place =
                abra::Place { server, stack: stack.as_deref(), servers_dir, registry_auth: registry_auth.as_ref() };
            Ok(Box::new(AbraDeployer::new(host, app, place, mirror)))
        }
    }
}

/// What the deployers keep of `app`, which nobody declares any more: folders that may be deleted, and why others may not
/// be yet. The names of images that are kept for it are taken from them.
#[must_use]
pub fn left_of(dirs: &Dirs, app: &AppName) -> (Vec<PathBuf>, Vec<anyhow::Error>) {
    let (mut folders, mut stay) = (Vec::new(), Vec::new());
    for left in [abra::let_go(dirs, app), process::let_go(dirs, app)] {
        match left {
            Ok(folder) => folders.extend(folder),
            Err(why) => stay.push(why),
        }
    }
    (folders, stay)
}

/// Whether any of them keeps something of `app`.
#[must_use]
pub fn keeps_any_of(dirs: &Dirs, app: &AppName) -> bool {
    abra::keeps_any_of(dirs, app) || process::keeps_any_of(dirs, app)
}

impl process::Source for Mirror {
    fn blobs(&self, commit: &CommitId, paths: &[&str], cap: u64) -> Result<Vec<Option<Vec<u8>>>> {
        Mirror::blobs(self, commit, paths, cap)
    }

    fn export(&self, commit: &CommitId, dest: &Path) -> Result<()> {
        Mirror::export(self, commit, dest)
    }
}

/// Something to deploy: the code of a published version, with an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: Version,
    /// Its commit.
    pub commit: CommitId,
    /// The configured environment.
    pub env: Env,
    /// Secret names and versions.
    pub secrets: BTreeMap<String, String>,
}

impl Release {
    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            version: self.version.clone(),
            commit: self.commit.clone(),
            env: self.env.digest(),
            secrets: self.secrets.clone(),
        }
    }
}

/// Where an app is in docker, and in abra.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The stack that all of it is found by.
    pub stack: String,
    /// abra's server, in whose folder its `.env` is.
    pub server: String,
}

/// An app that is elsewhere than the configuration says, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Where it is.
    pub is: String,
    /// Where it would be.
    pub configured: String,
    /// What its operator can do, besides setting the configuration back.
    pub by_hand: String,
}

/// What is deployed under the app's name, asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing. `has_data`: volumes of it exist.
    Absent {
        /// Whether any volume of the app exists.
        has_data: bool,
    },
    /// A deployment, running or meant to run.
    Present(Deployment),
}

impl Observed {
    /// Whether nobody deployed, changed or undeployed anything between two looks, however well it was at each.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent { .. }, Self::Absent { .. }) => true,
            (Self::Present(one), Self::Present(other)) => one.what == other.what && one.generation == other.generation,
            _ => false,
        }
    }
}

/// A deployment of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// What it is, if that can be known.
    pub what: Known,
    /// Changes whenever anyone, cc-warm included, deploys or changes it. Opaque.
    pub generation: String,
    /// How it is.
    pub state: Convergence,
}

/// Whether it is known which version runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// This one.
    Yes(Identity),
    /// Not known: no app of unknown version is moved.
    No {
        /// What is said of it.
        label: Untrusted,
        /// Why that is not enough.
        why: String,
    },
}

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Convergence {
    /// Not all of it runs yet.
    Starting(Untrusted),
    /// All of it runs, at the deployed spec.
    Converged,
    /// Some of it died since it was deployed, or the swarm gave it up. It will not be waited for.
    Died(Untrusted),
    /// Deployed, but nothing of it runs: the machine was booted since.
    Down,
}

/// What a release would be on this host, for comparing two of them. Sets of names as the recipe writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rendering {
    /// Volume → where it is mounted (service and path, or the variable that names it).
    pub volumes: BTreeMap<String, BTreeSet<String>>,
    /// Volumes, networks, secrets, configs that somebody else must have made.
    pub external: BTreeSet<String>,
    /// Keys that `.env.sample` requires (set, without a comment sign, to nothing).
    pub required_env: BTreeSet<String>,
    /// Capabilities, privileged mode, devices, host namespaces, other users.
    pub privileges: BTreeSet<String>,
    /// Bind mounts.
    pub binds: BTreeSet<String>,
    /// Published ports.
    pub ports: BTreeSet<String>,
    /// Secrets that are missing and cannot be generated.
    pub missing_secrets: BTreeSet<String>,
    /// Images, by digest where known.
    pub images: BTreeSet<String>,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    /// Every process ended by itself when asked.
    Clean,
    /// Some had to be killed: the data is as after a power cut.
    Killed,
    /// Nothing ran.
    WasDown,
}

/// Runs one app. Methods that change anything want the app's lock, and let every child that changes the app inherit it.
///
/// Every act is idempotent: recovery repeats it.
pub trait Deployer {
    /// What is deployed.
    fn observe(&self) -> Result<Observed, DeployError>;

    /// Where the configuration says that the app is; `None` where what it left here says that by itself.
    fn place(&self) -> Result<Option<Place>, DeployError> {
        Ok(None)
    }

    /// Whether the app, which was last known to be at `known`, is elsewhere than the configuration says.
    fn moved(&self, known: Option<&Place>) -> Result<Option<Moved>, DeployError>;

    /// The version, or the commit, that is written down where everybody who deploys the app writes it; empty if none is.
    /// `None` where nobody but cc-warm deploys.
    fn named(&self) -> Result<Option<String>, DeployError> {
        Ok(None)
    }

    /// The environment that is configured now.
    fn env(&self) -> Result<Env, DeployError>;

    /// What `release` would be. Touches nothing that runs.
    fn render(&self, release: &Release) -> Result<Rendering, DeployError>;

    /// Does all of `release` that can fail without downtime: code on disk, images present and pinned, environment
    /// kept. For an app that was never here it may make the environment: ask [`Deployer::env`] again afterwards. Afterwards [`Deployer::deploy`] needs no network, not even after a reboot.
    fn prepare(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError>;

    /// The release that was [prepared](Deployer::prepare) as `identity`, environment included, from this disk alone.
    fn prepared(&self, identity: &Identity) -> Result<Release, DeployError>;

    /// Undeploys, keeping the volumes. Returns when nothing of the app is left, or fails at `deadline`.
    fn stop(&self, lock: &AppLock, deadline: Deadline) -> Result<Stopped, DeployError>;

    /// The environment that `identity`, which runs, was deployed with, from this disk alone and with nothing changed on it.
    fn env_of(&self, identity: &Identity) -> Result<Env, DeployError>;

    /// What a snapshot of the data of `identity` keeps beside it: its environment, which holds secrets.
    fn env_to_keep(&self, identity: &Identity) -> Result<Vec<u8>, DeployError> {
        serde_json::to_vec_pretty(&self.prepared(identity)?.env).map_err(DeployError::failed)
    }

    /// Takes back what [`Deployer::env_to_keep`] gave for `identity`, where this host has lost it since.
    fn take_env_back(&self, _identity: &Identity, _bytes: &[u8]) -> Result<(), DeployError> {
        Ok(())
    }

    /// What of the app still exists: services, containers, processes. Empty means that it is down.
    fn remains(&self) -> Result<Vec<String>, DeployError>;

    /// Who uses the app's volumes now and is not of the app, in words: somebody's shell, a backup.
    fn outsiders(&self) -> Result<Vec<String>, DeployError>;

    /// Deploys a prepared release. Returns once it is under way; [`Deployer::observe`] tells how it goes.
    fn deploy(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError>;

    /// Every volume of the app that exists on this host, sorted by name; `unmanaged` ones are left out.
    fn volumes(&self) -> Result<Vec<Volume>, DeployError>;

    /// The names of those that are left out: their data is neither snapshotted nor brought back.
    fn unmanaged_volumes(&self) -> Result<Vec<String>, DeployError>;

    /// Reasons why the volumes of `release` cannot be snapshotted here (bind mounts, other drivers, other nodes), each
    /// naming the mount. `unmanaged` ones are left out.
    fn unsuitable_volumes(&self, release: &Release) -> Result<Vec<String>, DeployError>;

    /// Makes the volume called `name`, empty, if it does not exist.
    fn create_volume(&self, name: &str, lock: &AppLock) -> Result<Volume, DeployError>;

    /// Removes the empty shell of a volume whose data has been moved away.
    fn remove_volume(&self, name: &str, lock: &AppLock) -> Result<(), DeployError>;

    /// Drops what was prepared for any release but these.
    fn keep_only(&self, releases: &[Identity], lock: &AppLock) -> Result<(), DeployError>;

    /// The last output of the app (logs, task errors), for an error message: at most some 50 lines.
    fn last_words(&self) -> Untrusted;
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stack `{}` on server `{}`", self.stack, self.server)
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}, and the configuration says {}", self.is, self.configured)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "stopped cleanly",
            Self::Killed => "had to be killed",
            Self::WasDown => "was not running",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::saga::samples::identity;

    #[test]
    fn how_well_it_is_does_not_make_it_another_deployment() {
        let present = |version: &str, generation: &str, state| {
            let (what, generation) = (Known::Yes(identity(version)), generation.to_owned());
            Observed::Present(Deployment { what, generation, state })
        };
        let starting = || Convergence::Starting(Untrusted::new("1 of 2"));
        let seen = present("1.0.0+1", "g", starting());
        for (other, same) in [
            (present("1.0.0+1", "g", Convergence::Converged), true),
            (present("1.0.0+1", "h", starting()), false),
            (present("1.1.0+1", "g", starting()), false),
            (Observed::Absent { has_data: true }, false),
        ] {
            assert_eq!(seen.is_same(&other), same, "{other:?}");
        }
        assert!(Observed::Absent { has_data: true }.is_same(&Observed::Absent { has_data: false }));
    }
}
