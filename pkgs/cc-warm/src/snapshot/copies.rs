//! Copies there and back: a snapshot of live volumes, and a snapshot's data beside them.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Map;

use super::Progress;
use super::exchange::{self, Exchange};
use super::placeholder::copy;
use super::record::{Copied, DATA, FORMAT, Snapshot, SnapshotId, Tag, Volume};
use super::store::{Store, helper};
use crate::identity::Env;
use crate::sys::{durable, fault};

/// On what the time of a snapshot went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Copying.
    pub copy: Duration,
    /// Checking the copy.
    pub verify: Duration,
    /// Making it durable.
    pub sync: Duration,
}

impl Store {
    /// Copies `volumes`, verified and durable. Not yet the known-good. `env` is what the app ran with.
    pub fn take(
        &self,
        id: &SnapshotId,
        volumes: &[Volume],
        tag: &Tag,
        env: &Env,
        _: &dyn Progress,
    ) -> Result<(Snapshot, Spent)> {
        let mut spent = Spent::default();
        let new = self.begin(id)?;
        // Opened before the first byte: an error of writing back is told once, to whoever had it open.
        let target = File::open(&new)?;
        let data = new.join("volumes");
        durable::make_dir(&data)?;
        let since = Instant::now();
        for volume in volumes {
            super::record::must_be_a_name(&volume.name)?;
            copy(&volume.data(), &data.join(&volume.name))?;
        }
        spent.copy = since.elapsed();
        fault::point("snapshot.take.copied")?;
        let since = Instant::now();
        rustix::fs::syncfs(&target).with_context(|| format!("the snapshot in `{}` is not durable", new.display()))?;
        fault::point("snapshot.take.synced")?;
        let copied =
            |volume: &Volume| Copied { name: volume.name.clone(), dir: volume.dir.clone(), unknown: Map::new() };
        let snapshot = Snapshot {
            format: FORMAT,
            helper: helper(),
            id: id.clone(),
            tag: tag.clone(),
            volumes: volumes.iter().map(copied).collect(),
            unknown: Map::new(),
        };
        self.complete(&new, &snapshot, env)?;
        spent.sync = since.elapsed();
        Ok((snapshot, spent))
    }

    /// Builds the data of the snapshot `id` beside what is live in `volumes`, verified and durable.
    pub fn build(
        &self,
        id: &SnapshotId,
        volumes: &[Volume],
        operation: &str,
        _: &dyn Progress,
    ) -> Result<Vec<Exchange>> {
        for volume in volumes {
            let folder = exchange::new_folder(volume, operation);
            if fs::symlink_metadata(&folder).is_ok() {
                // Of an attempt that was cut short.
                self.discard(&folder)?;
            }
        }
        let mut exchanges = Vec::new();
        for volume in volumes {
            let folder = exchange::new_folder(volume, operation);
            make_private(&folder)?;
            fault::point("snapshot.build.begun")?;
            let target = File::open(&folder)?;
            copy(&self.folder(id).join("volumes").join(&volume.name), &folder.join(DATA))?;
            fault::point("snapshot.build.copied")?;
            rustix::fs::syncfs(&target)
                .with_context(|| format!("the restored data in `{}` is not durable", folder.display()))?;
            fault::point("snapshot.build.synced")?;
            exchanges.push(Exchange::between(volume, operation)?);
        }
        Ok(exchanges)
    }
}

/// Makes the folder `path`, which nobody else may enter.
fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make `{}`", path.display()))?;
    durable::sync_dir(path.parent().unwrap_or(path))
}
