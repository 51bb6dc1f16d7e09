//! The app lock: a kernel lock, so that nothing is stale after a crash. Its content names the holder; who waits says
//! so. Children that change the app inherit its descriptor, so it outlives a killed cc-warm for as long as they live.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::sys::clock::{Clock, Deadline};
use crate::sys::dirs::Dirs;
use crate::sys::durable;
use crate::sys::flock;
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;

/// The lock of one app, held until dropped.
#[derive(Debug)]
pub struct AppLock {
    file: File,
    path: PathBuf,
}

/// Who holds a lock, by its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// What it does: the command line.
    pub command: String,
    /// Since when (RFC 3339).
    pub since: String,
}

/// Somebody who only asks whether a lock is held takes it for an instant; that is no reason to be busy.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most so long.
    For(Duration),
}

impl AppLock {
    /// Takes the lock of `app`. If somebody else holds it, `waiting` is told once who, and after `wait` the error is
    /// [`Exit::Busy`].
    pub fn take(
        dirs: &Dirs,
        app: &AppName,
        command: &str,
        clock: Clock,
        wait: Wait,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let dir = dirs.app(app.as_str());
        durable::make_dir(dir.root())?;
        let path = dir.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open the lock `{}`", path.display()))?;
        if !flock::try_lock(&file)? {
            let holder = describe_holder(&path);
            let limit = match wait {
                Wait::No => Duration::ZERO,
                Wait::For(limit) => limit,
            };
            if !limit.is_zero() {
                waiting(&holder);
            }
            if !flock::lock_before(&file, Deadline::after(limit.max(GRACE)))? {
                return Err(Problem::new(format!("app `{app}` is busy: {holder}; nothing was touched"))
                    .exit(Exit::Busy)
                    .hint("add `--wait` to wait for it")
                    .into());
            }
        }
        let holder = Holder { pid: std::process::id(), command: command.to_owned(), since: clock.now().to_string() };
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&serde_json::to_vec(&holder)?)?;
        Ok(Self { file, path })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for AppLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Who holds the lock of `app` now; `None` if nobody does.
pub fn holder(dirs: &Dirs, app: &AppName) -> Result<Option<String>> {
    let path = dirs.app(app.as_str()).lock();
    let Ok(file) = File::open(&path) else { return Ok(None) };
    if flock::try_lock(&file)? { Ok(None) } else { Ok(Some(describe_holder(&path))) }
}

/// Waits until nobody holds the lock of `app`. It is not taken, so that whoever is about to start finds it free. `waiting`
/// is told once who holds it. False: it was still held after `limit`, or somebody asked us to end.
pub fn wait_until_free(
    dirs: &Dirs,
    app: &AppName,
    limit: Duration,
    interrupt: &Interrupt,
    waiting: &mut dyn FnMut(&str),
) -> Result<bool> {
    let deadline = Deadline::after(limit);
    let mut told = false;
    while let Some(holder) = holder(dirs, app)? {
        if deadline.is_over() || interrupt.is_set() {
            return Ok(false);
        }
        if !told {
            waiting(&holder);
            told = true;
        }
        std::thread::sleep(deadline.left().min(Duration::from_millis(200)));
    }
    Ok(true)
}

/// In words: what the lock's content says, and whether that process still lives.
fn describe_holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
    let Some(holder) = read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok()) else {
        return "held by an unknown process".to_owned();
    };
    let command = Untrusted::new(holder.command).terminal();
    if Path::new(&format!("/proc/{}", holder.pid)).exists() {
        // Written to the nanosecond; a person reads minutes.
        let since = holder.since.parse::<Timestamp>();
        let since = since.map_or(holder.since, |since| since.strftime("%Y-%m-%d %H:%M UTC").to_string());
        format!("held by process {} (`{command}`) since {since}", holder.pid)
    } else {
        format!("held by a child of process {} (`{command}`), which has ended; it still changes the app", holder.pid)
    }
}
