//! Starting a deployment. The order makes a crash harmless: the record is durable before anything is started, and a
//! supervisor starts nothing unless the record, read under the launch lock, still names its deployment.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::record::{Account, Containment, Deployed};
use super::supervisor::{LAUNCH, Launch};
use crate::config::names::AppName;
use crate::deployer::DeployError;
use crate::error::{self, Exit, Problem};
use crate::lock::AppLock;
use crate::snapshot::is_no_space;
use crate::sys::command::{CommandError, Program};
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, random};

/// Where systemd, if it runs, says so.
const SYSTEMD: &str = "/run/systemd/system";

/// Starts the supervisor of `deployed`, with the strongest containment that can be had here.
pub(super) fn launch(exe: &Path, folder: &Folder, deployed: &Deployed, lock: &AppLock) -> Result<()> {
    must_be_reachable(&deployed.state, deployed.account)?;
    let root = rustix::process::geteuid().is_root();
    let strongest = if root { Containment::Namespace } else { Containment::UserNamespace };
    match start(exe, folder, deployed, strongest, lock)? {
        Outcome::Started => Ok(()),
        Outcome::Refused(why) => {
            tracing::info!(app = %deployed.app, "no namespace of its own: {why}");
            open_the_way(folder, deployed)?;
            // What the next one leaves is its own.
            durable::remove(&folder.failure())?;
            match start(exe, folder, deployed, Containment::Session, lock)? {
                Outcome::Started => Ok(()),
                Outcome::Refused(why) => bail!("the app cannot be run as another user here: {why}"),
            }
        }
    }
}

enum Outcome {
    Started,
    Refused(String),
}

fn start(
    exe: &Path,
    folder: &Folder,
    deployed: &Deployed,
    containment: Containment,
    lock: &AppLock,
) -> Result<Outcome> {
    let systemd = rustix::process::geteuid().is_root() && Path::new(SYSTEMD).is_dir();
    let launch = Launch {
        folder: folder.root().to_owned(),
        generation: deployed.generation.clone(),
        containment,
        foreground: systemd,
    };
    let program = if systemd { unit(exe, deployed, &launch)? } else { Program::new(exe).args(launch.words("start")) };
    let program = with_faults(program).cwd("/").deadline(LAUNCH * 2 + Duration::from_secs(10));
    let output = program.inherit(lock)?.run().map_err(|error| match error {
        CommandError::TimedOut { .. } => anyhow!("its supervisor does not say whether it has started"),
        other => other.into(),
    })?;
    if output.status.success() {
        return Ok(Outcome::Started);
    }
    match Failure::read(folder, &deployed.generation) {
        Some(Failure { refused: true, why, .. }) => Ok(Outcome::Refused(why)),
        Some(Failure { why, errno: Some(errno), .. }) => Err(std::io::Error::from_raw_os_error(errno))
            .with_context(|| format!("the supervisor could not start it: {why}")),
        Some(Failure { why, .. }) => bail!("the supervisor could not start it: {why}"),
        None => {
            let said = anyhow!(
                "the supervisor could not be started: {}",
                Untrusted::from_bytes(&output.stderr, 4096).terminal()
            );
            // Where it could not leave why, the disk may be the reason, as it is for us then.
            match Failure::write(folder, &deployed.generation, &said) {
                Ok(()) => Err(said),
                Err(error) => Err(error.context(format!("{said:#}"))),
            }
        }
    }
}

/// Why a launch failed, as its supervisor left it: where systemd started that one, there is no other way to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    generation: String,
    /// This containment cannot be had here; a weaker one may.
    refused: bool,
    why: String,
    /// The system's number of it, where it is our own disk that says no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
}

impl Failure {
    pub(super) fn write(folder: &Folder, generation: &str, error: &anyhow::Error) -> Result<()> {
        let refused = error::exit_of(error) == Exit::Refused;
        let errno = DeployError::is_our_own(error).then(|| if is_no_space(error) { Errno::NOSPC } else { Errno::IO });
        let errno = errno.map(Errno::raw_os_error);
        let failure = Self { generation: generation.to_owned(), refused, why: format!("{error:#}"), errno };
        durable::replace_json(&folder.failure(), &failure)
    }

    fn read(folder: &Folder, generation: &str) -> Option<Self> {
        let failure: Self = durable::read_json(&folder.failure()).ok()??;
        (failure.generation == generation).then_some(failure)
    }
}

/// The supervisor as the main process of a unit of its own, so that it does not die with ours.
fn unit(exe: &Path, deployed: &Deployed, launch: &Launch) -> Result<Program> {
    let unit = unit_name(&deployed.app);
    // One that is just ending would be in the way; that there is none is the usual case.
    let _ = Program::new("systemctl").args(["stop", &unit]).deadline(Duration::from_mins(2)).run();
    let path = std::env::var("PATH").context("PATH is not set")?;
    Ok(Program::new("systemd-run")
        .args(["--quiet", "--collect", "--no-ask-password"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--description=Co-op Cloud app {}", deployed.app))
        .args(["--service-type=notify", "--property=KillMode=control-group", "--property=NotifyAccess=main"])
        // One process that the kernel kills for want of memory is started again, as any that dies; the others stay.
        .arg("--property=OOMPolicy=continue")
        .arg(format!("--property=TimeoutStopSec={}", deployed.grace + 15))
        .arg(format!("--property=TimeoutStartSec={}", LAUNCH.as_secs() * 2))
        .arg(format!("--setenv=PATH={path}"))
        .arg("--")
        .arg(exe)
        .args(launch.words("start")))
}

/// The unit of `app`, where systemd runs.
fn unit_name(app: &AppName) -> String {
    format!("cc-warm-app-{app}.service")
}

#[cfg(feature = "fault-points")]
fn with_faults(program: Program) -> Program {
    match std::env::var_os("CC_WARM_SUPERVISOR_FAULT") {
        Some(rules) => program.env("CC_WARM_FAULT", rules),
        None => program,
    }
}

#[cfg(not(feature = "fault-points"))]
fn with_faults(program: Program) -> Program {
    program
}

/// The app's user must be able to come as far as the state folder; what is inside is shown to it, or opened, by us.
pub(super) fn must_be_reachable(state: &Path, account: Option<Account>) -> Result<()> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    for folder in state.ancestors().skip(1) {
        let found = fs::metadata(folder).with_context(|| format!("cannot look at `{}`", folder.display()))?;
        let bits = match (found.uid() == uid, found.gid() == gid) {
            (true, _) => 0o100,
            (_, true) => 0o010,
            _ => 0o001,
        };
        if found.mode() & bits == 0 {
            return Err(Problem::new(format!(
                "user {uid}, as which the app runs, cannot pass through `{}`",
                folder.display()
            ))
            .hint(format!("chmod o+x {}", folder.display()))
            .hint("or move `stateDir` to where every user may pass, as /var/lib")
            .into());
        }
    }
    Ok(())
}

/// Where the app has no mounts of its own, its user must be able to pass through our folders; it can list none of them,
/// and read nothing in them but its own.
fn open_the_way(folder: &Folder, deployed: &Deployed) -> Result<()> {
    if deployed.account.is_none() {
        return Ok(());
    }
    let mut passed: Vec<PathBuf> = vec![folder.releases()];
    passed.extend(deployed.writable.iter().filter_map(|path| Some(path.parent()?.to_owned())));
    for path in passed {
        for folder in path.ancestors().take_while(|up| up.starts_with(&deployed.state)) {
            let mode = fs::metadata(folder)?.permissions().mode();
            fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))
                .with_context(|| format!("cannot let the app's user pass through `{}`", folder.display()))?;
        }
    }
    Ok(())
}

/// Makes the scratch folder anew: nothing that an earlier version left there reaches the next. What that is is the app's
/// affair, so that deleting it could fail or take long: the app is down, and it only gets another name.
pub(super) fn fresh_scratch(folder: &Folder, account: Option<Account>) -> Result<()> {
    let scratch = folder.scratch();
    let old = folder.old_scratch(&random::id()?);
    match fs::rename(&scratch, &old) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot set `{}` apart", scratch.display()));
        }
        _ => {}
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&scratch)
        .with_context(|| format!("cannot make `{}`", scratch.display()))?;
    if let Some(Account { uid, gid }) = account {
        std::os::unix::fs::lchown(&scratch, Some(uid), Some(gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_a_launch_that_failed_was_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        for (error, errno) in [
            (std::io::Error::from(Errno::NOSPC).into(), Some(Errno::NOSPC)),
            (anyhow::Error::from(std::io::Error::from(Errno::IO)).context("cannot write"), Some(Errno::IO)),
            (anyhow!("no such user"), None),
        ] {
            Failure::write(&folder, "a1", &error).unwrap();
            let failure = Failure::read(&folder, "a1").unwrap();
            assert_eq!(failure.errno, errno.map(Errno::raw_os_error), "{error:#}");
            assert!(Failure::read(&folder, "b2").is_none());
        }
    }
}
