//! Looks at everything that `doctor` judges. Touches nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use super::{AppFacts, Disk, EnvFile, Facts, StateFolder, Swarm, unit};
use crate::alert::Outbox;
use crate::config::names::AppName;
use crate::config::{App, Config, DeployerConfig, Warm};
use crate::deployer::abra_cli::Abra;
use crate::deployer::docker_api::Api;
use crate::deployer::docker_cli::Docker;
use crate::deployer::{self, Convergence, Observed};
use crate::health::probe;
use crate::home;
use crate::host::Host;
use crate::lock;
use crate::snapshot::{self, Store};
use crate::state::{self, AppState};
use crate::sys::command::Program;
use crate::sys::durable;
use crate::sys::untrusted::Untrusted;
use crate::update::journal;
use crate::update::saga::EventName;

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Looks.
pub fn look(host: &Host, config: &Config, config_path: &Path, outbox: &Outbox) -> Result<Facts> {
    let mut facts = Facts {
        config: config_path.to_owned(),
        state_dir: config.state_dir.clone(),
        state: state_folder(host),
        now: host.clock.now(),
        git: Some(version(Program::new("git").arg("--version"))),
        reserve: config.reserve,
        sinks: config.alerts.keys().cloned().collect(),
        ..Facts::default()
    };
    let listing = outbox.list()?;
    facts.undelivered =
        listing.alerts.iter().filter(|shown| shown.pending).map(|shown| shown.record.first_at).collect();
    facts.undelivered.sort();
    facts.unreadable = listing.unreadable;
    facts.disks.extend(disk(&config.state_dir, "the state folder"));
    if config.is_on_swarm() {
        let swarm = swarm(&config.state_dir);
        if swarm.one_file_system == Some(false) {
            facts.disks.extend(disk(&swarm.volumes, "docker's volumes"));
        }
        facts.swarm = Some(swarm);
    }
    let mut names = config.in_order();
    names.extend(state::known_apps(&host.dirs)?.into_iter().filter(|name| !config.apps.contains_key(name)));
    for name in names {
        let app = config.apps.get(&name);
        if let Ok(state) = AppState::load(&host.dirs, &name)
            && let Some(run) = state.last_run
            && facts.newest.as_ref().is_none_or(|(newest, _)| *newest < run.at)
        {
            facts.newest = Some((run.at, format!("the last run of `{name}`")));
        }
        facts.apps.push(of_app(host, &name, app));
    }
    Ok(facts)
}

/// What there is to say where the configuration itself cannot be used.
#[must_use]
pub fn without_configuration(path: &Path, error: &anyhow::Error, now: Timestamp) -> Facts {
    let error = error.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    Facts { config: path.to_owned(), config_error: Some(error), now, ..Facts::default() }
}

fn state_folder(host: &Host) -> StateFolder {
    let root = host.dirs.root();
    let Ok(found) = fs::metadata(root) else { return StateFolder::Missing };
    StateFolder::There {
        mode: found.permissions().mode() & 0o7777,
        has_id: host.dirs.id().exists(),
        not_writable: durable::try_to_write(root).err().map(|error| error.to_string()),
        foreign: home::check(&host.dirs).err().map(|error| error.to_string()),
    }
}

/// The first line of what a program says of itself.
fn version(program: Program) -> Result<String, String> {
    let output = program.deadline(PATIENCE).run_ok().map_err(|error| error.to_string())?;
    Ok(Untrusted::from_bytes(&output.stdout, 200).first_line())
}

fn swarm(state_dir: &Path) -> Swarm {
    let docker = Docker::default();
    let mut swarm = Swarm {
        is_podman: version(docker.version()).is_ok_and(|text| text.to_lowercase().contains("podman")),
        abra: Some(version(Abra::version(Path::new("/")))),
        ..Swarm::default()
    };
    let api = Api::default().patience(PATIENCE);
    swarm.info = Some(api.info().map_err(|error| format!("{error:#}")));
    if let Some(Ok(info)) = &swarm.info {
        swarm.node = api.node(&info.swarm.node_id).ok().flatten();
        swarm.volumes = Path::new(&info.docker_root_dir).join("volumes");
        swarm.one_file_system = snapshot::are_on_one_file_system(&swarm.volumes, state_dir).ok();
    }
    swarm
}

fn disk(path: &Path, what: &str) -> Option<Disk> {
    let free = snapshot::free_space(path).ok()?;
    Some(Disk { what: format!("{what} (`{}`)", path.display()), free })
}

fn of_app(host: &Host, name: &AppName, app: Option<&App>) -> AppFacts {
    let mut facts = AppFacts {
        name: name.to_string(),
        declared: app.is_some(),
        holder: lock::holder(&host.dirs, name).unwrap_or_default(),
        ..AppFacts::default()
    };
    match journal::peek(&host.dirs, name) {
        Ok(progress) => {
            facts.journal =
                progress.map(|progress| (progress.last.as_str().to_owned(), progress.last == EventName::Stuck));
        }
        Err(error) => facts.unusable = Some(error.into_problem(name).to_string()),
    }
    let store = Store::new(&host.dirs, name);
    facts.damaged = match store.current() {
        Ok(known) => known
            .filter(|known| store.is_damaged(&known.id))
            .map(|known| format!("its known-good, snapshot {}, is damaged", known.id)),
        Err(error) => Some(format!("its known-good cannot be read: {error:#}")),
    };
    let state = AppState::load(&host.dirs, name);
    if let Err(error) = &state {
        facts.unusable = Some(format!("{error:#}"));
    }
    let Some(app) = app else { return facts };
    if let DeployerConfig::Abra { server, servers_dir, .. } = &app.deployer {
        let folder = servers_dir.join(server);
        let path = folder.join(format!("{}.env", app.domain));
        let is_new = state.is_ok_and(|state| state.last_good.is_none());
        let found = match (path.exists(), folder.is_dir()) {
            (true, _) => {
                unit::read_only_folder(name.as_str(), &path, PATIENCE).map_or(EnvFile::There, EnvFile::ReadOnly)
            }
            (false, false) => EnvFile::NoServer,
            (false, true) if is_new && app.ensure => EnvFile::ToBeMade,
            (false, true) => EnvFile::Missing,
        };
        facts.env = Some((path, found));
    }
    facts.no_probes = app.health.probes.is_empty() && app.warm == Warm::Live;
    let observed = deployer::open(host, app).and_then(|deployer| Ok(deployer.observe()?));
    if let Ok(Observed::Present(deployment)) = observed
        && matches!(deployment.state, Convergence::Converged)
    {
        let answers: Vec<_> = app.health.probes.iter().map(|asked| probe::ask(app, asked, PATIENCE)).collect();
        let bad = answers.iter().find(|answer| !answer.ok()).map(|answer| answer.summary.clone());
        let good = match answers.as_slice() {
            [] => "it runs".to_owned(),
            [only] => only.summary.clone(),
            all => format!("all {} probes passed", all.len()),
        };
        facts.probes = Some(bad.map_or(Ok(good), Err));
    }
    facts
}
