//! Snapshots of volumes.

use std::path::PathBuf;

/// A volume of an app: the folder that holds `_data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on the host.
    pub name: String,
    /// The folder in which `_data` lies.
    pub dir: PathBuf,
}

/// A snapshot's id: random, safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// As it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A pending exchange of one volume's data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exchange {
    /// The volume's name.
    pub volume: String,
}

#[cfg(test)]
impl Exchange {
    pub(crate) fn sample(volume: &str) -> Self {
        Self { volume: volume.to_owned() }
    }
}
