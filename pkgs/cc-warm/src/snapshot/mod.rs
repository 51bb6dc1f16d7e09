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
