//! The start of a supervisor. `cc-warm supervise <step> …` is this program, started by itself:
//!
//! 1. `start` holds the app's lock (inherited) and the launch lock, prepares the strongest namespace, starts `run` in it,
//!    and waits until that has started and recorded every process of the app. Then both locks are free. As the main
//!    process of a systemd unit it stays until `run` has ended.
//! 2. `run` ([`super::keeper`]) keeps the app for as long as it is deployed.
//! 3. `enter` ([`super::cell`]) becomes one process of the app.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, Subcommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::UnshareFlags;

use super::folder::Folder;
use super::launch::Failure;
use super::record::{Account, Containment, Deployed};
use super::{cell, keeper};
use crate::error::{Because, Exit, Problem};
use crate::sys::clock::Deadline;
use crate::sys::untrusted::Untrusted;
use crate::sys::{fault, flock, procfs, raw};

/// The hidden subcommand of cc-warm that must call [`supervise`] with the words after it.
pub const SUBCOMMAND: &str = "supervise";

/// How long the app's processes may take to be started and recorded (not: to be healthy).
pub(super) const LAUNCH: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    Start(Launch),
    Run(Launch),
    Enter,
}

/// Which deployment, and how.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Launch {
    /// The app's folder.
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// The deployment that is meant: a later one makes this launch void.
    #[arg(long)]
    pub(super) generation: String,
    /// How to keep it together.
    #[arg(long, value_parser = containment)]
    pub(super) containment: Containment,
    /// Stay until it has ended.
    #[arg(long)]
    pub(super) foreground: bool,
}

impl Containment {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::UserNamespace => "user-namespace",
            Self::Session => "session",
        }
    }
}

fn containment(text: &str) -> Result<Containment, String> {
    [Containment::Namespace, Containment::UserNamespace, Containment::Session]
        .into_iter()
        .find(|containment| containment.as_str() == text)
        .ok_or_else(|| "no such containment".to_owned())
}

impl Launch {
    /// The words after `cc-warm`.
    pub(super) fn words(&self, step: &str) -> Vec<std::ffi::OsString> {
        let mut words: Vec<std::ffi::OsString> = vec![SUBCOMMAND.into(), step.into(), "--folder".into()];
        words.push(self.folder.clone().into());
        words.extend(["--generation".into(), self.generation.clone().into()]);
        words.extend(["--containment".into(), self.containment.as_str().into()]);
        if self.foreground {
            words.push("--foreground".into());
        }
        words
    }
}

/// The apps with a supervisor that was started from `apps`, the folder of all apps: known from the processes alone.
pub(super) fn running_from(apps: &Path) -> BTreeSet<String> {
    let of = |words: Vec<Vec<u8>>| {
        let words: Vec<&OsStr> = words.iter().map(|word| OsStr::from_bytes(word)).collect();
        let supervises = words.get(1).is_some_and(|word| *word == SUBCOMMAND);
        let folder = words.windows(2).find(|pair| pair[0] == "--folder").map(|pair| Path::new(pair[1]))?;
        (supervises && folder.parent() == Some(apps)).then(|| folder.file_name()?.to_str().map(ToOwned::to_owned))?
    };
    procfs::all().into_iter().filter_map(|process| of(procfs::words(process.id.pid))).collect()
}

/// Runs one step of supervising an app. `args`: the words after `supervise`.
pub fn supervise(args: &[String]) -> Result<()> {
    match Args::try_parse_from(args).map_err(|error| anyhow!("{error}"))?.step {
        Step::Start(launch) => start(&launch).inspect_err(|error| {
            // That it failed is told by the exit status; only the reason may be lost.
            let _ = Failure::write(&Folder::at(&launch.folder), &launch.generation, error);
        }),
        Step::Run(launch) => keeper::run(&launch),
        Step::Enter => cell::enter(),
    }
}

fn start(launch: &Launch) -> Result<()> {
    raw::close_on_exec_from(3)?;
    let folder = Folder::at(&launch.folder);
    let lock = flock::take(&folder.launch_lock(), Deadline::after(LAUNCH))?;
    let deployed = Deployed::read(&folder)?.filter(|deployed| deployed.generation == launch.generation);
    ensure!(deployed.is_some(), "this deployment was given up before it was started");
    fault::point("process.start.locked")?;
    namespaces(launch.containment).problem(|| refused(launch.containment))?;
    let (ready, child_end) = io::pipe()?;
    let mut child = Command::new("/proc/self/exe")
        .args(launch.words("run"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(child_end)
        .stderr(log_file(&folder.log())?)
        .spawn()
        .context("cannot start the supervisor")?;
    let answer = await_answer(&ready, Deadline::after(LAUNCH));
    if !matches!(answer.as_deref(), Ok("ready")) {
        // In a PID namespace this ends whatever it has started; elsewhere it ends its own when it is asked to.
        give_up(&mut child, launch.containment);
    }
    match answer?.as_str() {
        "ready" => {}
        other => match other.strip_prefix("refused: ") {
            Some(why) => return Err(refused(launch.containment).because(anyhow!(why.to_owned())).into()),
            None => bail!("{}", other.strip_prefix("failed: ").unwrap_or("the supervisor ended at once")),
        },
    }
    fault::point("process.start.ready")?;
    drop(lock);
    if launch.foreground {
        notify_ready()?;
        child.wait()?;
    }
    Ok(())
}

/// That this containment cannot be had here: the next weaker one may.
fn refused(containment: Containment) -> Problem {
    Problem::new(format!("the containment `{}` cannot be had here", containment.as_str())).exit(Exit::Refused)
}

/// The children of this process will be in them.
fn namespaces(containment: Containment) -> Result<()> {
    match containment {
        Containment::Namespace => {
            fault::point("process.start.namespace")?;
            raw::unshare(UnshareFlags::NEWPID).context("cannot make a PID namespace")
        }
        Containment::UserNamespace => {
            fault::point("process.start.namespace")?;
            let us = ourselves();
            cell::map_user(Account { uid: 0, gid: 0 }, us).context("cannot make a user namespace")?;
            raw::unshare(UnshareFlags::NEWPID).context("cannot make a PID namespace")
        }
        Containment::Session => Ok(()),
    }
}

/// User and group of this process.
pub(super) fn ourselves() -> Account {
    Account { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// What the supervisor says once: `ready`, `refused: …` or `failed: …`; empty if it ended without a word.
fn await_answer(pipe: &PipeReader, deadline: Deadline) -> Result<String> {
    let mut said = Vec::new();
    loop {
        let left = Timespec::try_from(deadline.left())?;
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => bail!("the app's processes were not started within {} s", LAUNCH.as_secs()),
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let mut buffer = [0; 4096];
        let mut reader = pipe;
        let count = reader.read(&mut buffer)?;
        said.extend_from_slice(&buffer[..count]);
        if count == 0 || said.len() > 64 << 10 {
            return Ok(Untrusted::from_bytes(&said, 64 << 10).terminal_lines().trim().to_owned());
        }
    }
}

fn give_up(child: &mut Child, containment: Containment) {
    if containment == Containment::Session {
        let pid = rustix::process::Pid::from_child(child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Deadline::after(Duration::from_secs(5));
        while !deadline.is_over() && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The file that the app's output goes to.
pub(super) fn log_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open the log `{}`", path.display()))
}

/// Tells systemd that the unit has started.
fn notify_ready() -> Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let name = socket.to_string_lossy().into_owned();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).context("systemd does not listen")?;
    Ok(())
}
