//! Of stateful apps on one file system, one at a time is stopped: two that copy at once would both be down for longer.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::context::Context;
use super::outcome::Outcome;
use crate::config::App;
use crate::deployer::Deployer;
use crate::sys::clock::Deadline;
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, flock};

/// The longest that others are waited for: their data may be large.
const LIMIT: Duration = Duration::from_hours(2);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(200);

/// The right to be the one that is stopped, until dropped: a kernel lock for each file system, so that nothing is stale.
#[derive(Debug)]
pub struct Turn {
    _locks: Vec<File>,
}

impl Turn {
    /// Waits for the turn of `app`. `None`: it did not come within the limit, or we were asked to end.
    pub fn take(context: &Context<'_>, app: &App, deployer: &dyn Deployer) -> Result<Option<Self>> {
        if !app.stateful {
            return Ok(Some(Self { _locks: Vec::new() }));
        }
        // In one order for all, so that nobody waits for somebody who waits for him.
        let mut devices = BTreeSet::new();
        for volume in deployer.volumes()? {
            let found = fs::metadata(&volume.dir);
            devices.insert(found.with_context(|| format!("cannot look at `{}`", volume.dir.display()))?.dev());
        }
        let deadline = Deadline::after(LIMIT);
        let mut locks = Vec::new();
        for device in devices {
            match lock(context, device, deadline)? {
                Some(file) => locks.push(file),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { _locks: locks }))
    }
}

/// How an operation ends whose turn did not come.
#[must_use]
pub fn missed(context: &Context<'_>) -> Outcome {
    if context.host.interrupt.is_set() {
        return Outcome::Cancelled;
    }
    Outcome::NotReady { reason: Untrusted::new("another app on the same file system has been stopped for hours") }
}

fn lock(context: &Context<'_>, device: u64, deadline: Deadline) -> Result<Option<File>> {
    let folder = context.host.dirs.stopped();
    durable::make_dir(&folder)?;
    let path = folder.join(device.to_string());
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.with_context(|| format!("cannot open the lock `{}`", path.display()))?;
    let mut told = false;
    while !flock::try_lock(&file)? {
        if deadline.is_over() || context.host.interrupt.is_set() {
            return Ok(None);
        }
        if !told {
            context.narrator.say("waiting: another app on the same file system is stopped");
            told = true;
        }
        std::thread::sleep(PAUSE.min(deadline.left()));
    }
    Ok(Some(file))
}
