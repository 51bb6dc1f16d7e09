//! The embedded deployer: an app is the `Procfile` of its recipe, run as a supervised group, with folders as volumes. For
//! hosts with no swarm, for the demo and for tests.
//!
//! # A recipe for this deployer
//!
//! A git repository whose tags are versions, with these files at its top:
//!
//! - `Procfile`: one process a line, `name: command`. The command is split into words as a shell does (quotes group),
//!   then `$VAR` and `${VAR}` are replaced from the app's environment (`$$` is a dollar sign). No shell runs it: `;`,
//!   `|`, `*` are letters like any other. A first word with a `/` is relative to the recipe, another is looked for in
//!   `PATH`, which is `/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin` unless `env` says otherwise. Processes run in the foreground, in the recipe's folder, which they cannot write; one that ends, whatever
//!   its exit status, has died: it is started again, with growing pauses, and the deployment has failed.
//! - `Volumes`: one volume a line, `name: VARIABLE`. The variable is the path of the volume's data.
//! - `.env.sample`: `KEY=value` is a default, `KEY=` (with no comment sign before it) must be set in the configuration,
//!   `#KEY=` may be.
//! - `release/<version>` or `releaseNotes/<version>.md`: notes for operators, as in any recipe.
//!
//! The environment is built from empty: `PATH`, `LANG`, `DOMAIN` and the sample's defaults, the configured `env` over
//! them, then the volumes' variables, `HOME` and `TMPDIR` (a scratch folder, emptied by each deploy), `STACK_NAME`,
//! `CC_WARM_APP`, `CC_WARM_VERSION` and `CC_WARM_DEPLOYMENT`. `TIMEOUT` (seconds, 10 by default) is how long the
//! processes have to end when asked by SIGTERM.
//!
//! # How an app is kept together
//!
//! The strongest of these that the machine allows, found by trying, and recorded in the deployment's status:
//!
//! 1. As root: a PID namespace, a mount namespace in which nothing of the state folder but the app's own parts is there,
//!    and another user (a number of its own, if none is configured), without new privileges. Under systemd, in a unit
//!    of its own as well.
//! 2. Not root: the same inside a user namespace, as the same user.
//! 3. Else a session, a child subreaper and a mark in the environment; as root still as another user, or not at all.
//!
//! In the first two, the end of the supervisor is the end of every process, however often it forked. In the third, a
//! process that leaves its session, outlives the supervisor and takes the mark out of its environment is found only by
//! its user, and by the volumes that it has open.

mod account;
mod cell;
mod folder;
mod forgotten;
mod keeper;
mod launch;
mod log;
mod prepared;
mod recipe;
mod record;
mod stop;
pub mod supervisor;
mod volume;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::SignedDuration;
use serde_json::Map;

pub use self::prepared::Source;

use self::folder::Folder;
pub use self::forgotten::{keeps_any_of, let_go};
use self::recipe::{FILE_CAP, FILES, Plan, Recipe, Surroundings};
use self::record::{Account, Death, Deployed, RanAs, Status};
use self::volume::Volumes;
use super::{
    Convergence, DeployError, Deployer, Deployment, Known, Moved, Observed, Place, Release, Rendering, Stopped,
};
use crate::config::App;
use crate::host::Host;
use crate::identity::{Env, Identity};
use crate::lock::AppLock;
use crate::snapshot::Volume;
use crate::sys::clock::{Clock, Deadline};
use crate::sys::dirs::{AppDirs, Dirs};
use crate::sys::untrusted::Untrusted;
use crate::sys::{fault, flock, procfs, random};

/// How long processes have to end when asked, unless the environment says `TIMEOUT`, in seconds.
const GRACE: u64 = 10;
/// The longest that it may say.
const LONGEST_GRACE: u64 = 180;

/// The apps that run from the state folder `dirs`, as their processes say it, whatever the folder says.
#[must_use]
pub fn running_from(dirs: &Dirs) -> Vec<String> {
    supervisor::running_from(&dirs.process().join("apps")).into_iter().collect()
}

/// Runs one app.
pub struct ProcessDeployer<'a> {
    app: &'a App,
    user: Option<&'a str>,
    exe: PathBuf,
    clock: Clock,
    dirs: Dirs,
    app_dirs: AppDirs,
    folder: Folder,
    source: Box<dyn Source>,
}

/// Where an app's programs are looked for: the same whoever runs cc-warm, and for as long as the app runs. What a unit or
/// a shell has is neither.
const PATH: &str = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin";
/// A process that was started again and runs has got over its death after so long; who judges a new deployment looks every
/// few seconds.
const SETTLED: SignedDuration = SignedDuration::from_mins(1);

impl<'a> ProcessDeployer<'a> {
    /// The deployer of `app`, whose recipe's code comes from `source`.
    #[must_use]
    pub fn new(host: &Host, app: &'a App, user: Option<&'a str>, source: Box<dyn Source>) -> Self {
        Self {
            app,
            user,
            exe: host.exe.clone(),
            clock: host.clock,
            dirs: host.dirs.clone(),
            app_dirs: host.dirs.app(app.name.as_str()),
            folder: Folder::of(&host.dirs, &app.name),
            source,
        }
    }

    fn volumes_of_app(&self) -> Volumes<'_> {
        Volumes::of(folder::volumes(&self.dirs), self.app)
    }

    /// Those that are in their operator's hands, and those that are in ours.
    fn volumes_by_hand(&self) -> Result<(Vec<Volume>, Vec<Volume>)> {
        let volumes = self.volumes_of_app();
        Ok(volumes.list()?.into_iter().partition(|volume| volumes.is_unmanaged(&volume.name)))
    }

    fn volume_data(&self) -> Result<Vec<PathBuf>> {
        Ok(self.volumes_of_app().list()?.into_iter().map(|volume| volume.dir).collect())
    }

    fn recipe_at(&self, release: &Release) -> Result<Recipe> {
        let kept = self.folder.release(&release.commit);
        if kept.is_dir() {
            return recipe::read(&kept);
        }
        let files = self.source.blobs(&release.commit, &FILES, FILE_CAP)?;
        let [procfile, volumes, sample] = [0, 1, 2].map(|at| files.get(at).and_then(Option::as_deref));
        Recipe::parse(procfile, volumes, sample)
    }

    fn plan(&self, recipe: &Recipe, release: &Release, generation: &str) -> Result<Plan> {
        let scratch = self.folder.scratch().to_str().context("a path that is not UTF-8")?.to_owned();
        let reserved = [
            (keeper::MARK, generation),
            ("HOME", &scratch),
            ("TMPDIR", &scratch),
            ("STACK_NAME", &self.app.domain.stack_name()),
            ("CC_WARM_APP", self.app.name.as_str()),
            ("CC_WARM_VERSION", &release.version.to_string()),
        ];
        let base = [("PATH", PATH.to_owned()), ("LANG", "C.UTF-8".to_owned()), ("DOMAIN", self.app.domain.to_string())];
        let volumes = self.volumes_of_app();
        recipe.plan(&Surroundings {
            env: &release.env,
            reserved: reserved.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            base: base.map(|(key, value)| (key.to_owned(), value)).into(),
            volume: &|name| volumes.data(&volumes.full_name(name)),
        })
    }

    /// As whom the app runs: as configured, unless its data belongs to whom it ran as until now. An app that cannot run
    /// on its own data could neither be updated nor come back.
    fn account(&self, recipe: &Recipe) -> Result<Option<Account>> {
        let configured = account::of(self.dirs.root(), &self.app.name, self.user)?;
        let Some(old) = RanAs::read(&self.folder)? else { return Ok(configured) };
        let volumes = self.volumes_of_app();
        let is_old = |name: &String| volumes.owner(&volumes.full_name(name)) == Some(old.uid);
        if configured.is_none_or(|new| new.uid == old.uid) || !recipe.volumes.keys().any(is_old) {
            return Ok(configured);
        }
        tracing::warn!(
            app = %self.app.name,
            "it still runs as user {}, to whom its data belongs, and not as `deployer.process.user` says: undeploy it, hand its data over with `chown -R`, then resume it",
            old.uid
        );
        Ok(Some(old))
    }

    /// Fails if the app could not be started for a reason that has nothing to do with the release.
    fn must_be_startable(&self, recipe: &Recipe) -> Result<()> {
        let account = self.account(recipe)?;
        launch::must_be_reachable(self.dirs.root(), account)?;
        let volumes = self.volumes_of_app();
        recipe.volumes.keys().try_for_each(|name| volumes.must_belong(&volumes.full_name(name), account))
    }

    fn deploy_prepared(&self, release: &Release, lock: &AppLock) -> Result<()> {
        let identity = release.identity();
        if self.runs_well(&identity)? {
            return Ok(());
        }
        let release = prepared::find(&self.folder, &self.app_dirs, &identity)?;
        let recipe = recipe::read(&self.folder.release(&release.commit))?;
        let generation = random::id()?;
        let plan = self.plan(&recipe, &release, &generation)?;
        stop::stop(&self.folder, Deadline::after(std::time::Duration::from_mins(5)))?;
        let account = self.account(&recipe)?;
        let volumes = self.volumes_of_app();
        let mut writable = vec![self.folder.scratch()];
        for name in recipe.volumes.keys() {
            let full_name = volumes.full_name(name);
            volumes.create(&full_name, account)?;
            writable.push(volumes.data(&full_name));
        }
        launch::fresh_scratch(&self.folder, account)?;
        if let Some(account) = account {
            RanAs::note(&self.folder, account);
        }
        log::begin(&self.folder)?;
        let deployed = Deployed {
            format: Deployed::format(),
            app: self.app.name.clone(),
            identity,
            generation,
            boot: procfs::boot_id()?,
            at: self.clock.now(),
            account,
            outside: supervisor::ourselves(),
            grace: grace(&release.env),
            plan,
            state: self.dirs.root().to_owned(),
            writable,
            rest: Map::new(),
        };
        deployed.write(&self.folder)?;
        fault::point("process.deploy.recorded")?;
        launch::launch(&self.exe, &self.folder, &deployed, lock)
    }

    /// Whether `identity` is deployed and nothing of it has died: then there is nothing to do.
    fn runs_well(&self, identity: &Identity) -> Result<bool> {
        let Some(deployed) = Deployed::read(&self.folder)? else { return Ok(false) };
        Ok(deployed.identity == *identity && self.state_of(&deployed)? == Convergence::Converged)
    }

    fn state_of(&self, deployed: &Deployed) -> Result<Convergence> {
        if deployed.boot != procfs::boot_id()? {
            return Ok(Convergence::Down);
        }
        let Some(status) = Status::read(&self.folder, &deployed.generation)? else {
            // Whoever launched it may have been killed before its supervisor took the lock, and nothing was started.
            let launching = flock::is_locked(&self.folder.launch_lock())?;
            return Ok(if launching {
                Convergence::Starting(Untrusted::new("it is being started"))
            } else {
                Convergence::Down
            });
        };
        if !status.supervisor.runs() {
            return Ok(Convergence::Down);
        }
        let all_run = !status.processes.is_empty() && status.processes.iter().all(|process| process.running);
        let settled = |death: &Death| self.clock.now().duration_since(death.at) > SETTLED;
        if let Some(death) = status.last_death
            && !(all_run && settled(&death))
        {
            let times = if status.deaths > 1 { format!(", {} deaths in all", status.deaths) } else { String::new() };
            let last = death.last_words.raw().trim().lines().last().unwrap_or_default().to_owned();
            let said = if last.is_empty() { last } else { format!(": {last}") };
            let text = format!("{} {}{times}{said}", death.process, death.how);
            return Ok(Convergence::Died(Untrusted::new(text)));
        }
        let missing: Vec<&str> =
            status.processes.iter().filter(|process| !process.running).map(|process| process.name.as_str()).collect();
        if missing.is_empty() && !status.processes.is_empty() {
            return Ok(Convergence::Converged);
        }
        Ok(Convergence::Starting(Untrusted::new(format!("not running yet: {}", missing.join(", ")))))
    }
}

fn grace(env: &Env) -> u64 {
    env.0.get("TIMEOUT").and_then(|text| text.trim().parse().ok()).unwrap_or(GRACE).min(LONGEST_GRACE)
}

impl Deployer for ProcessDeployer<'_> {
    fn observe(&self) -> Result<Observed, DeployError> {
        fault::point("process.observe").map_err(DeployError::not_ready)?;
        let look = || -> Result<Observed> {
            let Some(deployed) = Deployed::read(&self.folder)? else {
                return Ok(Observed::Absent { has_data: self.volumes_of_app().exist()? });
            };
            let state = self.state_of(&deployed)?;
            Ok(Observed::Present(Deployment {
                what: Known::Yes(deployed.identity),
                generation: deployed.generation,
                state,
            }))
        };
        look().map_err(DeployError::failed)
    }

    fn moved(&self, _known: Option<&Place>) -> Result<Option<Moved>, DeployError> {
        let look = || -> Result<Option<Moved>> {
            let stack = self.app.domain.stack_name();
            let deployed =
                Deployed::read(&self.folder)?.and_then(|deployed| deployed.plan.env.get("STACK_NAME").cloned());
            let is = match deployed {
                Some(deployed) => (deployed != stack).then(|| format!("deployed on volumes called `{deployed}_…`")),
                None => self.volumes_of_app().elsewhere()?.map(|name| format!("on the volume `{name}`")),
            };
            Ok(is.map(|is| Moved {
                is,
                configured: format!("volumes called `{stack}_…`, after its domain"),
                by_hand: format!(
                    "undeploy it, rename its folders in `{}`, then `cc-warm resume {}`",
                    folder::volumes(&self.dirs).display(),
                    self.app.name
                ),
            }))
        };
        look().map_err(DeployError::failed)
    }

    fn env(&self) -> Result<Env, DeployError> {
        Env::of(self.app).map_err(DeployError::failed)
    }

    fn render(&self, release: &Release) -> Result<Rendering, DeployError> {
        let recipe = self.recipe_at(release).map_err(DeployError::failed)?;
        let volumes = recipe.volumes.into_iter().map(|(name, variable)| (name, BTreeSet::from([variable])));
        Ok(Rendering { volumes: volumes.collect(), required_env: recipe.required, ..Rendering::default() })
    }

    fn prepare(&self, release: &Release, _lock: &AppLock) -> Result<(), DeployError> {
        let prepare = || -> Result<()> {
            fault::point("process.prepare")?;
            // What cannot be started is found out now, and not when the app is down.
            let recipe = self.recipe_at(release)?;
            self.must_be_startable(&recipe)?;
            self.plan(&recipe, release, "none")?;
            prepared::keep(&self.folder, &self.app_dirs, self.source.as_ref(), release)
        };
        let version = &release.version;
        prepare().map_err(|error| DeployError::Failed(error.context(format!("{version} cannot be prepared"))))
    }

    fn prepared(&self, identity: &Identity) -> Result<Release, DeployError> {
        prepared::find(&self.folder, &self.app_dirs, identity).map_err(DeployError::failed)
    }

    fn env_of(&self, identity: &Identity) -> Result<Env, DeployError> {
        prepared::env(&self.app_dirs, identity).map_err(DeployError::failed)
    }

    fn stop(&self, _lock: &AppLock, deadline: Deadline) -> Result<Stopped, DeployError> {
        stop::stop(&self.folder, deadline).map_err(DeployError::failed)
    }

    fn remains(&self) -> Result<Vec<String>, DeployError> {
        stop::remains(&self.folder).map_err(DeployError::failed)
    }

    fn outsiders(&self) -> Result<Vec<String>, DeployError> {
        let look = || stop::outsiders(&self.folder, &self.volume_data()?);
        look().map_err(DeployError::failed)
    }

    fn deploy(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        self.deploy_prepared(release, lock).map_err(DeployError::of)
    }

    fn volumes(&self) -> Result<Vec<Volume>, DeployError> {
        Ok(self.volumes_by_hand().map_err(DeployError::failed)?.1)
    }

    fn unmanaged_volumes(&self) -> Result<Vec<String>, DeployError> {
        let (left_out, _) = self.volumes_by_hand().map_err(DeployError::failed)?;
        Ok(left_out.into_iter().map(|volume| volume.name).collect())
    }

    fn unsuitable_volumes(&self, release: &Release) -> Result<Vec<String>, DeployError> {
        let look = || -> Result<Vec<String>> {
            let volumes = self.volumes_of_app();
            let mut names: BTreeSet<String> =
                self.recipe_at(release)?.volumes.keys().map(|name| volumes.full_name(name)).collect();
            names.extend(volumes.list()?.into_iter().map(|volume| volume.name));
            let mut all = Vec::new();
            for name in names.iter().filter(|name| !volumes.is_unmanaged(name)) {
                all.extend(volumes.unsuitable(name)?);
            }
            Ok(all)
        };
        look().map_err(DeployError::failed)
    }

    fn create_volume(&self, name: &str, _lock: &AppLock) -> Result<Volume, DeployError> {
        // Whose its data is is what the data says that is about to be put in its place.
        let create = || self.volumes_of_app().make(name, account::of(self.dirs.root(), &self.app.name, self.user)?);
        create().map_err(DeployError::failed)
    }

    fn remove_volume(&self, name: &str, _lock: &AppLock) -> Result<(), DeployError> {
        self.volumes_of_app().remove(name).map_err(DeployError::failed)
    }

    fn keep_only(&self, releases: &[Identity], _lock: &AppLock) -> Result<(), DeployError> {
        let keep = || -> Result<()> {
            let mut wanted = releases.to_vec();
            // What runs is never dropped, whoever deployed it.
            wanted.extend(Deployed::read(&self.folder)?.map(|deployed| deployed.identity));
            prepared::keep_only(&self.folder, &self.app_dirs, &wanted)
        };
        keep().map_err(DeployError::failed)
    }

    fn last_words(&self) -> Untrusted {
        log::tail(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{App, raw};

    /// An app as a configuration declares it.
    pub(super) fn app(name: &str, domain: &str) -> App {
        let config = serde_json::json!({ "format": 1, "apps": { name: {
            "recipe": "/recipes/notes", "domain": domain, "stateful": false, "deployer": { "process": {} },
        }}});
        let config = raw::parse(&config.to_string()).unwrap().validate().unwrap();
        config.apps.into_values().next().unwrap()
    }
}
