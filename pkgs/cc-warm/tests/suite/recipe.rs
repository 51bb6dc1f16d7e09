//! Recipes from real repositories, whatever state those, the mirror and the remote are in.

mod content;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use cc_warm::identity::CommitId;
use cc_warm::recipe::notes::Note;
use cc_warm::recipe::published::WhyIgnored;
use cc_warm::recipe::version::Version;
use cc_warm::recipe::{FetchError, FetchErrorKind, Mirror, Published, Recipes};
use cc_warm::sys::clock::Deadline;
use cc_warm::sys::dirs::Dirs;

use crate::repository::{Repository, listing};

/// A state folder, and one remote's mirror in it.
struct World {
    dir: tempfile::TempDir,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), repository: Repository::new() }
    }

    fn dirs(&self) -> Dirs {
        Dirs::new(self.dir.path())
    }

    fn mirror(&self) -> Mirror {
        Mirror::at(&self.dirs().recipes(), &self.repository.remote())
    }

    fn blob(&self, commit: &CommitId, path: &str, cap: u64) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.mirror().blobs(commit, &[path], cap)?.pop().unwrap())
    }

    fn refresh(&self) -> Published {
        self.mirror().refresh(soon()).unwrap()
    }

    /// What the notes on the way from `from` to `to` say, as `path: text`.
    fn notes(&self, from: &str, to: &str) -> Vec<String> {
        let recipes = Recipes::new(&self.dirs());
        let remote = self.repository.remote();
        let published = recipes.published(&remote).unwrap();
        let notes = recipes.notes(&remote).unwrap().on_the_way(&published, &version(from), &version(to));
        let text = |note: Note| match note.text {
            Ok(text) => format!("{}: {}", note.path, text.raw().trim()),
            Err(why) => format!("{}: UNREADABLE {why}", note.path),
        };
        notes.into_iter().map(text).collect()
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn id(text: &str) -> CommitId {
    text.parse().unwrap()
}

fn names(published: &Published) -> Vec<String> {
    published.versions.keys().map(ToString::to_string).collect()
}

#[test]
fn reads_every_kind_of_tag() {
    let world = World::new();
    let repository = &world.repository;
    let first = repository.publish("1.0.0+1");
    let light = repository.commit();
    repository.git(&["tag", "1.1.0+1"]);
    repository.git(&["tag", "v1.2"]);
    repository.git(&["tag", "latest"]);
    // A tag of a tag, and a tag of a file.
    repository.git(&["tag", "--annotate", "--message", "again", "1.1.1+1", "1.0.0+1"]);
    repository.write("file", "x").commit();
    let blob = repository.git(&["rev-parse", "HEAD:file"]);
    repository.git(&["tag", "9.0.0+1", &blob]);
    let top = repository.publish("2.0.0+1");
    // A back-port, tagged after a higher version.
    repository.git(&["checkout", "--quiet", &first]);
    let back = repository.publish("1.0.1+1");

    let published = world.refresh();
    let all: Vec<_> = published
        .versions
        .iter()
        .map(|(version, p)| (version.to_string(), p.commit.to_string(), p.annotated))
        .collect();
    let expected = [
        ("1.0.0+1", &first, true),
        ("1.0.1+1", &back, true),
        ("1.1.0+1", &light, false),
        ("1.1.1+1", &first, true),
        ("2.0.0+1", &top, true),
    ];
    assert_eq!(all, expected.map(|(version, commit, annotated)| (version.to_owned(), commit.clone(), annotated)));
    let ignored: Vec<_> = published.ignored.iter().map(|ignored| (ignored.tag.raw(), ignored.why)).collect();
    let (no_version, no_commit) = (WhyIgnored::NotAVersion, WhyIgnored::NamesNoCommit);
    assert_eq!(ignored, [("9.0.0+1", no_commit), ("latest", no_version), ("v1.2", no_version)]);
    // From the mirror alone, and asked again, it is the same.
    assert_eq!(world.mirror().published_offline().unwrap(), published);
    assert_eq!(world.refresh(), published);
}

#[test]
fn a_recipe_with_no_tags_publishes_nothing() {
    let world = World::new();
    assert_eq!(world.refresh(), Published::default());
    world.repository.commit();
    assert_eq!(world.refresh(), Published::default());
    assert_eq!(world.notes("1.0.0+1", "2.0.0+1"), Vec::<String>::new());
    world.repository.publish("1.0.0+1");
    assert_eq!(names(&world.refresh()), ["1.0.0+1"]);
    world.repository.git(&["tag", "--delete", "1.0.0+1"]);
    assert_eq!(world.refresh(), Published::default());
}

#[test]
fn what_did_not_change_is_not_fetched() {
    let world = World::new();
    world.repository.publish("1.0.0+1");
    let published = world.refresh();
    // A fetch would have to write here.
    let frozen = world.mirror().dir().join("objects/pack");
    let before: BTreeSet<_> = std::fs::read_dir(&frozen).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let stamp = std::fs::metadata(world.mirror().dir().join("packed-refs")).ok().map(|m| m.modified().unwrap());
    assert_eq!(world.refresh(), published);
    let after: BTreeSet<_> = std::fs::read_dir(&frozen).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(after, before);
    assert_eq!(std::fs::metadata(world.mirror().dir().join("packed-refs")).ok().map(|m| m.modified().unwrap()), stamp);
}

#[test]
fn a_moved_tag_is_followed_and_a_pinned_commit_stays() {
    let world = World::new();
    world.repository.write("compose.yml", "old").publish("1.0.0+1");
    let old = world.refresh().versions[&version("1.0.0+1")].commit.clone();
    world.mirror().pin(&old).unwrap();
    // The old commit is in no history any more.
    world.repository.git(&["checkout", "--quiet", "--orphan", "other"]);
    let new = world.repository.write("compose.yml", "new").publish("1.0.0+1");
    assert_eq!(world.refresh().versions[&version("1.0.0+1")].commit, id(&new));
    assert_eq!(world.blob(&old, "compose.yml", 10).unwrap().unwrap(), b"old");

    let gone = id(&"1".repeat(40));
    assert_eq!(world.mirror().keep_pins(&[id(&new), gone.clone()]).unwrap(), std::slice::from_ref(&gone));
    assert_eq!(world.mirror().pins().unwrap(), BTreeSet::from([id(&new)]));
    world.mirror().pin(&gone).unwrap_err();
    assert!(world.mirror().has(&old).unwrap() && !world.mirror().has(&gone).unwrap());
}

#[test]
fn pins_survive_the_end_of_their_tag_and_of_the_mirror() {
    for damage in [None, Some("HEAD"), Some("refs"), Some("config"), Some("garbled packed-refs"), Some("tag object")] {
        let world = World::new();
        world.repository.write("compose.yml", "old").publish("1.0.0+1");
        let old = world.refresh().versions[&version("1.0.0+1")].commit.clone();
        world.repository.git(&["checkout", "--quiet", "--orphan", "other"]);
        world.repository.git(&["tag", "--delete", "1.0.0+1"]);
        world.mirror().pin(&old).unwrap();
        let new = world.repository.write("compose.yml", "new").publish("1.1.0+1");
        assert_eq!(names(&world.refresh()), ["1.1.0+1"]);
        let dir = world.mirror().dir().to_owned();
        match damage {
            None => {}
            Some("HEAD") => std::fs::remove_file(dir.join("HEAD")).unwrap(),
            Some("refs") => std::fs::write(dir.join("refs/tags/1.1.0+1"), "rubbish\n").unwrap(),
            Some("config") => std::fs::write(dir.join("config"), "[core\n").unwrap(),
            Some("garbled packed-refs") => std::fs::write(dir.join("packed-refs"), "\0\0\0").unwrap(),
            Some(_) => {
                // The pack that brought the newest tag.
                let packs = std::fs::read_dir(dir.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
                let newest = packs.max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap()).unwrap();
                std::fs::remove_file(newest.with_extension("idx")).unwrap();
            }
        }
        assert_eq!(names(&world.refresh()), ["1.1.0+1"], "{damage:?}");
        assert_eq!(world.refresh().versions[&version("1.1.0+1")].commit, id(&new), "{damage:?}");
        assert!(!world.mirror().is_damaged(), "{damage:?}");
        assert_eq!(world.blob(&id(&new), "compose.yml", 10).unwrap().unwrap(), b"new", "{damage:?}");
        let kept = world.blob(&old, "compose.yml", 10);
        assert_eq!(kept.unwrap_or_else(|error| panic!("{damage:?}: {error:#}")).unwrap(), b"old", "{damage:?}");
        assert_eq!(world.mirror().pins().unwrap(), BTreeSet::from([old]), "{damage:?}");
        let left: Vec<_> = std::fs::read_dir(world.dirs().recipes())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("new-"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{damage:?}");
    }
}

#[test]
fn a_half_cloned_mirror_is_built_anew() {
    let world = World::new();
    world.repository.write("compose.yml", "x").publish("1.0.0+1");
    let dir = world.mirror().dir().to_owned();
    for content in [&[][..], &["HEAD", "config"], &["objects/pack/tmp_pack_x", "refs/tags/1.0.0+1"]] {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for file in content {
            std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.join(file), "half").unwrap();
        }
        assert_eq!(names(&world.refresh()), ["1.0.0+1"], "{content:?}");
    }
    // Leftovers of a rebuild that was cut short go with the next one.
    let leftover = dir.with_file_name(format!(".{}.new-x", dir.file_name().unwrap().to_str().unwrap()));
    std::fs::create_dir(&leftover).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    world.refresh();
    assert!(!leftover.exists());
}

#[test]
fn damage_found_while_reading_is_mended_from_the_remote() {
    let world = World::new();
    world.repository.write("release/1.1.0+1", "manual migration").publish("1.0.0+1");
    world.repository.publish("1.1.0+1");
    world.refresh();
    // Refs and commits are whole; the note is not. An object of its own instead of in the pack, and then gone.
    let dir = world.mirror().dir().to_owned();
    let blob = world.repository.git(&["rev-parse", "HEAD:release/1.1.0+1"]);
    let packs: Vec<_> =
        std::fs::read_dir(dir.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let pack = packs.iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap();
    let content = std::fs::read(pack).unwrap();
    for path in &packs {
        std::fs::remove_file(path).unwrap();
    }
    let mut unpack = std::process::Command::new("git")
        .args(["--git-dir", dir.to_str().unwrap(), "unpack-objects", "-q"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut unpack.stdin.take().unwrap(), &content).unwrap();
    assert!(unpack.wait().unwrap().success());
    std::fs::remove_file(dir.join("objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    assert!(!world.mirror().is_damaged());

    assert_eq!(world.notes("1.0.0+1", "1.1.0+1"), ["release/1.1.0+1: manual migration"]);
}

#[test]
fn a_failed_fetch_touches_nothing_and_the_mirror_is_of_use_offline() {
    let world = World::new();
    world.repository.write("compose.yml", "x").publish("1.0.0+1");
    let published = world.refresh();
    let before = listing(world.mirror().dir());
    let away = world.repository.path().with_file_name("away");
    std::fs::rename(world.repository.path(), &away).unwrap();
    let error = world.mirror().refresh(soon()).unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Gone, "{error}");
    assert!(error.to_string().contains("shop` is not there"), "{error}");
    assert_eq!(listing(world.mirror().dir()), before);
    assert_eq!(world.mirror().published_offline().unwrap(), published);

    // What it says can be had, but what it sends is damaged.
    std::fs::rename(&away, world.repository.path()).unwrap();
    world.repository.write("compose.yml", "new, and damaged").publish("1.1.0+1");
    let blob = world.repository.git(&["rev-parse", "HEAD:compose.yml"]);
    let object = world.repository.path().join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&object, "not an object").unwrap();
    world.mirror().refresh(soon()).unwrap_err();
    assert_eq!(world.mirror().published_offline().unwrap(), published);
    assert!(!world.mirror().is_damaged());
}

#[test]
fn a_remote_of_somebody_else_is_read() {
    let world = World::new();
    world.repository.publish("1.0.0+1");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let output =
        std::process::Command::new("chown").args(["-R", "12345:12345"]).arg(world.repository.path()).output().unwrap();
    assert!(output.status.success());
    assert_eq!(names(&world.refresh()), ["1.0.0+1"]);
}

fn refused(remote: &str) -> FetchError {
    let dir = tempfile::tempdir().unwrap();
    Mirror::at(dir.path(), remote).refresh(soon()).unwrap_err()
}

#[test]
fn what_is_no_supported_remote_is_not_even_asked() {
    for remote in ["git://h/r", "http://h/r", "ext::sh -c true", "--upload-pack=x", "host:path", "../r", "", "/a\nb"] {
        assert_eq!(refused(remote).kind, FetchErrorKind::Unsupported, "{remote}");
    }
}

/// Whether any process has `text` on its command line.
fn runs(text: &str) -> bool {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    pids.filter_map(|path| std::fs::read(path).ok()).any(|line| String::from_utf8_lossy(&line).contains(text))
}

/// Asks `remote`, which hangs, and gives the error; fails if anything of it is left.
fn given_up(remote: &str) -> FetchError {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::at(dir.path(), remote);
    let begin = Instant::now();
    let error = mirror.refresh(Deadline::after(Duration::from_secs(1))).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(mirror.published_offline().is_err() && !mirror.dir().exists());
    // Killed processes of the group end a moment later.
    let deadline = soon();
    while runs(remote) {
        assert!(!deadline.is_over(), "something still asks `{remote}`");
        std::thread::yield_now();
    }
    error
}

#[test]
fn a_remote_that_hangs_is_left_and_nothing_of_the_question_remains() {
    // By path: git waits for somebody to write into this pipe.
    let repository = Repository::new();
    repository.publish("1.0.0+1");
    let copy = repository.bare_copy();
    std::fs::remove_file(copy.join("packed-refs")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        copy.join("packed-refs"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(given_up(copy.to_str().unwrap()).kind, FetchErrorKind::TimedOut);

    // By network: a host that takes the connection and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for remote in [format!("https://127.0.0.1:{port}/shop"), format!("ssh://127.0.0.1:{port}/shop")] {
        let error = given_up(&remote);
        assert_eq!(error.kind, FetchErrorKind::TimedOut, "{error}");
    }
}

#[test]
fn a_remote_that_cannot_be_reached_says_so() {
    // Nobody listens on a port that was just closed.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for remote in [format!("https://127.0.0.1:{port}/shop"), format!("ssh://127.0.0.1:{port}/shop")] {
        let error = refused(&remote);
        assert_eq!(error.kind, FetchErrorKind::Unreachable, "{error}");
    }
    // One that answers with something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        let _ = stream.read(&mut buffer);
        let _ = std::io::Write::write_all(&mut stream, b"\x1b[2J not TLS\r\n");
    });
    let error = refused(&format!("https://127.0.0.1:{port}/shop"));
    server.join().unwrap();
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[test]
fn who_waits_for_the_mirror_does_not_wait_for_ever() {
    let world = World::new();
    world.repository.publish("1.0.0+1");
    world.refresh();
    world.repository.publish("1.1.0+1");
    let lock = std::fs::File::open(world.mirror().dir().with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let error = world.mirror().refresh(Deadline::after(Duration::from_millis(300))).unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Busy, "{error}");
    assert_eq!(names(&world.mirror().published_offline().unwrap()), ["1.0.0+1"]);
    drop(lock);
    assert_eq!(names(&world.refresh()), ["1.0.0+1", "1.1.0+1"]);
}

#[test]
fn each_remote_is_asked_once_and_one_that_fails_stays_failed_for_the_run() {
    let world = World::new();
    world.repository.publish("1.0.0+1");
    let recipes = Recipes::new(&world.dirs());
    let remote = world.repository.remote();
    let first = recipes.published(&remote).unwrap();
    world.repository.publish("1.1.0+1");
    assert_eq!(recipes.published(&remote).unwrap(), first);
    assert_eq!(names(&Recipes::new(&world.dirs()).published(&remote).unwrap()), ["1.0.0+1", "1.1.0+1"]);
    let missing = Path::new(&remote).with_file_name("later");
    let error = recipes.published(missing.to_str().unwrap()).unwrap_err();
    std::fs::rename(world.repository.path(), &missing).unwrap();
    assert_eq!(recipes.published(missing.to_str().unwrap()).unwrap_err(), error);
}
