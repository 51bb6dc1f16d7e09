//! Whether a snapshot, and the way back from it, will fit: counted before any downtime, for each file system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::statfs;
use serde::{Deserialize, Serialize};

use super::copies::{Folder, Staged};
use super::garbage::{TRASH, UNFINISHED};
use super::generations::Generations;
use super::measure::{self, Totals};
use super::record::{Snapshot, Volume};
use super::store::Store;
use super::trial::{quotas, reflinks};
use crate::sys::raw;

/// What a reflinked entry takes of the file system's own records, generously.
const RECORDS: u64 = 1024;

/// What a snapshot would take, and whether there is room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// Each volume.
    pub volumes: Vec<VolumeNeed>,
    /// Each file system that something is written to.
    pub file_systems: Vec<FileSystem>,
    /// Bytes that stay free on each.
    pub reserve: u64,
    /// Where it turned out, when it was tried, that there is no room although there is space.
    #[serde(default)]
    pub quotas: Vec<Quota>,
}

/// What the snapshot of one volume takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeNeed {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub holds: Totals,
    /// What of it would be copied.
    pub copied: Totals,
    /// Whether its file system shares content with the snapshots' (tried).
    pub reflink: bool,
}

/// One file system: what is there, and what is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSystem {
    /// A folder on it.
    pub path: PathBuf,
    /// Bytes for the snapshot.
    pub snapshot: u64,
    /// Bytes for the way back.
    pub restore: u64,
    /// Inodes for both.
    pub inodes: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Inodes that are free; `None`: they are made as they are needed.
    pub free_inodes: Option<u64>,
    #[serde(skip)]
    key: Key,
}

/// A folder in which less can be written than its file system has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// The folder.
    pub path: PathBuf,
    /// Bytes that are needed in it.
    pub needed: u64,
}

/// What two paths on one file system have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Key {
    #[default]
    Unknown,
    Device(u64),
    /// Subvolumes have devices of their own, and share the space.
    Btrfs([u8; 16]),
}

impl Preflight {
    /// Why none can be taken.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let mut short: Vec<String> = self.file_systems.iter().filter_map(|one| one.shortage(self.reserve)).collect();
        short.extend(self.quotas.iter().map(|Quota { path, needed }| {
            format!("in `{}` {} are needed, and a quota leaves less", path.display(), bytes(*needed))
        }));
        (!short.is_empty()).then(|| short.join("; "))
    }

    /// What the volumes hold in all.
    #[must_use]
    pub fn holds(&self) -> Totals {
        self.volumes.iter().fold(Totals::default(), |sum, volume| sum.plus(volume.holds))
    }

    /// What would be copied in all.
    #[must_use]
    pub fn copied(&self) -> Totals {
        self.volumes.iter().fold(Totals::default(), |sum, volume| sum.plus(volume.copied))
    }
}

impl FileSystem {
    fn shortage(&self, reserve: u64) -> Option<String> {
        let needed = self.snapshot.saturating_add(self.restore).saturating_add(reserve);
        let at = self.path.display();
        if needed > self.free {
            return Some(format!(
                "on the file system of `{at}` {} are needed ({} for the snapshot, {} for the way back, {} in reserve), {} are free",
                bytes(needed),
                bytes(self.snapshot),
                bytes(self.restore),
                bytes(reserve),
                bytes(self.free)
            ));
        }
        let free = self.free_inodes?;
        (self.inodes > free)
            .then(|| format!("on the file system of `{at}` {} inodes are needed, {free} are free", self.inodes))
    }
}

/// Bytes as people read them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn bytes(count: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

/// What is needed, and where, as it is added up.
struct Needs {
    /// The first one is that of the snapshots.
    file_systems: Vec<FileSystem>,
    /// Each with the folder that it comes back to.
    volumes: Vec<(VolumeNeed, PathBuf)>,
}

impl Needs {
    fn in_store(dir: &Path) -> Result<Self> {
        Ok(Self { file_systems: vec![file_system(dir)?], volumes: Vec::new() })
    }

    /// Adds what of the volume called `name` is copied into the snapshots, and what comes back to `dir`.
    fn add(&mut self, name: &str, dir: &Path, holds: Totals, copied: Totals) -> Result<()> {
        let found = file_system(dir)?;
        let known = self.file_systems.iter().position(|known| known.key == found.key);
        let at = known.unwrap_or_else(|| {
            self.file_systems.push(found);
            self.file_systems.len() - 1
        });
        let reflink = reflinks(dir, &self.file_systems[0].path);
        let need = VolumeNeed { name: name.to_owned(), holds, copied, reflink };
        self.count(&need, at);
        self.volumes.push((need, dir.to_owned()));
        Ok(())
    }

    /// Counts `need`, which comes back to the file system `at`.
    fn count(&mut self, need: &VolumeNeed, at: usize) {
        let there = &mut self.file_systems[0];
        there.snapshot = there.snapshot.saturating_add(need.snapshot());
        there.inodes = there.inodes.saturating_add(need.copied.entries);
        let back = &mut self.file_systems[at];
        back.restore = back.restore.saturating_add(need.restore());
        back.inodes = back.inodes.saturating_add(need.holds.entries);
    }

    /// All of it. Where nothing else speaks against it, what is not seen by counting is tried.
    fn preflight(self, reserve: u64) -> Result<Preflight> {
        let snapshots = self.volumes.iter().map(|(need, _)| need.snapshot()).sum();
        let mut wanted = vec![(self.file_systems[0].path.join(UNFINISHED), snapshots)];
        wanted.extend(self.volumes.iter().map(|(need, dir)| (dir.join(TRASH), need.restore())));
        let volumes = self.volumes.into_iter().map(|(need, _)| need).collect();
        let mut found = Preflight { volumes, file_systems: self.file_systems, reserve, quotas: Vec::new() };
        if found.refusal().is_none() {
            found.quotas = quotas(&wanted)?;
        }
        Ok(found)
    }
}

impl VolumeNeed {
    /// Bytes for the snapshot.
    fn snapshot(&self) -> u64 {
        space(self.copied, self.reflink)
    }

    /// Bytes for the way back.
    fn restore(&self) -> u64 {
        space(self.holds, self.reflink)
    }
}

fn space(totals: Totals, reflink: bool) -> u64 {
    if reflink { totals.entries.saturating_mul(RECORDS) } else { totals.bytes }
}

impl Store {
    /// What a snapshot of `volumes` takes, and the way back from it. Writes nothing but two files of a block, and one of
    /// what is needed where room can only be tried; they are gone again. With a staging copy: what it takes beyond that.
    pub fn preflight(&self, volumes: &[Volume], reserve: u64, staged: Option<&Staged>) -> Result<Preflight> {
        crate::sys::durable::make_dir(&self.dir)?;
        // Without them nothing could be promoted, which would be found out once the app is down.
        Generations::read(&self.dir)?;
        let mut needs = Needs::in_store(&self.dir)?;
        for volume in volumes {
            let (holds, copied) = self.estimate(volume, staged)?;
            needs.add(&volume.name, &volume.dir, holds, copied)?;
        }
        needs.preflight(reserve)
    }

    /// What it takes to build the data of `snapshot` beside what is live in `volumes`. Nothing is held in reserve: that is
    /// what it is for. A volume that does not exist is taken to come to where the first one is.
    ///
    /// Its trees are measured: a file's blocks are what is needed, and a manifest has the bytes of content.
    pub fn preflight_back(&self, volumes: &[Volume], snapshot: &Snapshot) -> Result<Preflight> {
        let mut needs = Needs::in_store(&self.dir)?;
        let folder = Folder::of(self.folder(&snapshot.id));
        for copy in &snapshot.volumes {
            let live = volumes.iter().find(|volume| volume.name == copy.name).or(volumes.first());
            if let Some(live) = live {
                let holds = measure::tree(&folder.tree(&copy.name))?;
                needs.add(&copy.name, &live.dir, holds, Totals::default())?;
            }
        }
        needs.preflight(0)
    }

    /// What `volume` holds, and what of it a snapshot would copy.
    fn estimate(&self, volume: &Volume, staged: Option<&Staged>) -> Result<(Totals, Totals)> {
        let known = match staged {
            Some(staged) => self.of_staged(staged, &volume.name),
            None => self.base().and_then(|base| self.known(&base, &volume.name)),
        };
        let found = measure::live(&volume.data(), known.as_ref())?;
        Ok((found.holds, found.copied))
    }
}

fn file_system(path: &Path) -> Result<FileSystem> {
    let found = statfs(path).with_context(|| format!("cannot ask the file system of `{}`", path.display()))?;
    let block = u64::try_from(found.f_bsize).unwrap_or(1);
    let open = || -> Result<Key> {
        let file = fs::File::open(path)?;
        Ok(match raw::btrfs_id(&file) {
            Ok(id) => Key::Btrfs(id),
            Err(_) => Key::Device(file.metadata()?.dev()),
        })
    };
    let key = open().with_context(|| format!("cannot open `{}`", path.display()))?;
    Ok(FileSystem {
        path: path.to_owned(),
        snapshot: 0,
        restore: 0,
        inodes: 0,
        free: found.f_bavail.saturating_mul(block),
        free_inodes: (found.f_files > 0).then_some(found.f_ffree),
        key,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(path: &str, free: u64, free_inodes: Option<u64>) -> FileSystem {
        let path = PathBuf::from(path);
        FileSystem { path, snapshot: 0, restore: 0, inodes: 0, free, free_inodes, key: Key::Unknown }
    }

    fn count(file_systems: Vec<FileSystem>, volumes: &[(VolumeNeed, usize)], reserve: u64) -> Preflight {
        let mut needs = Needs { file_systems, volumes: Vec::new() };
        for (need, at) in volumes {
            needs.count(need, *at);
        }
        needs.preflight(reserve).unwrap()
    }

    fn need(bytes: u64, copied: u64, entries: u64, reflink: bool) -> VolumeNeed {
        let (holds, copied) = (Totals { entries, bytes }, Totals { entries, bytes: copied });
        VolumeNeed { name: "v".to_owned(), holds, copied, reflink }
    }

    #[test]
    fn each_file_system_must_hold_what_is_written_to_it() {
        let table = [
            // On one file system: snapshot, way back, reserve.
            (vec![place("/s", 2100, None)], vec![(need(1000, 1000, 1, false), 0)], None),
            (vec![place("/s", 2099, None)], vec![(need(1000, 1000, 1, false), 0)], Some("/s")),
            // What is taken over is not copied, but comes back.
            (vec![place("/s", 1110, None)], vec![(need(1000, 10, 1, false), 0)], None),
            // On two.
            (vec![place("/s", 1100, None), place("/v", 1100, None)], vec![(need(1000, 1000, 1, false), 1)], None),
            (vec![place("/s", 1100, None), place("/v", 1099, None)], vec![(need(1000, 1000, 1, false), 1)], Some("/v")),
            (vec![place("/s", 1099, None), place("/v", 1100, None)], vec![(need(1000, 1000, 1, false), 1)], Some("/s")),
            // Shared content needs records only.
            (vec![place("/s", 10_000, None)], vec![(need(1 << 40, 1 << 40, 4, true), 0)], None),
            // Inodes.
            (vec![place("/s", 9999, Some(8))], vec![(need(100, 100, 4, false), 0)], None),
            (vec![place("/s", 9999, Some(7))], vec![(need(100, 100, 4, false), 0)], Some("inodes")),
        ];
        for (file_systems, volumes, refused) in table {
            let preflight = count(file_systems, &volumes, 100);
            let refusal = preflight.refusal();
            assert_eq!(refusal.is_some(), refused.is_some(), "{preflight:?}");
            assert!(refusal.unwrap_or_default().contains(refused.unwrap_or_default()));
        }
    }

    #[test]
    fn a_refusal_names_what_is_needed_for_what() {
        let refusal = count(vec![place("/s", 1 << 20, None)], &[(need(3 << 20, 3 << 20, 1, false), 0)], 5).refusal();
        insta::assert_snapshot!(refusal.unwrap(), @"on the file system of `/s` 6.0 MiB are needed (3.0 MiB for the snapshot, 3.0 MiB for the way back, 5 bytes in reserve), 1.0 MiB are free");
    }

    proptest! {
        #[test]
        fn what_fits_leaves_the_reserve_free(
            free in 0..5000_u64, reserve in 0..1000_u64,
            volumes in prop::collection::vec((0..1000_u64, 0..1000_u64), 0..5),
        ) {
            let needs: Vec<_> =
                volumes.iter().map(|(bytes, copied)| (need(*bytes, (*copied).min(*bytes), 1, false), 0)).collect();
            let written: u64 = volumes.iter().map(|(bytes, copied)| bytes + copied.min(bytes)).sum();
            let fits = count(vec![place("/s", free, None)], &needs, reserve).refusal().is_none();
            prop_assert_eq!(fits, free >= reserve + written);
        }
    }

    #[test]
    fn a_volume_is_measured_and_nothing_is_left_of_the_trial() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&crate::sys::dirs::Dirs::new(dir.path()), &"login".parse().unwrap());
        let volume = Volume { name: "v".to_owned(), dir: dir.path().join("v") };
        fs::create_dir_all(volume.data()).unwrap();
        fs::write(volume.data().join("file"), vec![1; 1 << 20]).unwrap();
        let found = store.preflight(std::slice::from_ref(&volume), 0, None).unwrap();
        assert_eq!((found.volumes[0].holds.entries, found.file_systems.len()), (2, 1));
        assert!(found.copied().bytes >= 1 << 20);
        assert_eq!(found.refusal(), None);
        assert!(store.preflight(std::slice::from_ref(&volume), u64::MAX, None).unwrap().refusal().is_some());
        assert_eq!(fs::read_dir(&volume.dir).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 0);
    }
}
