//! The store on disk: names, damage, garbage.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::audit::Depth;
use super::copies::{Folder, Order, Spent, Work};
use super::exchange;
use super::moment::{BootId, Moment};
use super::record::{Snapshot, SnapshotId, Tag, Volume};
use super::store::{Role, Store};
use super::test_tree::change_header;
use super::tidy::Rules;
use crate::config::duration::Span;
use crate::sys::dirs::Dirs;
use crate::sys::signals::Interrupt;
use crate::update::saga::samples;

pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) volumes: Vec<Volume>,
}

impl Place {
    pub(super) fn new(volumes: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, there) = (dir.path().join("state"), dir.path().join("volumes"));
        Self::at(dir, &state, &there, volumes)
    }

    /// With the state folder and the volumes where somebody wants them.
    pub(super) fn at(dir: tempfile::TempDir, state: &Path, there: &Path, volumes: &[&str]) -> Self {
        let store = Store::new(&Dirs::new(state), &"login".parse().unwrap()).full_every(30);
        let volumes = volumes.iter().map(|name| {
            let volume = Volume { name: (*name).to_owned(), dir: there.join(name) };
            fs::create_dir_all(volume.data()).unwrap();
            fs::write(volume.data().join("file"), *name).unwrap();
            volume
        });
        Self { store, volumes: volumes.collect(), dir }
    }

    pub(super) fn take(&self, id: &str) -> Snapshot {
        let tag = Tag {
            app: "login".parse().unwrap(),
            identity: samples::identity("1.0.0+1"),
            taken_at: at(0),
            operation: "op".to_owned(),
            unclean: false,
            left_out: Some(Vec::new()),
        };
        take(self, id, &tag).unwrap().0
    }

    pub(super) fn take_and_promote(&self, id: &str, now: Timestamp) {
        self.take(id);
        self.store.promote(&SnapshotId::new(id), now, KEEP).unwrap();
    }

    fn manifest(&self, id: &str) -> PathBuf {
        self.store.folder(&SnapshotId::new(id)).join("manifest.json")
    }

    pub(super) fn ids(&self) -> String {
        let listing = self.store.list().unwrap();
        listing.snapshots.iter().map(|s| s.id.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Tidies, fails unless all could be done, and deletes.
    pub(super) fn tidy(&self, now: Timestamp) {
        let errors = self.store.tidy(&self.volumes, &rules(now), None);
        assert!(errors.is_empty(), "{errors:?}");
        let errors = self.store.empty_trash(&self.volumes, work());
        assert!(errors.is_empty(), "{errors:?}");
    }

    pub(super) fn failed(&self, operation: &str) -> PathBuf {
        let path = exchange::failed_folder(&self.volumes[0], operation);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), operation).unwrap();
        path
    }
}

pub(super) fn work() -> Work<'static> {
    static NEVER: std::sync::LazyLock<Interrupt> = std::sync::LazyLock::new(Interrupt::never);
    Work { reporter: &(), interrupt: &NEVER }
}

fn take(place: &Place, id: &str, tag: &Tag) -> anyhow::Result<(Snapshot, Spent)> {
    let id = SnapshotId::new(id);
    place.store.take(&Order { id: &id, volumes: &place.volumes, tag, env: b"A=1", staged: None }, work())
}

/// For how long a previous one is kept.
const KEEP: Span = Span::seconds(0);
const CONTENT: Depth = Depth { content: true, rate: None };

pub(super) fn at(days: i64) -> Timestamp {
    Timestamp::from_second(1_000_000_000 + days * 86400).unwrap()
}

pub(super) fn rules(now: Timestamp) -> Rules {
    Rules { keep_failed: Span::days(7), keep_previous: Span::days(7), reserve: 0, now }
}

pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_snapshot_is_found_again_and_promoted_over_the_one_before() {
    let place = Place::new(&["b", "a"]);
    assert_eq!(place.store.current().unwrap(), None);
    let one = place.take("one");
    assert_eq!(place.store.current().unwrap(), None, "taken is not promoted");
    assert_eq!(place.store.get(&one.id).unwrap(), Some(one.clone()));
    place.store.promote(&one.id, at(0), KEEP).unwrap();
    assert_eq!(place.store.current().unwrap(), Some(one.clone()));
    place.take_and_promote("two", at(1));
    place.store.promote(&SnapshotId::new("two"), at(2), KEEP).unwrap();
    assert_eq!(place.store.current().unwrap().unwrap().id, SnapshotId::new("two"));
    assert_eq!(place.store.previous().unwrap(), Some(one));
    assert_eq!(place.store.role(&SnapshotId::new("one")).unwrap(), Role::Previous);
    assert_eq!(place.store.get(&SnapshotId::new("none")).unwrap(), None);
    place.store.promote(&SnapshotId::new("none"), at(2), KEEP).unwrap_err();
    assert_eq!(place.store.current().unwrap().unwrap().id, SnapshotId::new("two"));
}

#[test]
fn a_damaged_or_newer_snapshot_is_named_and_neither_overwritten_nor_deleted() {
    for (content, word) in [
        ("{", "does not parse"),
        (r#"{"format": 2, "helper": "/nix/newer"}"#, "written by `/nix/newer`"),
        (r#"{"format": 1}"#, "does not parse"),
        ("", "does not parse"),
    ] {
        let place = Place::new(&["a"]);
        place.take_and_promote("one", at(0));
        place.take_and_promote("two", at(1));
        fs::write(place.manifest("two"), content).unwrap();
        let error = format!("{:#}", place.store.current().unwrap_err());
        assert!(error.contains(word) && error.contains("two/manifest.json"), "{error}");
        let listing = place.store.list().unwrap();
        assert_eq!((listing.snapshots.len(), listing.unreadable.len()), (1, 1));
        assert_eq!(listing.unreadable[0].id, SnapshotId::new("two"));
        place.tidy(at(1));
        assert_eq!(text(&place.manifest("two")), content);
        assert_eq!(place.store.previous().unwrap().unwrap().id, SnapshotId::new("one"));
        // A new one takes its place; it is kept as the one before, as it is.
        place.take_and_promote("three", at(2));
        place.tidy(at(2));
        assert_eq!(text(&place.manifest("two")), content);
        assert_eq!(place.store.current().unwrap().unwrap().id, SnapshotId::new("three"));
    }
}

#[test]
fn a_snapshot_without_a_manifest_and_a_name_that_keeps_nothing_are_told() {
    let place = Place::new(&["a"]);
    place.take_and_promote("one", at(0));
    fs::remove_file(place.manifest("one")).unwrap();
    assert!(format!("{:#}", place.store.current().unwrap_err()).contains("is missing"));
    assert_eq!(place.store.list().unwrap().unreadable.len(), 1);
    fs::remove_dir_all(place.store.folder(&SnapshotId::new("one"))).unwrap();
    assert!(format!("{:#}", place.store.current().unwrap_err()).contains("is not there"));
    assert_eq!(place.store.list().unwrap().unreadable.len(), 1);
}

#[test]
fn with_names_that_cannot_be_read_nothing_is_taken_or_deleted() {
    for content in ["{", r#"{"format": 2}"#, r#"{"format": 1, "current": "../../etc"}"#] {
        let place = Place::new(&["a"]);
        place.take_and_promote("one", at(0));
        let names = place.store.dir.join("generations.json");
        fs::write(&names, content).unwrap();
        fs::create_dir(place.store.dir.join(".new-half")).unwrap();
        let errors = place.store.tidy(&place.volumes, &rules(at(100)), None);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(format!("{:#}", errors[0]).contains("generations.json"), "{errors:?}");
        assert!(place.store.dir.join(".new-half").exists() && place.manifest("one").exists());
        let tag = place.store.get(&SnapshotId::new("one")).unwrap().unwrap().tag;
        take(&place, "two", &tag).unwrap_err();
        place.store.promote(&SnapshotId::new("one"), at(0), KEEP).unwrap_err();
        assert_eq!(text(&names), content);
    }
}

#[test]
fn the_data_of_a_volume_too_many_is_failed_data_too() {
    let place = Place::new(&["a", "extra"]);
    let extra = &place.volumes[1];
    assert!(place.store.set_aside(extra, "op", place.volumes.first()).unwrap());
    assert!(place.store.set_aside(extra, "op", place.volumes.first()).unwrap(), "done again");
    assert!(!extra.data().exists());
    let kept = place.store.failed_data(&place.volumes);
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].operation.as_str(), text(&kept[0].path.join("file")).as_str()), ("op", "extra"));
    // A volume that docker keeps has an empty folder again, and an attempt that was cut short is made anew.
    fs::create_dir(extra.data()).unwrap();
    assert!(place.store.set_aside(extra, "op", place.volumes.first()).unwrap());
    // The volume came back meanwhile, with data: what is kept is not replaced.
    fs::write(extra.data().join("file"), "other").unwrap();
    place.store.set_aside(extra, "op", place.volumes.first()).unwrap_err();
    assert_eq!(text(&kept[0].path.join("file")), "extra");
    place.tidy(Timestamp::now() + SignedDuration::from_hours(24 * 8));
    assert!(place.store.failed_data(&place.volumes).is_empty());
}

#[test]
fn what_is_built_is_private_and_an_earlier_attempt_is_not_built_upon() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(&["a"]);
    let snapshot = place.take("one");
    let folder = exchange::new_folder(&place.volumes[0], "op");
    fs::create_dir_all(folder.join("_data")).unwrap();
    fs::write(folder.join("_data/leftover"), "x").unwrap();
    fs::write(place.volumes[0].data().join("file"), "changed").unwrap();
    let exchanges = place.store.build(&snapshot.id, &place.volumes, "op", work()).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!folder.join("_data/leftover").exists());
    exchanges[0].perform(&place.volumes[0], "op").unwrap();
    assert_eq!(text(&place.volumes[0].data().join("file")), "a");
    assert_eq!(text(&exchange::failed_folder(&place.volumes[0], "op").join("file")), "changed");
}

/// Makes every file's record old enough to be believed.
pub(super) fn wait_for_the_clock() {
    std::thread::sleep(3 * super::moment::granularity());
}

#[test]
fn what_did_not_change_is_taken_over_and_from_a_damaged_snapshot_nothing_is() {
    let place = Place::new(&["a"]);
    let data = place.volumes[0].data();
    if super::tree::file_system(fs::File::open(&data).unwrap()).unwrap() == "tmpfs" {
        return;
    }
    fs::write(data.join("big"), vec![7; 100_000]).unwrap();
    wait_for_the_clock();
    place.take_and_promote("one", at(0));
    fs::write(data.join("file"), "changed").unwrap();
    wait_for_the_clock();
    let copied = place.store.preflight(&place.volumes, 0, None).unwrap().copied();
    assert!(copied.bytes < 100_000 && copied.entries == 2, "{copied:?}");
    let two = place.take("two");
    assert_eq!((two.volumes[0].taken_over, two.since_full), (1, 1));
    place.store.promote(&two.id, at(1), KEEP).unwrap();
    for (full_every, base) in [(1, None), (2, None), (3, Some("two"))] {
        let store = Store::new(&place.store.dirs, &"login".parse().unwrap()).full_every(full_every);
        assert_eq!(store.base().map(|base| base.id.to_string()).as_deref(), base, "{full_every}");
    }
    // The disk, or somebody, changes one byte of what both share.
    fs::write(place.store.folder(&two.id).join("volumes/a/big"), vec![8; 100_000]).unwrap();
    let touched = fs::File::options().write(true).open(place.store.folder(&two.id).join("volumes/a/big")).unwrap();
    touched.set_modified(fs::metadata(data.join("big")).unwrap().modified().unwrap()).unwrap();
    let audit = place.store.audit(&two, CONTENT, work()).unwrap();
    assert!(audit.problems.len() == 1 && audit.problems[0].contains("big"), "{audit:?}");
    let three = place.take("three");
    assert_eq!((three.volumes[0].taken_over, three.since_full), (0, 0));
    assert_eq!(place.store.audit(&three, CONTENT, work()).unwrap().problems, [""; 0]);
    // Damaged content does not come back as if it were data.
    let error = place.store.build(&two.id, &place.volumes, "op", work()).unwrap_err();
    assert!(format!("{error:#}").contains("big"), "{error:#}");
}

#[test]
fn what_was_copied_while_the_app_ran_is_not_copied_again_and_is_no_snapshot() {
    let place = Place::new(&["a"]);
    let data = place.volumes[0].data();
    fs::write(data.join("big"), vec![7; 100_000]).unwrap();
    let staged = place.store.stage(&place.volumes, None, work()).unwrap();
    assert_eq!(place.ids(), "");
    fs::write(data.join("file"), "written meanwhile").unwrap();
    let tag = Tag { operation: "op".to_owned(), ..place.take("earlier").tag };
    let id = SnapshotId::new("one");
    let order = Order { id: &id, volumes: &place.volumes, tag: &tag, env: b"A=1", staged: Some(staged) };
    let (one, _) = place.store.take(&order, work()).unwrap();
    assert_eq!(text(&place.store.folder(&one.id).join("volumes/a/file")), "written meanwhile");
    place.store.promote(&one.id, at(0), KEEP).unwrap();
    place.tidy(at(0));
    assert_eq!(place.ids(), "one");
    assert!(fs::read_dir(&place.store.dir).unwrap().count() == 2, "the staging copy is gone");
    assert_eq!(place.store.audit(&one, CONTENT, work()).unwrap().problems, [""; 0]);
    assert_eq!(fs::metadata(place.store.folder(&one.id).join("volumes/a/big")).unwrap().len(), 100_000);
}

/// Makes the record of `id` one of an earlier boot, `n`.
fn as_of_the_boot_before(place: &Place, id: &str) -> Moment {
    let now = Moment::now().unwrap();
    let booted = now.wall - now.since_boot;
    let of =
        |before: i64| Moment { boot: BootId("n".to_owned()), wall: booted - before, since_boot: 1_000_000 - before };
    let catalog = Folder::of(place.store.folder(&SnapshotId::new(id))).catalog("a");
    change_header(&catalog, |header| header["began"] = serde_json::to_value(of(2000)).unwrap());
    of(1000)
}

#[test]
fn a_record_of_the_boot_before_is_believed_only_if_that_was_synced_and_this_boot_found_it() {
    let place = Place::new(&["a"]);
    if super::tree::file_system(fs::File::open(place.volumes[0].data()).unwrap()).unwrap() == "tmpfs" {
        return;
    }
    place.take_and_promote("one", at(0));
    let synced = as_of_the_boot_before(&place, "one");
    let this = Moment::now().unwrap().boot;
    let note = |synced: &Moment, found_in: Option<&str>| serde_json::json!({ "format": 1, "helper": "cc-warm", "synced": synced, "foundIn": found_in });
    let other = Moment { boot: BootId("m".to_owned()), ..synced.clone() };
    let cases = [
        (None, false),
        // Nobody looked before the apps started in this boot.
        (Some(note(&synced, None)), false),
        // Another boot found it, and was cut: what its apps wrote is there under old times.
        (Some(note(&synced, Some("n+1"))), false),
        // Of a boot after the record's: it says nothing of what happened in between.
        (Some(note(&other, Some(&this.0))), false),
        (Some(note(&synced, Some(&this.0))), true),
    ];
    for (at, (note, believed)) in cases.into_iter().enumerate() {
        let path = place.store.dirs.synced();
        let _ = fs::remove_file(&path);
        if let Some(note) = &note {
            fs::write(&path, note.to_string()).unwrap();
        }
        let told = place.take(&format!("case{at}")).volumes[0].takeover.clone();
        let expected = if believed {
            "what did not change was taken over"
        } else {
            "nothing was taken over: the machine was booted"
        };
        assert!(told.starts_with(expected), "{note:?}: {told}");
    }
}
