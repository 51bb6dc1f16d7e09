//! The one place that runs external programs: with a deadline, in a process group of their own, with closed stdin, an
//! environment built from empty, and capped output.

mod pipes;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use self::pipes::{Drain, Feed};
use super::clock::Deadline;
use super::signals::Interrupt;
use super::untrusted::Untrusted;

/// Most bytes kept of each of stdout and stderr.
pub const OUTPUT_CAP: usize = 4 << 20;
/// Where inherited descriptors begin in a child.
const FIRST_INHERITED_FD: i32 = 10;

/// How long what is asked to end has for it.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether we are asked to end: the signal may have come to another thread.
const LOOK: Duration = Duration::from_millis(100);

/// An external program, about to be run.
#[derive(Debug)]
pub struct Program {
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    deadline: Duration,
    stdin: Option<Vec<u8>>,
    user: Option<(u32, u32)>,
    inherited: Vec<OwnedFd>,
    cap: usize,
    interrupt: Option<Interrupt>,
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// At most [`OUTPUT_CAP`] bytes (or [`Program::cap`]).
    pub stdout: Vec<u8>,
    /// Likewise.
    pub stderr: Vec<u8>,
}

/// Why a program gave no [`Output`], or (from [`Program::run_ok`]) a bad one.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It was killed, with all of its process group, because it took too long.
    #[error("`{command}` did not end within {} s and was killed", deadline.as_secs())]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
    /// It was ended, with all of its process group, because we were asked to end.
    #[error("`{command}` was ended, for cc-warm was asked to end")]
    Asked {
        /// The command line.
        command: String,
    },
    /// It ended, but not with success.
    #[error("`{command}` failed ({status}){}", said(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: Untrusted,
    },
    /// Talking to it failed.
    #[error("lost contact with `{command}`")]
    Io {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
}

fn said(stderr: &Untrusted) -> String {
    let text = stderr.terminal_lines();
    let last: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = last[last.len().saturating_sub(5)..].join(" / ");
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

impl Program {
    /// `program` with no arguments, an empty environment but for `PATH`, and a deadline of 60 s.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut env = BTreeMap::new();
        if let Some(path) = std::env::var_os("PATH") {
            env.insert("PATH".into(), path);
        }
        Self {
            argv: vec![program.as_ref().to_owned()],
            env,
            cwd: None,
            deadline: Duration::from_mins(1),
            stdin: None,
            user: None,
            inherited: Vec::new(),
            cap: OUTPUT_CAP,
            interrupt: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Passes on a variable of our own environment, if it is set.
    #[must_use]
    pub fn env_from_ours(mut self, key: &str) -> Self {
        if let Some(value) = std::env::var_os(key) {
            self.env.insert(key.into(), value);
        }
        self
    }

    /// Sets its working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Feeds it `bytes` on stdin, then closes it.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it as this user and group, with no supplementary groups.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Lets it inherit `fd`: a lock it must keep while it changes the app, even if we are killed.
    pub fn inherit(mut self, fd: impl AsFd) -> io::Result<Self> {
        self.inherited.push(fd.as_fd().try_clone_to_owned()?);
        Ok(self)
    }

    /// Keeps at most `cap` bytes of each output.
    #[must_use]
    pub fn cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }

    /// Ends it early, its whole process group, when `interrupt` is set: only for what may be cut short at any moment.
    #[must_use]
    pub fn ends_with(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = Some(interrupt.clone());
        self
    }

    /// The command line, for messages.
    #[must_use]
    pub fn display(&self) -> String {
        let words: Vec<String> =
            self.argv.iter().map(|word| Untrusted::new(word.to_string_lossy()).terminal()).collect();
        words.join(" ")
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<Output, CommandError> {
        let command = self.display();
        let io = |source| CommandError::Io { command: command.clone(), source };
        if self.interrupt.as_ref().is_some_and(Interrupt::is_set) {
            return Err(CommandError::Asked { command });
        }
        let stdin = self.stdin.take();
        let mut child =
            self.spawn(stdin.is_some()).map_err(|source| CommandError::Start { command: command.clone(), source })?;
        match drive(&mut child, stdin, self.cap, Deadline::after(self.deadline), self.interrupt.as_ref()) {
            Ok(Driven::Ended(output)) => Ok(output),
            Ok(Driven::TooLong) => {
                end_group(&mut child).map_err(io)?;
                Err(CommandError::TimedOut { command, deadline: self.deadline })
            }
            Ok(Driven::Asked) => {
                ask_group(&mut child).map_err(io)?;
                Err(CommandError::Asked { command })
            }
            Err(source) => {
                end_group(&mut child).map_err(io)?;
                Err(io(source))
            }
        }
    }

    /// Runs it to its end; anything but success is an error with the end of its stderr.
    pub fn run_ok(self) -> Result<Output, CommandError> {
        let command = self.display();
        let output = self.run()?;
        if output.status.success() {
            return Ok(output);
        }
        let tail = output.stderr.len().saturating_sub(2048);
        Err(CommandError::Failed {
            command,
            status: output.status,
            stderr: Untrusted::from_bytes(&output.stderr[tail..], 2048),
        })
    }

    fn spawn(&mut self, with_stdin: bool) -> io::Result<Child> {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(&self.env).process_group(0);
        command.stdin(if with_stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let mappings = self
            .inherited
            .drain(..)
            .zip(FIRST_INHERITED_FD..)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(|_| io::Error::other("two inherited descriptors collide"))?;
        command.spawn()
    }
}

/// Why a child is not waited for any more.
enum Driven {
    Ended(Output),
    TooLong,
    Asked,
}

/// Feeds and drains `child` until it ends, the deadline is over or `interrupt` is set.
fn drive(
    child: &mut Child,
    stdin: Option<Vec<u8>>,
    cap: usize,
    deadline: Deadline,
    interrupt: Option<&Interrupt>,
) -> io::Result<Driven> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut outputs = [
        Drain::new(child.stdout.take().map(OwnedFd::from), cap)?,
        Drain::new(child.stderr.take().map(OwnedFd::from), cap)?,
    ];
    let mut input = Feed::new(child.stdin.take().map(OwnedFd::from), stdin.unwrap_or_default())?;
    loop {
        if interrupt.is_some_and(Interrupt::is_set) {
            return Ok(Driven::Asked);
        }
        let has_ended = {
            let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
            fds.extend(outputs.iter().filter_map(|o| o.file.as_ref()).map(|f| PollFd::new(f, PollFlags::IN)));
            fds.extend(input.file.as_ref().map(|f| PollFd::new(f, PollFlags::OUT)));
            let left = if interrupt.is_some() { deadline.left().min(LOOK) } else { deadline.left() };
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&left)) {
                Ok(0) if deadline.is_over() => return Ok(Driven::TooLong),
                Ok(_) => !fds[0].revents().is_empty(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        input.write()?;
        for output in &mut outputs {
            output.read()?;
        }
        // What a grandchild that kept the pipe may still write is not waited for.
        if has_ended {
            let status = child.wait()?;
            let [stdout, stderr] = outputs.map(|o| o.bytes);
            return Ok(Driven::Ended(Output { status, stdout, stderr }));
        }
        if deadline.is_over() {
            return Ok(Driven::TooLong);
        }
    }
}

/// Asks the group to end, and ends it when its first process has, or does not.
fn ask_group(child: &mut Child) -> io::Result<()> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let _ = kill_process_group(Pid::from_child(child), Signal::TERM);
    let deadline = Deadline::after(GRACE);
    loop {
        let left = Timespec::try_from(deadline.left()).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return end_group(child),
        }
    }
}

fn end_group(child: &mut Child) -> io::Result<()> {
    // ESRCH: the group is gone already.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().map(drop)
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "{}", self.status),
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
