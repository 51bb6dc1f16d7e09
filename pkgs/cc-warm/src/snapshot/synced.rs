//! The note that a shutdown leaves once all was synced (`synced.json`, format 1), so that a record made in that boot can be
//! believed in the next one.
//!
//! It is believed in exactly one boot: the one that found it before any app could start, and put its own id into it. A
//! boot that ended by a power cut leaves no note of its own, and the one that it found names it, and no later boot.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::flush::sync_file_systems;
use super::moment::{BootId, Moment};
use super::record::{FORMAT, must_be_readable};
use super::store::{Store, helper};
use crate::state::known_apps;
use crate::sys::dirs::Dirs;
use crate::sys::{durable, fault, procfs};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    format: u32,
    helper: String,
    /// When all was synced, and in which boot.
    synced: Moment,
    /// The boot after that one.
    found_in: Option<BootId>,
}

/// What is to become of a note that a boot finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is of the boot before: this boot's id goes into it.
    Stamp,
    /// This boot did that already.
    Keep,
    /// Somebody may have written since.
    Delete,
}

/// What becomes of `note` in the boot `now`, before any app starts in it.
fn fate(note: &Note, now: &BootId) -> Fate {
    match &note.found_in {
        // Not the machine was started again, but the service: apps ran since, or will before the next boot.
        _ if note.synced.boot == *now => Fate::Delete,
        None => Fate::Stamp,
        Some(boot) if boot == now => Fate::Keep,
        // That boot came in between and left no note of its own.
        Some(_) => Fate::Delete,
    }
}

/// At boot, before any app starts: says in the note that it is this boot which follows; deletes one that says nothing of
/// what was written last.
pub fn find(dirs: &Dirs) -> Result<()> {
    let boot = Moment::now()?.boot;
    // What cannot be read is not believed, now or later.
    let note = read(dirs).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    match note.as_ref().map(|note| fate(note, &boot)) {
        Some(Fate::Keep) => Ok(()),
        Some(Fate::Stamp) => {
            let note = note.map(|note| Note { found_in: Some(boot), ..note });
            durable::replace_json(&dirs.synced(), &note)
        }
        Some(Fate::Delete) | None => forget(dirs),
    }
}

/// At shutdown, after the last app: syncs the file systems of the state folder and of all volumes that were copied, and
/// writes the note. Where it writes none, it says why: above all that somebody still uses
/// one of the volumes.
pub fn leave(dirs: &Dirs) -> Result<Option<String>> {
    if !dirs.root().is_dir() {
        return Ok(Some(format!("`{}` is not there", dirs.root().display())));
    }
    // Whatever goes wrong from here on, an older one says nothing of this boot.
    forget(dirs)?;
    let volumes = volumes(dirs)?;
    sync(dirs, &volumes)?;
    fault::point("synced.flushed")?;
    // Asked afterwards: whoever is there may have written since.
    let users = procfs::users_of(&volumes);
    if !users.is_empty() {
        return Ok(Some(users.join("; ")));
    }
    // The first one may have taken long; what came and went meanwhile is synced by this one.
    sync(dirs, &volumes)?;
    let note = Note { format: FORMAT, helper: helper(), synced: Moment::now()?, found_in: None };
    durable::replace_json(&dirs.synced(), &note)?;
    Ok(None)
}

fn sync(dirs: &Dirs, volumes: &[PathBuf]) -> Result<()> {
    // What is gone has nothing that could be taken over.
    sync_file_systems(volumes.iter().map(PathBuf::as_path).chain([dirs.root()]).filter(|path| path.exists()))
}

/// What the shutdown of the boot before `now` wrote, if it did.
pub(super) fn before(dirs: &Dirs, now: &BootId) -> Option<Moment> {
    let note = read(dirs).ok()??;
    (note.found_in.as_ref() == Some(now)).then_some(note.synced)
}

/// Deletes a note that nobody looked at when this boot began: apps have run since, and no later boot may believe it.
pub(super) fn forget_unseen(dirs: &Dirs) -> Result<()> {
    let now = Moment::now()?.boot;
    match read(dirs) {
        Ok(Some(note)) if note.found_in.is_none() && note.synced.boot != now => forget(dirs),
        _ => Ok(()),
    }
}

/// The volumes of which there are records.
fn volumes(dirs: &Dirs) -> Result<Vec<PathBuf>> {
    let mut all = BTreeSet::new();
    for app in known_apps(dirs)? {
        if let Ok(Some(snapshot)) = Store::new(dirs, &app).current() {
            all.extend(snapshot.volumes.into_iter().map(|volume| volume.dir));
        }
    }
    Ok(all.into_iter().collect())
}

fn read(dirs: &Dirs) -> Result<Option<Note>> {
    let path = dirs.synced();
    let Some(value) = durable::read_json::<Value>(&path)? else { return Ok(None) };
    must_be_readable(&path, &value)?;
    serde_json::from_value(value).map(Some).with_context(|| format!("`{}` does not parse", path.display()))
}

/// Deletes the note: somebody may write now.
pub fn forget(dirs: &Dirs) -> Result<()> {
    let path = dirs.synced();
    match fs::remove_file(&path) {
        Ok(()) => durable::sync_dir(dirs.root()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot delete `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(name: &str) -> BootId {
        BootId(name.to_owned())
    }

    fn note(of: &str, found_in: Option<&str>) -> Note {
        let synced = Moment { boot: boot(of), wall: 5, since_boot: 4 };
        Note { format: 1, helper: helper(), synced, found_in: found_in.map(boot) }
    }

    #[test]
    fn a_note_is_for_the_one_boot_that_found_it_first() {
        let cases = [
            // The usual way: N was shut down, and this is N+1.
            ("n", None, Fate::Stamp),
            // The service was started again in N+1.
            ("n", Some("now"), Fate::Keep),
            // N+1 found it, its app wrote, and the power was cut: in N+2 a file's old times say nothing of its content.
            ("n", Some("n+1"), Fate::Delete),
            // A service that was stopped and started in mid-boot: the app writes on, and the power may be cut before the
            // next note.
            ("now", None, Fate::Delete),
            ("now", Some("now"), Fate::Delete),
        ];
        for (of, found_in, expected) in cases {
            assert_eq!(fate(&note(of, found_in), &boot("now")), expected, "{of} {found_in:?}");
        }
    }

    /// A state folder, and what is believed in it now.
    struct Place {
        _dir: tempfile::TempDir,
        dirs: Dirs,
    }

    impl Place {
        fn with(note: Option<&Note>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let dirs = Dirs::new(dir.path());
            if let Some(note) = note {
                durable::replace_json(&dirs.synced(), note).unwrap();
            }
            Self { _dir: dir, dirs }
        }

        fn believed(&self) -> Option<String> {
            before(&self.dirs, &Moment::now().unwrap().boot).map(|moment| moment.boot.0)
        }
    }

    #[test]
    fn is_believed_only_once_this_boot_put_its_name_into_it() {
        for (found_in, expected) in [(None, Some("n")), (Some("n+1"), None)] {
            let place = Place::with(Some(&note("n", found_in)));
            // A boot in which nobody looked before the apps started does not believe it either.
            assert_eq!(place.believed(), None);
            for _ in 0..2 {
                find(&place.dirs).unwrap();
                forget_unseen(&place.dirs).unwrap();
                assert_eq!(place.believed().as_deref(), expected);
            }
            assert_eq!(place.dirs.synced().exists(), expected.is_some());
        }
    }

    /// The app of this boot wrote, and the power may be cut.
    #[test]
    fn where_nobody_looked_before_the_apps_started_neither_this_boot_nor_the_next_believes_it() {
        let place = Place::with(Some(&note("n", None)));
        assert_eq!(place.believed(), None);
        forget_unseen(&place.dirs).unwrap();
        find(&place.dirs).unwrap();
        assert_eq!(place.believed(), None);
    }

    #[test]
    fn a_boot_after_a_power_cut_believes_nothing() {
        let place = Place::with(Some(&note("n", None)));
        find(&place.dirs).unwrap();
        // The next boot: this one left nothing.
        let mut left = read(&place.dirs).unwrap().unwrap();
        left.found_in = Some(boot("the one that was cut"));
        durable::replace_json(&place.dirs.synced(), &left).unwrap();
        find(&place.dirs).unwrap();
        assert_eq!((place.believed(), place.dirs.synced().exists()), (None, false));
    }

    #[test]
    fn a_shutdown_replaces_what_it_found_and_is_not_believed_in_its_own_boot() {
        let place = Place::with(Some(&note("n", None)));
        find(&place.dirs).unwrap();
        assert_eq!(leave(&place.dirs).unwrap(), None);
        let left = read(&place.dirs).unwrap().unwrap();
        assert_eq!((left.synced.boot, left.found_in), (Moment::now().unwrap().boot, None));
        assert_eq!(place.believed(), None);
        find(&place.dirs).unwrap();
        assert!(!place.dirs.synced().exists());
    }

    #[test]
    fn what_cannot_be_read_is_deleted_and_not_believed() {
        for text in ["{", r#"{"format": 2}"#, r#"{"format": 1}"#] {
            let place = Place::with(None);
            fs::write(place.dirs.synced(), text).unwrap();
            assert_eq!(place.believed(), None);
            find(&place.dirs).unwrap();
            assert!(!place.dirs.synced().exists(), "{text}");
        }
    }
}
