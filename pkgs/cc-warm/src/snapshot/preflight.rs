//! Whether a snapshot, and the way back from it, will fit: counted before any downtime, for each file system.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::copies::{Folder, Staged};
use super::garbage::{TRASH, UNFINISHED};
use super::generations::Generations;
use super::measure::{self, Measured, Totals, Unsuitable};
use super::record::{Snapshot, Volume};
use super::room::{FileSystem, bytes, identify};
use super::stat::Time;
use super::store::Store;
use super::trial::{lost_time, quotas, reflinks};

/// What is written down of an entry: measured, 140 bytes for one of a usual name.
const LINES: u64 = 200;

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
    /// Bytes of its content.
    #[serde(skip)]
    content: u64,
    #[serde(skip)]
    sizes: Sizes,
}

/// Bytes that the snapshot of a volume takes, and the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sizes {
    snapshot: u64,
    restore: u64,
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
        self.volumes.iter().map(|volume| volume.holds).sum()
    }

    /// What the volumes hold in all, in bytes of content: of that a copy's progress is a part.
    #[must_use]
    pub fn content(&self) -> Totals {
        let bytes = self.volumes.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.content));
        Totals { bytes, ..self.holds() }
    }

    /// What would be copied in all.
    #[must_use]
    pub fn copied(&self) -> Totals {
        self.volumes.iter().map(|volume| volume.copied).sum()
    }
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
        let mut needs = Self { file_systems: Vec::new(), volumes: Vec::new() };
        needs.place(dir)?;
        Ok(needs)
    }

    /// Which of the file systems `dir` is on.
    fn place(&mut self, dir: &Path) -> Result<usize> {
        let (key, kind) = identify(dir)?;
        if let Some(known) = self.file_systems.iter().position(|known| known.key == key) {
            return Ok(known);
        }
        self.file_systems.push(FileSystem::at(dir, key, kind)?);
        Ok(self.file_systems.len() - 1)
    }

    /// Bytes of the smallest piece of content, in the snapshots and on the file system `at`.
    fn block(&self, at: usize) -> u64 {
        self.file_systems[at].block.max(self.file_systems[0].block)
    }

    /// Adds what of the volume called `name` is copied into the snapshots, and what comes back to `dir`, which is on the file
    /// system `at`.
    fn add(&mut self, name: &str, (dir, at): (&Path, usize), found: &Measured) {
        let reflink = reflinks(dir, &self.file_systems[0].path);
        let (holds, copied) = (found.holds.totals, found.copied.totals);
        let linked = holds.entries.saturating_sub(copied.entries);
        let lines = holds.entries.saturating_mul(LINES);
        let sizes = Sizes {
            snapshot: self.file_systems[0].takes(found.copied, reflink, linked).saturating_add(lines),
            restore: self.file_systems[at].takes(found.holds, reflink, 0),
        };
        let need = VolumeNeed { name: name.to_owned(), holds, copied, reflink, content: found.holds.content, sizes };
        self.count(&need, at);
        self.volumes.push((need, dir.to_owned()));
    }

    /// Counts `need`, which comes back to the file system `at`.
    fn count(&mut self, need: &VolumeNeed, at: usize) {
        let there = &mut self.file_systems[0];
        there.snapshot = there.snapshot.saturating_add(need.sizes.snapshot);
        there.inodes = there.inodes.saturating_add(need.copied.entries);
        let back = &mut self.file_systems[at];
        back.restore = back.restore.saturating_add(need.sizes.restore);
        back.inodes = back.inodes.saturating_add(need.holds.entries);
    }

    /// All of it. Where nothing else speaks against it, what is not seen by counting is tried.
    fn preflight(self, reserve: u64) -> Result<Preflight> {
        let snapshots = self.volumes.iter().map(|(need, _)| need.sizes.snapshot).sum();
        let mut wanted = vec![(self.file_systems[0].path.join(UNFINISHED), snapshots)];
        wanted.extend(self.volumes.iter().map(|(need, dir)| (dir.join(TRASH), need.sizes.restore)));
        let volumes = self.volumes.into_iter().map(|(need, _)| need).collect();
        let mut found = Preflight { volumes, file_systems: self.file_systems, reserve, quotas: Vec::new() };
        if found.refusal().is_none() {
            found.quotas = quotas(&wanted)?;
        }
        Ok(found)
    }
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
            let at = needs.place(&volume.dir)?;
            let found = self.estimate(volume, staged, needs.block(at))?;
            if let Some(Time { seconds, nanos }) = lost_time(&self.dir, found.times.hardest())? {
                let at = Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0));
                let at = at.map_or_else(|_| format!("{seconds} s after 1970"), |at| at.to_string());
                let (data, dir) = (volume.data(), &self.dir);
                return Err(Unsuitable(format!(
                    "something in `{}` was changed at {at}, a time that the file system of `{}` cannot keep",
                    data.display(),
                    dir.display()
                ))
                .into());
            }
            needs.add(&volume.name, (&volume.dir, at), &found);
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
                let at = needs.place(&live.dir)?;
                let holds = measure::tree(&folder.tree(&copy.name), needs.block(at))?;
                needs.add(&copy.name, (&live.dir, at), &Measured { holds, ..Measured::default() });
            }
        }
        needs.preflight(0)
    }

    /// What `volume` holds, and what of it a snapshot would copy, in blocks of `block` bytes.
    fn estimate(&self, volume: &Volume, staged: Option<&Staged>, block: u64) -> Result<Measured> {
        let known = match staged {
            Some(staged) => self.of_staged(staged, &volume.name),
            None => self.base().and_then(|base| self.known(&base, &volume.name)),
        };
        measure::live(&volume.data(), known.as_ref(), block)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::room::tests::place;
    use super::*;

    fn count(file_systems: Vec<FileSystem>, volumes: &[(VolumeNeed, usize)], reserve: u64) -> Preflight {
        let mut needs = Needs { file_systems, volumes: Vec::new() };
        for (need, at) in volumes {
            needs.count(need, *at);
        }
        needs.preflight(reserve).unwrap()
    }

    fn need(bytes: u64, copied: u64, entries: u64) -> VolumeNeed {
        let sizes = Sizes { snapshot: copied, restore: bytes };
        let (holds, copied) = (Totals { entries, bytes }, Totals { entries, bytes: copied });
        VolumeNeed { name: "v".to_owned(), holds, copied, reflink: false, content: bytes, sizes }
    }

    #[test]
    fn each_file_system_must_hold_what_is_written_to_it() {
        let table = [
            // On one file system: snapshot, way back, reserve.
            (vec![place("/s", 2100, None)], vec![(need(1000, 1000, 1), 0)], None),
            (vec![place("/s", 2099, None)], vec![(need(1000, 1000, 1), 0)], Some("/s")),
            // What is taken over is not copied, but comes back.
            (vec![place("/s", 1110, None)], vec![(need(1000, 10, 1), 0)], None),
            // On two.
            (vec![place("/s", 1100, None), place("/v", 1100, None)], vec![(need(1000, 1000, 1), 1)], None),
            (vec![place("/s", 1100, None), place("/v", 1099, None)], vec![(need(1000, 1000, 1), 1)], Some("/v")),
            (vec![place("/s", 1099, None), place("/v", 1100, None)], vec![(need(1000, 1000, 1), 1)], Some("/s")),
            // Inodes.
            (vec![place("/s", 9999, Some(8))], vec![(need(100, 100, 4), 0)], None),
            (vec![place("/s", 9999, Some(7))], vec![(need(100, 100, 4), 0)], Some("inodes")),
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
        let refusal = count(vec![place("/s", 1 << 20, None)], &[(need(3 << 20, 3 << 20, 1), 0)], 5).refusal();
        insta::assert_snapshot!(refusal.unwrap(), @"on the file system of `/s` 6.0 MiB are needed (3.0 MiB for the snapshot, 3.0 MiB for the way back, 5 bytes in reserve), 1.0 MiB are free");
    }

    proptest! {
        #[test]
        fn what_fits_leaves_the_reserve_free(
            free in 0..5000_u64, reserve in 0..1000_u64,
            volumes in prop::collection::vec((0..1000_u64, 0..1000_u64), 0..5),
        ) {
            let needs: Vec<_> =
                volumes.iter().map(|(bytes, copied)| (need(*bytes, (*copied).min(*bytes), 1), 0)).collect();
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
