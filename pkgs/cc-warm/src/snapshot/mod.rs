//! Snapshots of volumes.

pub mod beneath;
#[cfg(test)]
mod beneath_tests;
pub mod catalog;
mod content;
mod crew;
mod data;
pub mod descent;
mod early;
pub mod entry;
#[cfg(test)]
mod file_system_tests;
pub mod flags;
mod links;
mod make;
pub mod meter;
pub mod moment;
pub mod names;
pub mod predecessor;
pub mod restore;
pub mod scrub;
pub mod take;
mod take_entry;
pub mod takeover;
#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod test_tree;
pub mod tree;
#[cfg(test)]
mod tree_tests;
pub mod verify;
mod verify_walk;
mod xattrs;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::duration::Span;
use crate::config::names::AppName;
use crate::identity::Identity;
use crate::sys::command::Program;
use crate::sys::dirs::Dirs;
use crate::sys::{durable, random};

/// A volume of an app: the folder that holds `_data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on the host.
    pub name: String,
    /// The folder in which `_data` lies.
    pub dir: PathBuf,
}

/// A snapshot's id: random, safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// As it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new one.
    pub fn random() -> Result<Self> {
        Ok(Self(random::id()?))
    }

    /// One that a person wrote.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(!text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric()), "`{text}` is no snapshot's id");
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// The app.
    pub app: AppName,
    /// What ran on the data.
    pub identity: Identity,
    /// When.
    pub taken_at: Timestamp,
    /// The operation that took it.
    pub operation: String,
    /// Whether the app had to be killed before.
    pub unclean: bool,
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What it is of.
    pub tag: Tag,
    volumes: Vec<String>,
}

impl Snapshot {
    /// Its volumes.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().map(String::as_str)
    }
}

/// A pending exchange of one volume's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The volume's name.
    pub volume: String,
    new: u64,
    live: u64,
}

#[cfg(test)]
impl Exchange {
    pub(crate) fn sample(volume: &str) -> Self {
        Self { volume: volume.to_owned(), new: 1, live: 2 }
    }
}

/// Why an exchange did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// What is live is neither the restored data nor what was live.
    #[error("{0}")]
    Neither(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

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

pub use meter::Progress;

/// The snapshots of one app.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    trash: PathBuf,
}

impl Store {
    /// Those of `app`.
    #[must_use]
    pub fn new(dirs: &Dirs, app: &AppName) -> Self {
        Self { dir: dirs.app(app.as_str()).snapshots(), trash: dirs.trash() }
    }

    /// Whether one fits.
    pub fn preflight(&self, volumes: &[Volume], reserve: u64) -> Result<Preflight> {
        let mut needed = reserve;
        for volume in volumes {
            let used = Program::new("du").args(["-s", "-B1", "--"]).arg(&volume.dir).run_ok()?;
            let text = String::from_utf8_lossy(&used.stdout).into_owned();
            needed += 2 * text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        let up = self.dir.parent().context("a store has a folder")?;
        let stat = rustix::fs::statvfs(up)?;
        let free = stat.f_bavail * stat.f_frsize;
        Ok(Preflight { shortage: (free < needed).then(|| format!("{needed} bytes are needed, {free} are free")) })
    }

    /// Copies `volumes`, verified and durable. Not yet the known-good.
    pub fn take(
        &self,
        id: &SnapshotId,
        volumes: &[Volume],
        tag: &Tag,
        _staged: Option<()>,
        _: &dyn Progress,
    ) -> Result<Snapshot> {
        durable::make_dir(&self.dir)?;
        let new = self.dir.join(format!(".new-{id}"));
        fs::create_dir(&new)?;
        for volume in volumes {
            copy(&volume.dir.join("_data"), &new.join(&volume.name))?;
        }
        let snapshot =
            Snapshot { id: id.clone(), tag: tag.clone(), volumes: volumes.iter().map(|v| v.name.clone()).collect() };
        rustix::fs::syncfs(File::open(&new)?)?;
        durable::replace_json(&new.join("manifest.json"), &snapshot)?;
        durable::rename(&new, &self.dir.join(&id.0))?;
        Ok(snapshot)
    }

    /// Makes it the known-good.
    pub fn promote(&self, id: &SnapshotId) -> Result<()> {
        if let Some(current) = self.current()? {
            if current.id == *id {
                return Ok(());
            }
            self.point("previous", &current.id)?;
        }
        self.point("current", id)
    }

    fn point(&self, name: &str, id: &SnapshotId) -> Result<()> {
        let new = self.dir.join(format!(".{name}"));
        let _ = fs::remove_file(&new);
        symlink(&id.0, &new)?;
        durable::rename(&new, &self.dir.join(name))
    }

    /// The known-good.
    pub fn current(&self) -> Result<Option<Snapshot>> {
        self.named("current")
    }

    /// The one before.
    pub fn previous(&self) -> Result<Option<Snapshot>> {
        self.named("previous")
    }

    fn named(&self, name: &str) -> Result<Option<Snapshot>> {
        match fs::read_link(self.dir.join(name)) {
            Ok(id) => self.get(&SnapshotId::parse(&id.to_string_lossy())?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The snapshot `id`.
    pub fn get(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        durable::read_json(&self.dir.join(&id.0).join("manifest.json"))
    }

    /// All of them.
    pub fn list(&self) -> Result<Vec<Snapshot>> {
        let mut all = BTreeMap::new();
        if let Ok(entries) = fs::read_dir(&self.dir) {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && !entry.file_name().to_string_lossy().starts_with('.')
                    && let Some(snapshot) = self.get(&SnapshotId::parse(&entry.file_name().to_string_lossy())?)?
                {
                    all.insert(snapshot.tag.taken_at, snapshot);
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// Builds the data beside what is live.
    pub fn build(&self, id: &SnapshotId, volumes: &[Volume], op: &str, _: &dyn Progress) -> Result<Vec<Exchange>> {
        let mut all = Vec::new();
        for volume in volumes {
            let new = volume.dir.join(format!(".cc-warm-new-{op}"));
            let _ = fs::remove_dir_all(&new);
            copy(&self.dir.join(&id.0).join(&volume.name), &new)?;
            rustix::fs::syncfs(File::open(&new)?)?;
            let inode = |path: &Path| fs::symlink_metadata(path).map(|m| m.ino());
            all.push(Exchange {
                volume: volume.name.clone(),
                new: inode(&new)?,
                live: inode(&volume.dir.join("_data"))?,
            });
        }
        Ok(all)
    }

    /// Exchanges them; done again, it does what is left.
    pub fn exchange(&self, exchange: &Exchange, volume: &Volume, op: &str) -> Result<(), ExchangeError> {
        let (data, new) = (volume.dir.join("_data"), volume.dir.join(format!(".cc-warm-new-{op}")));
        let here = fs::symlink_metadata(&data).context("no live data")?.ino();
        if here == exchange.live {
            rustix::fs::renameat_with(rustix::fs::CWD, &new, rustix::fs::CWD, &data, rustix::fs::RenameFlags::EXCHANGE)
                .context("the data could not be exchanged")?;
        } else if here != exchange.new {
            return Err(ExchangeError::Neither("the live data is neither".to_owned()));
        }
        if new.exists() {
            fs::rename(&new, volume.dir.join(format!(".cc-warm-failed-{op}")))
                .context("cannot keep the failed data")?;
        }
        durable::sync_dir(&volume.dir)?;
        Ok(())
    }

    /// Moves the data of a volume that the snapshot does not have to the failed data.
    pub fn set_aside(&self, volume: &Volume, op: &str) -> Result<()> {
        fs::rename(volume.dir.join("_data"), volume.dir.join(format!(".cc-warm-failed-{op}")))?;
        durable::sync_dir(&volume.dir)
    }

    /// Deletes what nobody needs.
    pub fn tidy(&self, _: &[Volume], _: Span, _: Span, _: Timestamp) -> Result<()> {
        let _ = &self.trash;
        Ok(())
    }
}

/// Deletes a folder of the state folder.
pub fn discard_tree(_: &Dirs, path: &Path) -> Result<()> {
    fs::remove_dir_all(path)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Program::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=auto", "-T", "--"])
        .arg(from)
        .arg(to)
        .deadline(Duration::from_hours(1))
        .run_ok();
    match done {
        Ok(_) => Ok(()),
        Err(error) => bail!("the copy failed: {error}"),
    }
}
