//! Keeps an app for as long as it is deployed: starts its processes, writes down what they say, records each death and
//! starts them again with back-off, reaps orphans, and ends everything when asked (SIGTERM). One thread; in a PID
//! namespace it is process 1, so that its own end is the end of everything.

use std::io::{self, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::cell::Cell;
use super::folder::Folder;
use super::log::{Lines, Log};
use super::record::{Containment, Death, Deployed, ProcessStatus, Status};
use super::supervisor::Launch;
use crate::deployer::Stopped;
use crate::sys::clock::Deadline;
use crate::sys::procfs;
use crate::sys::untrusted::Untrusted;

/// The first pause before a process is started again; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest, and how long a process must run for the pauses to begin anew.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often what could not be done is tried again.
const TICK: Duration = Duration::from_millis(500);
/// Marks the processes of a deployment, for where no namespace does.
pub(super) const MARK: &str = "CC_WARM_DEPLOYMENT";

/// Runs the deployment until it is asked to end, or says on stdout why it cannot.
pub(super) fn run(launch: &Launch) -> Result<()> {
    let begin = || -> Result<Keeper> {
        let mut keeper = Keeper::new(launch)?;
        keeper.start_all();
        keeper.status.write(&keeper.folder)?;
        Ok(keeper)
    };
    let said = match begin() {
        Ok(mut keeper) => {
            let mut out = io::stdout();
            let told = out.write_all(b"ready").and_then(|()| out.flush());
            // Whoever waits for the end of this pipe has heard all there is.
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(&null)?;
            told.context("nobody waits for the app any more").map_err(|error| (keeper.end(), error).1)?;
            return keeper.keep();
        }
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(why)) => format!("refused: {why}"),
            None => format!("failed: {error:#}"),
        },
    };
    let mut out = io::stdout();
    out.write_all(said.as_bytes()).and_then(|()| out.flush())?;
    Err(anyhow!(said))
}

/// This containment cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

struct Keeper {
    folder: Folder,
    deployed: Deployed,
    status: Status,
    /// The status on disk is not the one here.
    unwritten: bool,
    signals: UnixStream,
    ends: UnixStream,
    asked_to_end: bool,
    log: Log,
    processes: Vec<Process>,
    outputs: Vec<(PipeReader, Lines)>,
}

struct Process {
    name: String,
    argv: Vec<String>,
    pid: Option<Pid>,
    started: Instant,
    pause: Duration,
    again: Option<Instant>,
}

impl Keeper {
    fn new(launch: &Launch) -> Result<Self> {
        crate::sys::raw::close_on_exec_from(3)?;
        rustix::process::setsid().context("cannot begin a session")?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        if launch.containment == Containment::Session {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let (signals, wakes) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, wakes)?;
        let (ends, end) = UnixStream::pair()?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::low_level::pipe::register(signal, end.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, signals.try_clone()?)?;
        signals.set_nonblocking(true)?;
        ends.set_nonblocking(true)?;
        let folder = Folder::at(&launch.folder);
        let deployed = Deployed::read(&folder)?
            .filter(|deployed| deployed.generation == launch.generation)
            .context("this deployment was given up")?;
        let me = procfs::this_process().context("cannot find this process in /proc")?;
        let mut status = Status::new(&deployed.generation, me, launch.containment);
        let pause = FIRST_PAUSE;
        let started = Instant::now();
        let processes: Vec<Process> = deployed
            .plan
            .processes
            .iter()
            .map(|(name, argv)| Process {
                name: name.clone(),
                argv: argv.clone(),
                pid: None,
                started,
                pause,
                again: None,
            })
            .collect();
        status.processes =
            processes.iter().map(|p| ProcessStatus { name: p.name.clone(), running: false, starts: 0 }).collect();
        let log = Log::open(&folder)?;
        let keeper = Self {
            folder,
            deployed,
            status,
            unwritten: false,
            signals,
            ends,
            asked_to_end: false,
            log,
            processes,
            outputs: Vec::new(),
        };
        keeper.try_containment()?;
        Ok(keeper)
    }

    fn cell(&self, argv: &[String]) -> Cell {
        let mut env = self.deployed.plan.env.clone();
        env.insert(MARK.to_owned(), self.deployed.generation.clone());
        Cell {
            containment: self.status.containment,
            account: self.deployed.account,
            outside: self.deployed.outside,
            state: self.deployed.state.clone(),
            code: self.folder.release(&self.deployed.identity.commit),
            writable: self.deployed.writable.clone(),
            argv: argv.to_vec(),
            env,
        }
    }

    /// Locks a trial in, as each process will be: what is refused now is refused before anything runs.
    fn try_containment(&self) -> Result<()> {
        let mut child = entering().stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        feed(&mut child, &self.cell(&[]))?;
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(Refused(Untrusted::from_bytes(&output.stderr, 4096).terminal_lines().trim().to_owned()).into())
    }

    fn start_all(&mut self) {
        for index in 0..self.processes.len() {
            self.start(index);
        }
    }

    fn start(&mut self, index: usize) {
        let outcome = self.spawn(index);
        let process = &mut self.processes[index];
        process.again = None;
        process.started = Instant::now();
        self.unwritten = true;
        self.status.processes[index].starts += 1;
        match outcome {
            Ok(pid) => {
                process.pid = Some(pid);
                self.status.processes[index].running = true;
            }
            Err(error) => self.died(index, &format!("could not be started: {error:#}")),
        }
    }

    fn spawn(&mut self, index: usize) -> Result<Pid> {
        let (reader, writer) = io::pipe()?;
        let flags = rustix::fs::fcntl_getfl(&reader)?;
        rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK)?;
        let process = &self.processes[index];
        let cell = self.cell(&process.argv);
        let mut child = entering().stdout(writer.try_clone()?).stderr(writer).spawn()?;
        let pid = Pid::from_child(&child);
        self.outputs.push((reader, Lines::of(&process.name)));
        // One that cannot be fed ends by itself, and is reaped as any other.
        let _ = feed(&mut child, &cell);
        Ok(pid)
    }

    fn died(&mut self, index: usize, how: &str) {
        self.drain();
        let process = &mut self.processes[index];
        if let Some(pid) = process.pid.take() {
            // What it has started in its own group shares its ports and files: it must not meet its successor.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        if process.started.elapsed() > LONGEST_PAUSE {
            process.pause = FIRST_PAUSE;
        }
        process.again = Some(Instant::now() + process.pause);
        process.pause = (process.pause * 2).min(LONGEST_PAUSE);
        let death = Death {
            at: Timestamp::now(),
            process: process.name.clone(),
            how: how.to_owned(),
            last_words: self.log.last_words(&process.name),
        };
        self.log.note(&format!("{} {how}", death.process));
        self.status.processes[index].running = false;
        self.status.deaths += 1;
        self.status.last_death = Some(death);
        self.unwritten = true;
    }

    /// Until it is asked to end.
    fn keep(&mut self) -> Result<()> {
        while !self.asked_to_end {
            self.wait_for_news(self.next_tick())?;
            self.reap();
            for index in 0..self.processes.len() {
                if !self.asked_to_end && self.processes[index].again.is_some_and(|at| at <= Instant::now()) {
                    self.start(index);
                }
            }
            self.write_status();
        }
        self.end();
        Ok(())
    }

    /// A death that cannot be written down (the disk is full) is tried again: it must not be forgotten.
    fn write_status(&mut self) {
        if self.unwritten {
            self.unwritten = self.status.write(&self.folder).is_err();
        }
    }

    fn next_tick(&self) -> Option<Duration> {
        let now = Instant::now();
        let again = self.processes.iter().filter_map(|process| process.again);
        let tick = self.unwritten.then(|| now + TICK);
        again.chain(tick).min().map(|at| at.saturating_duration_since(now))
    }

    fn wait_for_news(&mut self, at_most: Option<Duration>) -> Result<()> {
        {
            let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.ends, PollFlags::IN)];
            fds.extend(self.outputs.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::IN)));
            let timeout = at_most.map(Timespec::try_from).transpose()?;
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut buffer = [0; 64];
        while matches!((&self.signals).read(&mut buffer), Ok(count) if count > 0) {}
        while matches!((&self.ends).read(&mut buffer), Ok(count) if count > 0) {
            self.asked_to_end = true;
        }
        self.drain();
        Ok(())
    }

    fn drain(&mut self) {
        let log = &mut self.log;
        self.outputs.retain_mut(|(pipe, lines)| {
            let mut buffer = [0; 16 << 10];
            // Bounded, so that one that never stops talking does not keep the others waiting.
            for _ in 0..64 {
                match pipe.read(&mut buffer) {
                    Ok(0) => {
                        lines.finish(log);
                        return false;
                    }
                    Ok(count) => lines.add(&buffer[..count], log),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
            }
            true
        });
    }

    /// Takes leave of every child that has ended. `false`: there is none left, running or not.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let index = self.processes.iter().position(|process| process.pid == Some(pid));
                    if let Some(index) = index {
                        if self.asked_to_end {
                            self.processes[index].pid = None;
                            self.status.processes[index].running = false;
                        } else {
                            self.died(index, &how(status));
                        }
                    }
                }
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Asks everything to end, kills what does not, and writes down which it was.
    fn end(&mut self) {
        self.asked_to_end = true;
        let mut stopped = Stopped::Clean;
        let grace = Deadline::after(Duration::from_secs(self.deployed.grace));
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        while self.reap() && !grace.is_over() {
            let _ = self.wait_for_news(Some(grace.left().min(TICK)));
        }
        // Where no namespace holds them, new ones may be born while the old are killed.
        while self.reap() {
            stopped = Stopped::Killed;
            self.signal(Signal::KILL);
            let _ = self.wait_for_news(Some(Duration::from_millis(50)));
        }
        self.drain();
        self.log.note(&format!("{} {stopped}", self.deployed.identity.version));
        self.status.stopped = Some(stopped);
        let _ = self.status.write(&self.folder);
    }

    /// To every process of the app.
    fn signal(&self, signal: Signal) {
        if self.status.containment == Containment::Session {
            for pid in descendants() {
                let _ = rustix::process::kill_process(pid, signal);
            }
        } else if rustix::process::getpid().is_init() && procfs::this_process().is_ok_and(|me| me.pid != 1) {
            // Everything in this namespace but this process. Both conditions: nowhere else may this ever be said.
            let _ = rustix::process::kill_process_group(Pid::INIT, signal);
        }
    }
}

/// This program, about to become a process of the app.
fn entering() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([super::supervisor::SUBCOMMAND, "enter"]).env_clear().current_dir("/").stdin(Stdio::piped());
    command
}

fn feed(child: &mut std::process::Child, cell: &Cell) -> Result<()> {
    let mut stdin = child.stdin.take().context("no stdin")?;
    Ok(stdin.write_all(&serde_json::to_vec(cell)?)?)
}

fn how(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Every process whose parents lead to this one; orphans among them were handed to it by the kernel.
fn descendants() -> Vec<Pid> {
    let all = procfs::all();
    let mut found = vec![rustix::process::getpid().as_raw_pid()];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.id.pid));
        at += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}
