//! Kernel locks on files: nothing is stale after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::clock::Deadline;

/// Tries to lock `file`, exclusively.
pub fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e).context("cannot lock"),
    }
}

/// Locks `file` before `deadline`; false if somebody else held it until then.
pub fn lock_before(file: &File, deadline: Deadline) -> Result<bool> {
    // flock has no deadline, so it is asked again and again; each time is one system call.
    while !try_lock(file)? {
        if deadline.is_over() {
            return Ok(false);
        }
        std::thread::sleep(deadline.left().min(Duration::from_millis(50)));
    }
    Ok(true)
}

/// Whether somebody holds the lock at `path`.
pub fn is_locked(path: &Path) -> Result<bool> {
    match File::open(path) {
        Ok(file) => Ok(!try_lock(&file)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot open the lock `{}`", path.display())),
    }
}

/// Opens, making it if missing, and locks the file at `path`.
pub fn take(path: &Path, deadline: Deadline) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open the lock `{}`", path.display()))?;
    if !lock_before(&file, deadline)? {
        bail!("`{}` is locked by somebody else", path.display());
    }
    Ok(file)
}
