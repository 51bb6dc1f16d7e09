//! The embedded deployer: the recipe's `Procfile` as a supervised group, its volumes as folders.
//!
//! A recipe for it has, at the commit of a version's tag:
//!
//! - `Procfile`: a line a process, `name: program word …`. Words are split as a shell splits them; `$VARIABLE` and
//!   `${VARIABLE}` are filled in from the app's environment. No shell runs them.
//! - `Volumes`: a line a volume, `name: VARIABLE`. The app finds its data in the folder that the variable names.
//! - `.env.sample`: `KEY=value` defaults; a key set to nothing is required.

mod account;
mod cell;
mod folder;
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
use serde_json::Map;

pub use self::prepared::Source;

use self::folder::Folder;
use self::recipe::{FILE_CAP, Plan, Recipe, Surroundings};
use self::record::{Deployed, Status};
use self::volume::Volumes;
use super::{Convergence, DeployError, Deployer, Deployment, Known, Observed, Release, Rendering, Stopped};
use crate::config::App;
use crate::host::Host;
use crate::identity::{Env, Identity};
use crate::lock::AppLock;
use crate::snapshot::Volume;
use crate::sys::clock::{Clock, Deadline};
use crate::sys::dirs::{AppDirs, Dirs};
use crate::sys::untrusted::Untrusted;
use crate::sys::{fault, procfs, random};

/// How long processes have to end when asked, unless the environment says `TIMEOUT`, in seconds.
const GRACE: u64 = 10;

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

    fn volume_data(&self) -> Result<Vec<PathBuf>> {
        Ok(self.volumes_of_app().list()?.into_iter().map(|volume| volume.dir).collect())
    }

    fn recipe_at(&self, release: &Release) -> Result<Recipe> {
        let file = |name: &str| self.source.blob(&release.commit, name, FILE_CAP);
        let (procfile, volumes, sample) = (file("Procfile")?, file("Volumes")?, file(".env.sample")?);
        Recipe::parse(procfile.as_deref(), volumes.as_deref(), sample.as_deref())
    }

    fn plan(&self, recipe: &Recipe, env: &Env, generation: &str) -> Result<Plan> {
        let scratch = self.folder.scratch().to_str().context("a path that is not UTF-8")?.to_owned();
        let reserved = [(keeper::MARK, generation), ("HOME", &scratch), ("TMPDIR", &scratch)];
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        let base = [("PATH", path), ("LANG", "C.UTF-8".to_owned()), ("DOMAIN", self.app.domain.to_string())];
        let volumes = self.volumes_of_app();
        recipe.plan(&Surroundings {
            env,
            reserved: reserved.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            base: base.map(|(key, value)| (key.to_owned(), value)).into(),
            volume: &|name| volumes.data(&volumes.full_name(name)),
        })
    }

    fn deploy_prepared(&self, release: &Release, lock: &AppLock) -> Result<()> {
        let identity = release.identity();
        let release = prepared::find(&self.folder, &self.app_dirs, &identity)?;
        let recipe = recipe::read(&self.folder.release(&release.commit))?;
        let generation = random::id()?;
        let plan = self.plan(&recipe, &release.env, &generation)?;
        stop::stop(&self.folder, &self.volume_data()?, Deadline::after(std::time::Duration::from_mins(5)))?;
        let account = account::of(self.dirs.root(), &self.app.name, self.user)?;
        let volumes = self.volumes_of_app();
        let mut writable = vec![self.folder.scratch()];
        for name in recipe.volumes.keys() {
            let full_name = volumes.full_name(name);
            volumes.create(&full_name, account)?;
            writable.push(volumes.data(&full_name));
        }
        launch::fresh_scratch(&self.folder, account)?;
        let deployed = Deployed {
            format: Deployed::format(),
            app: self.app.name.clone(),
            identity,
            generation,
            boot: procfs::boot_id()?,
            at: self.clock.now(),
            account,
            outside: supervisor::ourselves(),
            grace: release.env.0.get("TIMEOUT").and_then(|text| text.parse().ok()).unwrap_or(GRACE),
            plan,
            state: self.dirs.root().to_owned(),
            writable,
            rest: Map::new(),
        };
        deployed.write(&self.folder)?;
        fault::point("process.deploy.recorded")?;
        launch::launch(&self.exe, &self.folder, &deployed, lock)
    }

    fn state_of(&self, deployed: &Deployed) -> Result<Convergence> {
        if deployed.boot != procfs::boot_id()? {
            return Ok(Convergence::Down);
        }
        let Some(status) = Status::read(&self.folder, &deployed.generation)? else {
            return Ok(Convergence::Starting(Untrusted::new("it is being started")));
        };
        if !status.supervisor.runs() {
            return Ok(Convergence::Down);
        }
        if let Some(death) = status.last_death {
            let times = if status.deaths > 1 { format!(", {} deaths in all", status.deaths) } else { String::new() };
            let text = format!("{} {}{times}: {}", death.process, death.how, death.last_words.raw().trim());
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

impl Deployer for ProcessDeployer<'_> {
    fn observe(&self) -> Result<Observed, DeployError> {
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
            account::of(self.dirs.root(), &self.app.name, self.user)?;
            let recipe = self.recipe_at(release)?;
            self.plan(&recipe, &release.env, "none")?;
            prepared::keep(&self.folder, &self.app_dirs, self.source.as_ref(), release)
        };
        let version = &release.version;
        prepare().map_err(|error| DeployError::Failed(error.context(format!("{version} cannot be prepared"))))
    }

    fn prepared(&self, identity: &Identity) -> Result<Release, DeployError> {
        prepared::find(&self.folder, &self.app_dirs, identity).map_err(DeployError::failed)
    }

    fn stop(&self, _lock: &AppLock, deadline: Deadline) -> Result<Stopped, DeployError> {
        let stop = || stop::stop(&self.folder, &self.volume_data()?, deadline);
        stop().map_err(DeployError::failed)
    }

    fn remains(&self) -> Result<Vec<String>, DeployError> {
        let remains = || stop::remains(&self.folder, &self.volume_data()?);
        remains().map_err(DeployError::failed)
    }

    fn deploy(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        self.deploy_prepared(release, lock).map_err(DeployError::failed)
    }

    fn volumes(&self) -> Result<Vec<Volume>, DeployError> {
        self.volumes_of_app().list().map_err(DeployError::failed)
    }

    fn unsuitable_volumes(&self, release: &Release) -> Result<Vec<String>, DeployError> {
        let look = || -> Result<Vec<String>> {
            let volumes = self.volumes_of_app();
            let mut names: BTreeSet<String> =
                self.recipe_at(release)?.volumes.keys().map(|name| volumes.full_name(name)).collect();
            names.extend(volumes.list()?.into_iter().map(|volume| volume.name));
            let mut all = Vec::new();
            for name in names.iter().filter(|name| !self.app.update.unmanaged.contains(name)) {
                all.extend(volumes.unsuitable(name)?);
            }
            Ok(all)
        };
        look().map_err(DeployError::failed)
    }

    fn create_volume(&self, name: &str, _lock: &AppLock) -> Result<Volume, DeployError> {
        let create = || self.volumes_of_app().create(name, account::of(self.dirs.root(), &self.app.name, self.user)?);
        create().map_err(DeployError::failed)
    }

    fn remove_volume(&self, name: &str, _lock: &AppLock) -> Result<(), DeployError> {
        self.volumes_of_app().remove(name).map_err(DeployError::failed)
    }

    fn keep_only(&self, releases: &[Identity], _lock: &AppLock) -> Result<(), DeployError> {
        prepared::keep_only(&self.folder, &self.app_dirs, releases).map_err(DeployError::failed)
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
