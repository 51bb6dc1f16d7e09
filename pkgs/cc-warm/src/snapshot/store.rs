//! Where the snapshots of an app lie, and how they get their names.
//!
//! `apps/<app>/snapshots/` holds `<id>/` (see [`record`](super::record)), `generations.json` (which of them are kept), and what
//! is not whole yet under names that say so. Nothing in here is changed once it has its id.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::garbage::UNFINISHED;
use super::generations::Generations;
use super::record::{MANIFEST, Snapshot, SnapshotId, Volume};
use super::trash;
use crate::config::duration::Span;
use crate::config::names::AppName;
use crate::sys::dirs::Dirs;
use crate::sys::{durable, fault};

/// The file with the environment, beside the manifest.
const ENV: &str = "env";

/// In a snapshot's folder, if something is wrong with it.
const DAMAGED: &str = "damaged.json";

/// The snapshots of one app.
#[derive(Debug)]
pub struct Store {
    pub(super) app: AppName,
    /// The folder of snapshots.
    pub(super) dir: PathBuf,
    /// Failed data of volumes that are gone.
    pub(super) failed: PathBuf,
    pub(super) trash: PathBuf,
    /// The state folder.
    pub(super) dirs: Dirs,
    /// Every so many snapshots, nothing is taken over from the one before.
    pub(super) full_every: u32,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be read, the oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that cannot: damaged, or of a newer program. They are left as they are.
    pub unreadable: Vec<Unreadable>,
}

/// A snapshot that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Its id.
    pub id: SnapshotId,
    /// Why.
    pub why: anyhow::Error,
}

/// Which name keeps a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The known-good.
    Current,
    /// The one before.
    Previous,
    /// None: it is deleted once nothing is under way.
    Leftover,
}

impl Store {
    /// Those of `app`, each a full copy.
    #[must_use]
    pub fn new(dirs: &Dirs, app: &AppName) -> Self {
        let of_app = dirs.app(app.as_str());
        let (dir, failed, trash) = (of_app.snapshots(), of_app.failed(), dirs.trash());
        Self { app: app.clone(), dir, failed, trash, dirs: dirs.clone(), full_every: 1 }
    }

    /// In which what did not change is taken over, but for every `full_every`th time.
    #[must_use]
    pub fn full_every(self, full_every: u32) -> Self {
        Self { full_every, ..self }
    }

    /// The folder of the snapshot `id`.
    #[must_use]
    pub fn folder(&self, id: &SnapshotId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// What was kept of the environment of the snapshot `id`.
    pub fn env(&self, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
        durable::read(&self.folder(id).join(ENV))
    }

    /// The snapshot `id`; an error if it is damaged or of a newer program.
    pub fn get(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        let dir = self.folder(id);
        if let Some(snapshot) = Snapshot::read(&dir, id)? {
            return Ok(Some(snapshot));
        }
        // Its manifest is written last, before it gets its name.
        if dir.exists() {
            bail!("snapshot {id} is damaged: `{}` is missing", dir.join(MANIFEST).display());
        }
        Ok(None)
    }

    /// The known-good.
    pub fn current(&self) -> Result<Option<Snapshot>> {
        let Some(names) = Generations::read(&self.dir)? else { return Ok(None) };
        self.named(&names.current, "current").map(Some)
    }

    /// The one before.
    pub fn previous(&self) -> Result<Option<Snapshot>> {
        let names = Generations::read(&self.dir)?;
        let previous = names.and_then(|names| names.previous);
        previous.map(|previous| self.named(&previous.id, "previous")).transpose()
    }

    fn named(&self, id: &SnapshotId, name: &str) -> Result<Snapshot> {
        self.get(id)?.with_context(|| format!("the {name} snapshot {id} is not there: `{}`", self.folder(id).display()))
    }

    /// Which name keeps `id`.
    pub fn role(&self, id: &SnapshotId) -> Result<Role> {
        Ok(match Generations::read(&self.dir)? {
            Some(names) if names.current == *id => Role::Current,
            Some(names) if names.names(id) => Role::Previous,
            _ => Role::Leftover,
        })
    }

    /// All of them.
    pub fn list(&self) -> Result<Listing> {
        let mut all = Listing::default();
        for name in names_in(&self.dir)? {
            let Ok(id) = SnapshotId::parse(&name) else { continue };
            if !self.folder(&id).is_dir() {
                continue;
            }
            match self.get(&id) {
                Ok(Some(snapshot)) => all.snapshots.push(snapshot),
                Ok(None) => {}
                Err(why) => all.unreadable.push(Unreadable { id, why }),
            }
        }
        // A name that keeps nothing is as bad as a damaged one.
        if let Some(names) = Generations::read(&self.dir)? {
            for id in [Some(names.current), names.previous.map(|previous| previous.id)].into_iter().flatten() {
                if !self.folder(&id).is_dir() {
                    let why = anyhow::anyhow!("snapshot {id} is kept by name, but it is not there");
                    all.unreadable.push(Unreadable { id, why });
                }
            }
        }
        all.snapshots.sort_by(|a, b| (a.tag.taken_at, &a.id).cmp(&(b.tag.taken_at, &b.id)));
        all.unreadable.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Whether `verify` found something wrong with the snapshot `id`.
    #[must_use]
    pub fn is_damaged(&self, id: &SnapshotId) -> bool {
        self.folder(id).join(DAMAGED).exists()
    }

    /// Notes that it did, or does not any more. Nothing is taken over from a damaged one.
    pub fn note_damage(&self, id: &SnapshotId, problems: &[String]) -> Result<()> {
        let path = self.folder(id).join(DAMAGED);
        if problems.is_empty() { durable::remove(&path) } else { durable::replace_json(&path, &problems) }
    }

    /// Begins the snapshot `id`: the folder that is filled.
    pub(super) fn begin(&self, id: &SnapshotId) -> Result<PathBuf> {
        durable::make_dir(&self.dir)?;
        // The file of names is read now: with one that cannot be used, nothing is taken and nothing is overwritten.
        Generations::read(&self.dir)?;
        let new = self.dir.join(format!("{UNFINISHED}{id}"));
        durable::make_dir(&new)?;
        fault::point("snapshot.take.begun")?;
        Ok(new)
    }

    /// Ends it: `new` is filled and synced; with its manifest it gets its name.
    pub(super) fn complete(&self, new: &Path, snapshot: &Snapshot, env: &[u8]) -> Result<()> {
        durable::replace(&new.join(ENV), env)?;
        durable::replace_json(&new.join(MANIFEST), snapshot)?;
        fault::point("snapshot.take.described")?;
        durable::rename(new, &self.folder(&snapshot.id))?;
        fault::point("snapshot.take.complete")?;
        Ok(())
    }

    /// Makes the complete snapshot `id` the known-good, and the known-good the previous one, unless there is one that shall
    /// be kept for `keep` since it was replaced and is not known to be damaged: all by one rename.
    pub fn promote(&self, id: &SnapshotId, now: Timestamp, keep: Span) -> Result<()> {
        self.named(id, "new")?;
        let before = Generations::read(&self.dir)?;
        let previous = before.as_ref().and_then(|before| before.previous.as_ref());
        let keep = if previous.is_some_and(|previous| self.is_damaged(&previous.id)) { Span::seconds(0) } else { keep };
        let names = Generations::promoted(before.clone(), id, &helper(), (now, keep));
        if before.as_ref() == Some(&names) {
            return Ok(());
        }
        fault::point("snapshot.promote.ready")?;
        names.write(&self.dir)?;
        fault::point("snapshot.promote.named")?;
        Ok(())
    }

    /// Moves the data of a volume that the snapshot does not have to the failed data: into the state folder or, where that
    /// is on another mount, beside the data of `refuge`. Whether it has left the volume's folder.
    pub fn set_aside(&self, volume: &Volume, operation: &str, refuge: Option<&Volume>) -> Result<bool> {
        let data = volume.data();
        if fs::symlink_metadata(&data).is_err() {
            return Ok(true);
        }
        let is_empty =
            fs::read_dir(&data).with_context(|| format!("cannot list `{}`", data.display()))?.next().is_none();
        trash::unlock(&data)?;
        let folder = self.failed.join(operation);
        durable::make_dir(&folder)?;
        let beside =
            refuge.map(|refuge| refuge.dir.join(format!("{}{operation}.{}", super::garbage::FAILED, volume.name)));
        for place in [Some(folder.join(&volume.name)), beside].into_iter().flatten() {
            if fs::symlink_metadata(&place).is_ok() {
                anyhow::ensure!(is_empty, "`{}` is there already", place.display());
                return Ok(true);
            }
            match fs::rename(&data, &place) {
                Ok(()) => {
                    fault::point("snapshot.set-aside.moved")?;
                    for folder in [place.parent(), Some(volume.dir.as_path())].into_iter().flatten() {
                        durable::sync_dir(folder)?;
                    }
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::CrossesDevices => {}
                Err(e) => {
                    return Err(e).with_context(|| {
                        format!("cannot move `{}` to the failed data at `{}`", data.display(), place.display())
                    });
                }
            }
        }
        Ok(false)
    }
}

/// This program, as what it writes names it.
pub(super) fn helper() -> String {
    std::env::current_exe().map_or_else(|_| "cc-warm".to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The names of what is in the folder `dir`, sorted; those that are not UTF-8 are none of ours.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list `{}`", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list `{}`", dir.display()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
