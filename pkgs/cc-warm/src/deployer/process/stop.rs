//! Stopping, and what is left. "Gone" is what the kernel says, not what a file does: the supervisor is gone (in a PID
//! namespace the kernel ends its process 1 only after every other one), and no process bears the deployment's mark or
//! runs as the app's own user. Whether somebody else uses a volume is not a question about the app.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::account::is_its_own;
use super::folder::Folder;
use super::keeper::MARK;
use super::record::{Containment, Deployed, Status};
use crate::deployer::Stopped;
use crate::sys::clock::Deadline;
use crate::sys::procfs::{self, ProcessId};
use crate::sys::{durable, fault, flock};

/// How long the supervisor has, beyond the app's own grace, to kill what is left and to write down how it went.
const MARGIN: Duration = Duration::from_secs(10);

/// Ends whatever runs of the app and removes the record.
pub(super) fn stop(folder: &Folder, deadline: Deadline) -> Result<Stopped> {
    if !folder.root().is_dir() {
        return Ok(Stopped::WasDown);
    }
    // A launch under way is over after this, and any later one finds no record.
    let _lock = flock::take(&folder.launch_lock(), deadline).context("the app is still being started")?;
    let deployed = Deployed::read(folder)?;
    let status = match &deployed {
        Some(deployed) => Status::read(folder, &deployed.generation)?,
        None => None,
    };
    let mut stopped = Stopped::WasDown;
    if let (Some(deployed), Some(status)) = (&deployed, &status) {
        stopped = end_supervisor(folder, deployed, status, deadline)?;
    }
    fault::point("process.stop.ended")?;
    if let Some(deployed) = &deployed
        && kill_marked(deployed, deadline)?
    {
        stopped = Stopped::Killed;
    }
    durable::remove(&folder.deployment())?;
    fault::point("process.stop.recorded")?;
    Ok(stopped)
}

fn end_supervisor(folder: &Folder, deployed: &Deployed, status: &Status, deadline: Deadline) -> Result<Stopped> {
    let supervisor = status.supervisor;
    if deployed.boot != procfs::boot_id()? {
        return Ok(Stopped::WasDown);
    }
    let was_running = supervisor.runs();
    if was_running {
        let patience = Duration::from_secs(deployed.grace) + MARGIN;
        if !signal_and_wait(supervisor, Signal::TERM, Deadline::after(patience.min(deadline.left())))? {
            tracing::warn!(app = %deployed.app, "its supervisor does not end when asked and is killed");
            if !signal_and_wait(supervisor, Signal::KILL, deadline)? {
                bail!("its supervisor (process {}) does not end even when killed", supervisor.pid);
            }
        }
    }
    // Its own word, also where an earlier stop was cut short; without one it was killed, and all with it.
    let said = Status::read(folder, &deployed.generation)?.and_then(|status| status.stopped);
    Ok(said.unwrap_or(if was_running { Stopped::Killed } else { Stopped::WasDown }))
}

/// Whether `process` has ended before `deadline`.
fn signal_and_wait(process: ProcessId, signal: Signal, deadline: Deadline) -> Result<bool> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(true) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(true),
        Err(e) => return Err(e.into()),
    };
    // Between the record and the handle the number may have become somebody else's.
    if !process.runs() {
        return Ok(true);
    }
    match pidfd_send_signal(&handle, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(e) => return Err(e).with_context(|| format!("cannot signal process {}", process.pid)),
    }
    loop {
        let left = Timespec::try_from(deadline.left())?;
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Kills what bears the deployment's mark: where there is no namespace, it may outlive the supervisor. Whether there was
/// any.
fn kill_marked(deployed: &Deployed, deadline: Deadline) -> Result<bool> {
    let mut any = false;
    loop {
        let left = marked(deployed);
        if left.is_empty() {
            return Ok(any);
        }
        any = true;
        if deadline.is_over() {
            bail!("process {} does not end even when killed", left[0].pid);
        }
        for process in left {
            // A moment each; all are looked for again.
            signal_and_wait(process, Signal::KILL, Deadline::after(Duration::from_millis(200).min(deadline.left())))?;
        }
    }
}

/// The processes of `deployed`, the supervisor left out, wherever they are: those with its mark, and those of its own
/// user, whether or not they have taken it off.
fn marked(deployed: &Deployed) -> Vec<ProcessId> {
    let mark = format!("{MARK}={}", deployed.generation).into_bytes();
    let own = deployed.account.filter(|account| is_its_own(&deployed.state, &deployed.app, *account));
    let ours = |pid: i32| {
        own.is_some_and(|account| procfs::user(pid) == Some(account.uid)) || procfs::environment(pid).contains(&mark)
    };
    procfs::all().into_iter().map(|process| process.id).filter(|process| ours(process.pid)).collect()
}

/// What of the app exists, in words.
pub(super) fn remains(folder: &Folder) -> Result<Vec<String>> {
    let mut left = Vec::new();
    if let Some(deployed) =
        Deployed::read(folder)?.filter(|deployed| procfs::boot_id().is_ok_and(|boot| boot == deployed.boot))
    {
        let status = Status::read(folder, &deployed.generation)?;
        let supervisor = status.as_ref().map(|status| status.supervisor).filter(|supervisor| supervisor.runs());
        if let Some(supervisor) = supervisor {
            left.push(format!("its supervisor (process {})", supervisor.pid));
            left.extend(members(supervisor, status.map(|status| status.containment)));
        } else {
            let name = |id: ProcessId| procfs::stat(id.pid).map(|stat| stat.name.terminal()).unwrap_or_default();
            left.extend(marked(&deployed).into_iter().map(|id| format!("process {} (`{}`)", id.pid, name(id))));
        }
        if left.is_empty() && !matches!(flock::is_locked(&folder.launch_lock()), Ok(false)) {
            left.push("a launch under way".to_owned());
        }
    }
    Ok(left)
}

/// Whoever uses one of `volumes` and is no process of the app, in words.
pub(super) fn outsiders(folder: &Folder, volumes: &[PathBuf]) -> Result<Vec<String>> {
    let Some(deployed) = Deployed::read(folder)? else { return Ok(procfs::users_of(volumes)) };
    let supervisor = Status::read(folder, &deployed.generation)?.map(|status| (status.supervisor, status.containment));
    let namespace = match supervisor {
        Some((supervisor, containment)) if containment != Containment::Session && supervisor.runs() => {
            procfs::pid_namespace(supervisor.pid)
        }
        _ => None,
    };
    let marked: Vec<i32> = marked(&deployed).into_iter().map(|id| id.pid).collect();
    Ok(procfs::users_except(volumes, &|pid| {
        supervisor.is_some_and(|(supervisor, _)| supervisor.pid == pid)
            || marked.contains(&pid)
            || (namespace.is_some() && procfs::pid_namespace(pid) == namespace)
    }))
}

/// What shares the supervisor's PID namespace.
fn members(supervisor: ProcessId, containment: Option<Containment>) -> Vec<String> {
    if containment == Some(Containment::Session) {
        return Vec::new();
    }
    let Some(namespace) = procfs::pid_namespace(supervisor.pid) else { return Vec::new() };
    let inside = |process: &procfs::Stat| {
        process.id != supervisor && procfs::pid_namespace(process.id.pid).as_ref() == Some(&namespace)
    };
    let members = procfs::all().into_iter().filter(inside);
    members.map(|process| format!("process {} (`{}`)", process.id.pid, process.name.terminal())).collect()
}
