//! Whether a snapshot, and the way back from it, will fit: asked before any downtime.

use anyhow::{Context, Result};

use super::measure;
use super::record::Volume;
use super::store::Store;

/// What a snapshot would take.
#[derive(Debug)]
pub struct Preflight {
    shortage: Option<String>,
}

impl Preflight {
    /// Why none can be taken.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.shortage.clone()
    }
}

impl Store {
    /// Whether one fits.
    pub fn preflight(&self, volumes: &[Volume], reserve: u64) -> Result<Preflight> {
        let mut needed = reserve;
        for volume in volumes {
            needed += 2 * measure::tree(&volume.dir)?.bytes;
        }
        let up = self.dir.parent().context("a store has a folder")?;
        let stat = rustix::fs::statvfs(up)?;
        let free = stat.f_bavail * stat.f_frsize;
        Ok(Preflight { shortage: (free < needed).then(|| format!("{needed} bytes are needed, {free} are free")) })
    }
}
