//! Is the host set up right? What was found ([`look`]) is judged here, purely: each check with what it found, and the
//! command that mends it.

mod facts;
mod look;
#[cfg(test)]
mod tests;
mod unit;

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Exit;

pub use self::facts::{AppFacts, Disk, EnvFile, Facts, StateFolder, Swarm};
pub use self::look::{look, without_configuration};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but worse than it could.
    Warning,
    /// Not now: whoever is asked does not answer yet.
    NotReady,
    /// It does not work like this.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: the same words in every version.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// The command (or the setting) that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

fn check(name: &str, level: Level, found: impl Into<String>) -> Check {
    Check { name: name.to_owned(), level, found: found.into(), mend: None }
}

impl Check {
    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// Every check.
#[must_use]
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = vec![configuration(facts)];
    if facts.config_error.is_some() {
        return all;
    }
    all.extend(state_folder(facts));
    all.push(clock(facts));
    all.extend(facts.git.as_ref().map(|git| program("git", git, "install git, or put it into the units' `path`")));
    if let Some(swarm) = &facts.swarm {
        all.extend(of_swarm(swarm, facts));
    }
    all.extend(facts.disks.iter().map(|disk| of_disk(disk, facts.reserve)));
    all.extend(alerts(facts));
    all.extend(facts.apps.iter().flat_map(of_app));
    all
}

/// What the checks come to.
#[must_use]
pub fn exit(checks: &[Check]) -> Exit {
    match checks.iter().map(|check| check.level).max() {
        Some(Level::Bad) => Exit::Failed,
        Some(Level::NotReady) => Exit::NotReady,
        _ => Exit::Done,
    }
}

/// As people read it.
#[must_use]
pub fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match check.level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::NotReady => "waiting",
            Level::Bad => "BAD    ",
        };
        let _ = writeln!(text, "{mark}  {:<width$}  {}", check.name, check.found);
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "{:9}{:<width$}  mend: {mend}", "", "");
        }
    }
    let count = |level: Level| checks.iter().filter(|check| check.level == level).count();
    let _ = match (count(Level::Bad), count(Level::NotReady), count(Level::Warning)) {
        (0, 0, 0) => writeln!(text, "\nall is well"),
        (bad, waiting, warnings) => writeln!(text, "\n{bad} bad, {waiting} waiting, {warnings} warning(s)"),
    };
    text
}

fn configuration(facts: &Facts) -> Check {
    let path = facts.config.display();
    match &facts.config_error {
        None => check("configuration", Level::Ok, format!("`{path}`")),
        Some(error) => check("configuration", Level::Bad, format!("`{path}`: {error}"))
            .mend(format!("cc-warm check-config --config {path}")),
    }
}

fn state_folder(facts: &Facts) -> Vec<Check> {
    let dir = facts.state_dir.display();
    let name = "state folder";
    let StateFolder::There { mode, has_id, not_writable, foreign } = &facts.state else {
        return vec![
            check(name, Level::Warning, format!("`{dir}` is not there yet: the first update makes it"))
                .mend("cc-warm update"),
        ];
    };
    let mut all = Vec::new();
    if let Some(why) = foreign {
        all.push(check(name, Level::Bad, why).mend(format!("findmnt --target {dir}")));
    }
    if let Some(why) = not_writable {
        all.push(check(name, Level::Bad, format!("`{dir}` cannot be written to: {why}")).mend("run it as root"));
    }
    if mode & 0o077 != 0 {
        let found = format!("`{dir}` has mode {mode:04o}: others may read secrets in it");
        all.push(check(name, Level::Bad, found).mend(format!("chmod 0700 {dir}")));
    }
    if !has_id && foreign.is_none() {
        all.push(check(name, Level::Warning, format!("`{dir}` has no id yet: the first update makes it")));
    }
    if all.is_empty() {
        all.push(check(name, Level::Ok, format!("`{dir}`")));
    }
    all
}

/// Clocks of machines without a battery begin in 1970, or at the date of their system.
fn clock(facts: &Facts) -> Check {
    const NAME: &str = "clock";
    let made: Timestamp = Timestamp::constant(1_735_689_600, 0);
    if facts.now < made {
        return check(NAME, Level::Bad, format!("it is {} by this host's clock", facts.now)).mend("timedatectl");
    }
    match &facts.newest {
        Some((newest, what)) if *newest > facts.now + jiff::SignedDuration::from_mins(5) => {
            let found = format!("it is {}, but {what} says that it was {newest} already", facts.now);
            check(NAME, Level::Bad, found).mend("timedatectl")
        }
        _ => check(NAME, Level::Ok, facts.now.strftime("%Y-%m-%d %H:%M UTC").to_string()),
    }
}

fn program(name: &str, found: &Result<String, String>, mend: &str) -> Check {
    match found {
        Ok(version) => check(name, Level::Ok, version),
        Err(why) => check(name, Level::Bad, why).mend(mend),
    }
}

fn of_swarm(swarm: &Swarm, facts: &Facts) -> Vec<Check> {
    let mut all = Vec::new();
    if swarm.is_podman {
        let found = "`docker` is podman, which has no swarm";
        return vec![check("docker", Level::Bad, found).mend("virtualisation.podman.dockerCompat = false")];
    }
    match &swarm.info {
        Some(Ok(info)) => {
            match info.not_ready(Some(&swarm.node.clone().unwrap_or_default())) {
                None => all.push(check(
                    "docker",
                    Level::Ok,
                    format!("{}, its swarm is active, this node ready", info.server_version),
                )),
                Some(why) => all.push(check("docker", Level::NotReady, &why).mend(mend_swarm(&why))),
            }
            if info.live_restore_enabled {
                let found = "live-restore is on: a swarm cannot have that";
                all.push(check("live-restore", Level::Bad, found).mend("virtualisation.docker.liveRestore = false"));
            }
        }
        Some(Err(why)) => all.push(check("docker", Level::NotReady, why).mend("systemctl status docker")),
        None => {}
    }
    if let Some(abra) = &swarm.abra {
        let mut check = program("abra", abra, "services.ccWarm.abraPackage");
        if let Ok(version) = abra
            && is_old(version)
        {
            check = self::check("abra", Level::Warning, format!("{version}: 0.10 and later are known to work"));
        }
        all.push(check);
    }
    if swarm.one_file_system == Some(false) {
        let (volumes, state) = (swarm.volumes.display(), facts.state_dir.display());
        all.push(
            check(
                "one file system",
                Level::Warning,
                format!(
                    "`{volumes}` and `{state}` are two: snapshots and restores copy every byte instead of sharing it, \
                     and take that much longer and more room"
                ),
            )
            .mend("services.ccWarm.stateDir, to a folder on the file system of docker's data-root"),
        );
    }
    all
}

fn mend_swarm(why: &str) -> &'static str {
    if why.contains("not part of a swarm") {
        "docker swarm init"
    } else if why.contains("locked") {
        "docker swarm unlock"
    } else if why.contains("no manager") {
        "docker node promote, on a manager"
    } else {
        "docker node ls"
    }
}

/// `abra version 0.13.0-beta-06a57de`.
fn is_old(version: &str) -> bool {
    let number = version.split_whitespace().last().unwrap_or_default();
    let mut parts = number.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(0), Some(minor)) if minor < 10)
}

fn of_disk(disk: &Disk, reserve: u64) -> Check {
    const MIB: u64 = 1 << 20;
    let found = format!("{} MiB free for {}, {} MiB of them in reserve", disk.free / MIB, disk.what, reserve / MIB);
    if disk.free < reserve {
        return check("disk", Level::Bad, found).mend("free some space, or lower `services.ccWarm.disk.reserve`");
    }
    check("disk", Level::Ok, found)
}

fn alerts(facts: &Facts) -> Vec<Check> {
    let mut all = Vec::new();
    if facts.sinks.is_empty() {
        let found = "no sink is configured: nobody is told of anything";
        all.push(check("alerts", Level::Bad, found).mend("services.ccWarm.alerts.<name>, then `cc-warm alert test`"));
    }
    if let Some(oldest) = facts.undelivered.first() {
        let found = format!("{} not delivered yet, the oldest of {oldest}", facts.undelivered.len());
        all.push(check("alerts", Level::Bad, found).mend("cc-warm alert deliver"));
    }
    all.extend(facts.unreadable.iter().map(|what| check("alerts", Level::Bad, what)));
    if all.is_empty() {
        all.push(check("alerts", Level::Ok, format!("to {}", facts.sinks.join(", "))));
    }
    all
}

fn of_app(app: &AppFacts) -> Vec<Check> {
    let name = format!("app {}", app.name);
    let check = |level, found: String| check(&name, level, found);
    let mut all = Vec::new();
    if let Some(why) = &app.unusable {
        all.push(check(Level::Bad, why.clone()).mend(format!("cc-warm status {}", app.name)));
    }
    match (&app.journal, &app.holder) {
        (Some((_, true)), _) => all.push(
            // Which command brings it back depends on what its data is; that names it.
            check(Level::Bad, "it is stuck, until you act".to_owned()).mend(format!("cc-warm status {}", app.name)),
        ),
        (Some((event, false)), None) => all.push(
            check(Level::Bad, format!("an operation was cut short at `{event}`"))
                .mend(format!("cc-warm recover {}", app.name)),
        ),
        (_, Some(holder)) => all.push(check(Level::Warning, format!("busy: {holder}"))),
        (None, None) => {}
    }
    if let Some(why) = &app.damaged {
        let mend = format!("cc-warm verify {0} says what; while it is healthy: cc-warm snapshot {0}", app.name);
        all.push(check(Level::Bad, why.clone()).mend(mend));
    }
    if let Some((path, state)) = &app.env {
        let path = path.display();
        match state {
            EnvFile::There | EnvFile::ToBeMade => {}
            EnvFile::ReadOnly(folder) => {
                let found =
                    format!("its update may not write to `{}`, where `{path}` is or leads to", folder.display());
                all.push(check(Level::Bad, found).mend(format!(
                    "add it to systemd.services.cc-warm-update-{}.serviceConfig.ReadWritePaths, or let \
                     services.ccWarm.serversDir name the folder of servers that it is in",
                    app.name
                )));
            }
            EnvFile::NoServer => all.push(
                check(Level::Bad, format!("abra knows no such server: there is no folder for `{path}`"))
                    .mend("abra server add --local, or services.ccWarm.serversDir"),
            ),
            EnvFile::Missing => {
                all.push(check(Level::Bad, format!("`{path}` is gone")).mend("bring it back from your backup"));
            }
        }
    }
    if app.no_probes && app.declared {
        all.push(
            check(Level::Warning, "it has no probe: only the swarm says whether it is healthy".to_owned())
                .mend(format!("services.ccWarm.apps.{}.health.probes", app.name)),
        );
    }
    match &app.probes {
        Some(Err(why)) => all.push(check(Level::Bad, format!("unhealthy, so it is not updated: {why}")).mend(format!(
            "look into its logs; where it is well, services.ccWarm.apps.{}.health.probes asks the wrong thing",
            app.name
        ))),
        Some(Ok(what)) if all.is_empty() => all.push(check(Level::Ok, what.clone())),
        None if all.is_empty() && app.declared => {
            all.push(check(Level::Ok, "it does not run, so its probes were not asked".to_owned()));
        }
        _ => {}
    }
    all
}
