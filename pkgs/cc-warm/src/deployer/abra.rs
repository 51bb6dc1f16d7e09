//! Co-op Cloud apps: abra deploys them on Docker Swarm, and docker says what came of it.
//!
//! # How a version is deployed
//!
//! The commit of its tag is checked out in a work tree of our own, from our own mirror, and deployed from there in chaos
//! mode: exactly that code, with nothing fetched, and with no say for a tag that is not annotated or a file that lies in
//! the way. The version label and the commit that abra puts beside it tell afterwards what runs.
//!
//! abra's exit code decides nothing. What docker says does: a deployment is there when every service of the rendered
//! recipe is, with its image, under the version's label.
//!
//! # Environment
//!
//! The `.env` belongs to the operator. What is configured in Nix is laid over it in place, key by key, when a release is
//! deployed; its text is kept by digest, so that the way back has it. The version in it is abra's to write, and after
//! each deployment names the tag that runs.

mod act;
mod ask;
mod environment_files;
mod folder;
mod forgotten;
mod observe;
mod prepare;
mod release;
mod stop;
mod volumes;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::folder::Folder;
pub use self::forgotten::{keeps_any_of, let_go};
use super::abra_cli::Abra;
use super::docker_api::Api;
use super::docker_cli::Docker;
use super::{DeployError, Deployer, Moved, Observed, Release, Rendering, Stopped, dotenv};
use crate::config::App;
use crate::config::secret::SecretFile;
use crate::host::Host;
use crate::identity::{Env, Identity};
use crate::lock::AppLock;
use crate::recipe::Mirror;
use crate::snapshot::Volume;
use crate::sys::clock::{Clock, Deadline};
use crate::sys::dirs::{AppDirs, Dirs};
use crate::sys::durable;
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;

/// The longest stack name that abra does not cut.
const LONGEST_STACK: usize = 45;

/// Where abra knows the app.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The server's name.
    pub server: &'a str,
    /// The stack's name, if it is configured.
    pub stack: Option<&'a str>,
    /// The folder of servers.
    pub servers_dir: &'a Path,
    /// Logins for registries.
    pub registry_auth: Option<&'a SecretFile>,
}

/// Runs one app.
pub struct AbraDeployer<'a> {
    app: &'a App,
    place: Place<'a>,
    clock: Clock,
    app_dirs: AppDirs,
    folder: Folder,
    mirror: Mirror,
    api: Api,
    docker: Docker,
    abra: Abra,
    /// What the names that keep images begin with.
    pins: String,
    interrupt: Interrupt,
}

/// What the names begin with that keep images for the apps of one state folder. They say, too, that there were any.
#[must_use]
pub fn pins(dirs: &Dirs) -> String {
    let digest = blake3::hash(dirs.root().as_os_str().as_encoded_bytes()).to_hex();
    format!("cc-warm.invalid/{}/", &digest[..12])
}

/// The apps that were deployed from the state folder of `dirs`, as far as docker knows; an error where it does not answer.
pub fn running_from(dirs: &Dirs) -> Result<Vec<String>> {
    let prefix = pins(dirs);
    let output = Docker::default().tags(&format!("{prefix}*")).deadline(Duration::from_secs(10)).run_ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(':').next().map(str::to_owned));
    Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
}

impl<'a> AbraDeployer<'a> {
    /// The deployer of `app`, whose recipe's code comes from `mirror`.
    #[must_use]
    pub fn new(host: &Host, app: &'a App, place: Place<'a>, mirror: Mirror) -> Self {
        let folder = Folder::of(&host.dirs, &app.name);
        let config = place.registry_auth.map(|_| folder.docker_config());
        Self {
            app,
            place,
            clock: host.clock,
            app_dirs: host.dirs.app(app.name.as_str()),
            api: Api::default(),
            docker: Docker { config: config.clone() },
            abra: Abra { dir: folder.abra_dir(), docker_config: config },
            pins: pins(&host.dirs),
            interrupt: host.interrupt.clone(),
            folder,
            mirror,
        }
    }

    fn domain(&self) -> &str {
        self.app.domain.as_str()
    }

    /// The app's `.env`.
    fn env_path(&self) -> PathBuf {
        self.place.servers_dir.join(self.place.server).join(format!("{}.env", self.domain()))
    }

    /// Its text; `None` if there is no such file.
    fn env_text(&self) -> Result<Option<String>> {
        let path = self.env_path();
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        // What it says may be secret: it is not quoted.
        String::from_utf8(bytes).ok().with_context(|| format!("`{}` is not UTF-8", path.display())).map(Some)
    }

    /// What Nix sets in it.
    fn own_keys(&self) -> Result<Env> {
        let mut env = Env::of(self.app)?;
        // Which version of which recipe is not a matter of configuration.
        env.0.retain(|key, _| !matches!(key.as_str(), "TYPE" | "RECIPE"));
        if let Some(stack) = self.place.stack {
            env.0.insert("STACK_NAME".to_owned(), stack.to_owned());
        }
        Ok(env)
    }

    /// The `.env` as it would be deployed now; `None` if there is none yet.
    fn laid(&self) -> Result<Option<String>> {
        let own = self.own_keys()?;
        self.env_text()?.map(|text| dotenv::lay(&text, &own.0)).transpose()
    }

    /// The stack's name: as configured, as the `.env` says, or as abra derives it where that is certain.
    fn stack_name(&self) -> Result<String, DeployError> {
        let find = || -> Result<String> {
            if let Some(stack) = self.place.stack {
                return Ok(stack.to_owned());
            }
            let said = self.env_text()?.and_then(|text| dotenv::values(&text).remove("STACK_NAME"));
            let stack = said.filter(|name| !name.is_empty()).unwrap_or_else(|| self.app.domain.stack_name());
            ensure!(
                stack.len() <= LONGEST_STACK && !stack.is_empty(),
                "the domain `{}` is too long for the name of a stack: set `deployer.abra.stack` to a name of at most \
                 {LONGEST_STACK} characters (`docker stack ls` shows that of one that runs)",
                self.domain()
            );
            Ok(stack)
        };
        find().map_err(DeployError::Failed)
    }

    /// Replaces the text of the `.env`; owner and mode stay. After a crash it is the old text or the new.
    fn write_env(&self, text: &str) -> Result<()> {
        self.write_env_as(text, None)
    }

    fn write_env_as(&self, text: &str, mode: Option<u32>) -> Result<()> {
        let path = self.env_path();
        // A link would be replaced by a file: what it names is meant.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let folder = path.parent().context("an `.env` has a folder")?;
        let before = fs::metadata(&path).ok();
        if mode.is_none() && fs::read(&path).is_ok_and(|now| now == text.as_bytes()) {
            return Ok(());
        }
        let mode = mode.or_else(|| before.as_ref().map(|before| before.mode() & 0o7777)).unwrap_or(0o600);
        let write = || -> Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".cc-warm-")
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            if let Some(before) = &before {
                std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
            }
            file.as_file().set_permissions(Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            durable::sync_dir(folder)
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Makes `$ABRA_DIR`, with the recipe at the commit of `release` in it.
    fn set_up(&self, release: &Release) -> Result<()> {
        let dir = self.folder.abra_dir();
        durable::make_dir(&dir.join("recipes"))?;
        link(self.place.servers_dir, &dir.join("servers"))?;
        let catalogue = self.place.servers_dir.with_file_name("catalogue");
        if catalogue.is_dir() {
            link(&catalogue, &dir.join("catalogue"))?;
        }
        if let Some(logins) = self.place.registry_auth {
            durable::make_dir(&self.folder.docker_config())?;
            link(&logins.locate(), &self.folder.docker_config().join("config.json"))?;
        }
        self.mirror.check_out(&release.commit, &self.folder.recipe(&self.app.recipe))
    }
}

/// Makes `name` a symbolic link to `target`, whatever it was.
fn link(target: &Path, name: &Path) -> Result<()> {
    if fs::read_link(name).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let make = || -> Result<()> {
        match fs::symlink_metadata(name) {
            Ok(found) if found.is_dir() => fs::remove_dir(name)?,
            Ok(_) => fs::remove_file(name)?,
            Err(_) => {}
        }
        Ok(symlink(target, name)?)
    };
    make().with_context(|| format!("cannot link `{}` to `{}`", name.display(), target.display()))
}

impl Deployer for AbraDeployer<'_> {
    fn observe(&self) -> Result<Observed, DeployError> {
        self.look()
    }

    fn place(&self) -> Result<Option<super::Place>, DeployError> {
        Ok(Some(super::Place { stack: self.stack_name()?, server: self.place.server.to_owned() }))
    }

    fn moved(&self, known: Option<&super::Place>) -> Result<Option<Moved>, DeployError> {
        let (Some(known), Some(configured)) = (known, self.place()?) else { return Ok(None) };
        // One docker has one stack of a name, whatever abra calls the server.
        let work = if known.stack == configured.stack {
            "bring its `.env` to the folder of that server"
        } else {
            "undeploy it there, bring its data, deploy it here by hand"
        };
        Ok((*known != configured).then(|| Moved {
            is: format!("deployed as {known}"),
            configured: configured.to_string(),
            by_hand: format!("{work}, then `cc-warm adopt {}`", self.app.name),
        }))
    }

    fn named(&self) -> Result<Option<String>, DeployError> {
        let text = self.env_text().map_err(DeployError::Failed)?;
        Ok(Some(text.and_then(|text| dotenv::version(&text)).unwrap_or_default()))
    }

    fn env(&self) -> Result<Env, DeployError> {
        let env = || -> Result<Env> {
            match self.laid()? {
                Some(text) => Ok(dotenv::effective(&text)),
                None => self.own_keys(),
            }
        };
        env().map_err(DeployError::Failed)
    }

    fn render(&self, release: &Release) -> Result<Rendering, DeployError> {
        self.rendering(release)
    }

    fn prepare(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        self.make_ready(release, lock).map_err(|error| match error {
            DeployError::Failed(error) => {
                DeployError::Failed(error.context(format!("{} cannot be prepared", release.version)))
            }
            other => other,
        })
    }

    fn prepared(&self, identity: &Identity) -> Result<Release, DeployError> {
        self.find(identity)
    }

    fn env_of(&self, identity: &Identity) -> Result<Env, DeployError> {
        self.env_it_has(&identity.env).map_err(DeployError::Failed)
    }

    fn stop(&self, lock: &AppLock, deadline: Deadline) -> Result<Stopped, DeployError> {
        self.take_down(lock, deadline)
    }

    fn remains(&self) -> Result<Vec<String>, DeployError> {
        self.ready()?;
        self.left()
    }

    fn outsiders(&self) -> Result<Vec<String>, DeployError> {
        self.ready()?;
        self.strangers()
    }

    fn deploy(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        self.bring_up(release, lock)
    }

    fn volumes(&self) -> Result<Vec<Volume>, DeployError> {
        self.ready()?;
        self.own_volumes()
    }

    fn unmanaged_volumes(&self) -> Result<Vec<String>, DeployError> {
        self.ready()?;
        self.volumes_left_out()
    }

    fn unsuitable_volumes(&self, release: &Release) -> Result<Vec<String>, DeployError> {
        self.unsuitable(release)
    }

    fn create_volume(&self, name: &str, lock: &AppLock) -> Result<Volume, DeployError> {
        self.make_volume(name, lock)
    }

    fn remove_volume(&self, name: &str, lock: &AppLock) -> Result<(), DeployError> {
        self.drop_volume(name, lock)
    }

    fn keep_only(&self, releases: &[Identity], _lock: &AppLock) -> Result<(), DeployError> {
        self.forget_all_but(releases)
    }

    fn env_to_keep(&self, identity: &Identity) -> Result<Vec<u8>, DeployError> {
        self.kept_env(&identity.env).map(String::into_bytes).map_err(DeployError::Failed)
    }

    fn take_env_back(&self, identity: &Identity, bytes: &[u8]) -> Result<(), DeployError> {
        let take = || -> Result<()> {
            if self.kept_env(&identity.env).is_ok() {
                return Ok(());
            }
            let text = std::str::from_utf8(bytes).context("an `.env` that is not UTF-8")?;
            ensure!(dotenv::effective(text).digest() == identity.env, "it is not the environment of {identity}");
            self.keep_env(text).map(drop)
        };
        take().map_err(DeployError::Failed)
    }

    fn last_words(&self) -> Untrusted {
        self.said_last()
    }
}
