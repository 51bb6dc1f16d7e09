//! What is known of a snapshot (`manifest.json`, format 1): written once, last of all, never changed. A folder without one
//! is no snapshot.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::measure::Totals;
use super::tree::Copied;
use crate::config::names::AppName;
use crate::identity::Identity;
use crate::sys::{durable, random};

/// The newest format that this program reads and writes.
pub(super) const FORMAT: u32 = 1;
/// The data of a volume, in its folder.
pub(super) const DATA: &str = "_data";

/// A volume of an app: the folder that holds `_data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on the host.
    pub name: String,
    /// The folder in which `_data` lies.
    pub dir: PathBuf,
}

impl Volume {
    /// Its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }
}

/// A snapshot's id: random, safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// A new one.
    pub fn random() -> Result<Self> {
        Ok(Self(random::id()?))
    }

    /// One that was written down.
    pub fn parse(text: &str) -> Result<Self> {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric());
        ensure!(fits, "`{text}` is no snapshot's id");
        Ok(Self(text.to_owned()))
    }

    /// As a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl SnapshotId {
    pub(crate) fn new(text: &str) -> Self {
        Self::parse(text).unwrap()
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
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
    /// Volumes that were there and were left out, since they were `unmanaged`; `None`: an older program did not write them
    /// down.
    #[serde(default)]
    pub left_out: Option<Vec<String>>,
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The program that took it.
    pub helper: String,
    /// Its id.
    pub id: SnapshotId,
    /// What it is of.
    pub tag: Tag,
    /// Its volumes, sorted by name.
    pub volumes: Vec<VolumeCopy>,
    /// How many snapshots before it in a row took something over.
    #[serde(default)]
    pub since_full: u32,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One volume's copy in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeCopy {
    /// The volume's name.
    pub name: String,
    /// The folder that held its data when it was copied.
    pub dir: PathBuf,
    /// Entries, the top and sockets among them.
    pub entries: u64,
    /// Bytes of content, holes left out.
    pub bytes: u64,
    /// Bytes that had to be written.
    pub written: u64,
    /// Files that share their content with the live data's.
    pub reflinked: u64,
    /// Files that were taken over from the snapshot before.
    pub taken_over: u64,
    /// Sockets, which were left out.
    pub sockets: u64,
    /// Entries of which the file system of the snapshots cannot have all flags, the project or the like.
    pub lessened: u64,
    /// Whether each file's content was digested when it was copied.
    #[serde(default)]
    pub digested: bool,
    /// What was made of the snapshot before, in words.
    pub takeover: String,
    /// Checksum of what was recorded of it.
    pub sum: String,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl VolumeCopy {
    pub(super) fn of(volume: &Volume, copied: Copied) -> Self {
        Self {
            name: volume.name.clone(),
            dir: volume.dir.clone(),
            entries: copied.entries,
            bytes: copied.bytes,
            written: copied.written,
            reflinked: copied.reflinked,
            taken_over: copied.taken_over,
            sockets: copied.sockets,
            lessened: copied.lessened,
            digested: copied.digested,
            takeover: copied.takeover.to_string(),
            sum: copied.sum,
            unknown: Map::new(),
        }
    }

    /// How much it is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { entries: self.entries, bytes: self.bytes }
    }
}

impl Snapshot {
    /// How much it is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.volumes.iter().map(VolumeCopy::totals).sum()
    }

    /// The names of its volumes.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().map(|volume| volume.name.as_str())
    }

    /// The one in the folder `dir`; `None` if there is none.
    pub(super) fn read(dir: &Path, id: &SnapshotId) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        let Some(value) = durable::read_json::<Value>(&path)? else { return Ok(None) };
        must_be_readable(&path, &value)?;
        let found: Self =
            serde_json::from_value(value).with_context(|| format!("`{}` does not parse", path.display()))?;
        ensure!(found.id == *id, "`{}` is of snapshot {}", path.display(), found.id);
        for volume in found.volume_names() {
            must_be_a_name(volume).with_context(|| format!("in `{}`", path.display()))?;
        }
        Ok(Some(found))
    }
}

/// The manifest's name in a snapshot's folder.
pub(super) const MANIFEST: &str = "manifest.json";

/// Refuses what a newer program wrote, by name.
pub(super) fn must_be_readable(path: &Path, value: &Value) -> Result<()> {
    let format = value.get("format").and_then(Value::as_u64);
    if format == Some(u64::from(FORMAT)) {
        return Ok(());
    }
    let found = format.map_or_else(|| "no format".to_owned(), |found| format!("format {found}"));
    let helper = value.get("helper").and_then(Value::as_str);
    let writer = helper.map_or_else(String::new, |helper| format!("; it was written by `{}`", helper.escape_debug()));
    bail!("`{}` has {found}, this cc-warm reads format {FORMAT}{writer}", path.display())
}

/// A volume's name becomes a part of paths.
pub(super) fn must_be_a_name(name: &str) -> Result<()> {
    let bad = name.is_empty() || name.starts_with('.') || name.bytes().any(|c| c == b'/' || c == 0) || name.len() > 200;
    if bad { Err(anyhow!("`{}` is no volume's name", name.escape_debug())) } else { Ok(()) }
}
