//! What is read from a recipe: its notes, its files, what differs.

use super::*;

#[test]
fn notes_of_every_version_on_the_way_are_read() {
    let world = World::new();
    let repository = &world.repository;
    repository.write("release/1.0.0+1", "first").publish("1.0.0+1");
    repository.write("release/1.1.0+1", "second, as it was").publish("1.1.0+1");
    // Reworded later, in both places, with one for a version that was never tagged.
    repository.write("release/1.1.0+1", "second, reworded");
    repository.write("releaseNotes/1.2.0+2.md", "third").write("release/1.1.5", "never tagged");
    repository.write("release/next", "not yet").write("release/3.0.0+1", "beyond").publish("1.2.0+2");
    // A back-port, tagged last, from the first version's code: its note is in its own tag only.
    repository.git(&["checkout", "--quiet", "1.0.0+1"]);
    repository.write("release/1.0.1+1", "a back-port's").publish("1.0.1+1");

    let all = [
        "release/1.0.1+1: a back-port's",
        "release/1.1.0+1: second, reworded",
        "release/1.1.0+1: second, as it was",
        "release/1.1.5: never tagged",
        "releaseNotes/1.2.0+2.md: third",
    ];
    assert_eq!(world.notes("1.0.0+1", "1.2.0+2"), all);
    assert_eq!(world.notes("1.0.1+1", "1.2.0+2"), all[1..]);
    assert_eq!(world.notes("1.1.0+1", "1.2.0+2"), all[3..]);
    assert_eq!(world.notes("1.0.0+1", "1.1.0+1"), [all[0], all[2]]);
    assert_eq!(world.notes("1.2.0+2", "1.2.0+2"), Vec::<String>::new());
}

#[test]
fn a_note_that_cannot_be_read_says_why() {
    let world = World::new();
    let repository = &world.repository;
    repository.publish("1.0.0+1");
    repository.write("secret", "manual migration").write("release/1.1.0+1", [0xff, 0xfe]);
    repository.write("release/1.1.1+1", vec![b'a'; 65 * 1024]).write("release/1.1.2+1/README", "x");
    repository.write("release/1.1.4+1", vec![b'a'; 64 * 1024]);
    symlink("../secret", repository.path().join("release/1.1.3+1")).unwrap();
    symlink("release", repository.path().join("releaseNotes")).unwrap();
    repository.publish("1.2.0+1");
    let mut notes = world.notes("1.0.0+1", "1.2.0+1");
    assert!(notes.iter().any(|note| note.starts_with("release/1.1.4+1: aaa")));
    notes.retain(|note| note.contains("UNREADABLE"));
    assert_eq!(
        notes,
        [
            "releaseNotes: UNREADABLE it is a symbolic link",
            "release/1.1.0+1: UNREADABLE it is not UTF-8",
            "release/1.1.1+1: UNREADABLE it has 66560 bytes, more than 65536",
            "release/1.1.2+1: UNREADABLE it is a folder",
            "release/1.1.3+1: UNREADABLE it is a symbolic link",
        ]
    );
}

#[test]
fn exports_what_was_committed_and_nothing_that_git_would_make_of_it() {
    let world = World::new();
    let repository = &world.repository;
    repository.write("compose.yml", "a: $Id$ $Format:%H$\r\nb\n").write("hidden/file", "x").write("run", "#!/bin/sh\n");
    repository.write(".gitattributes", "hidden export-ignore\n* export-subst ident eol=crlf text filter=evil\n");
    std::fs::set_permissions(repository.path().join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", repository.path().join("outside")).unwrap();
    symlink("nowhere", repository.path().join("dangling")).unwrap();
    repository.git(&["config", "filter.evil.clean", "cat"]);
    repository.git(&["config", "core.autocrlf", "false"]);
    let ran = world.dir.path().join("ran");
    repository.git(&["config", "filter.evil.smudge", &format!("touch {}", ran.display())]);
    let commit = id(&repository.publish("1.0.0+1"));
    let published = world.refresh();
    assert_eq!(published.versions[&version("1.0.0+1")].commit, commit);

    let dest = world.dir.path().join("export-1.0.0+1");
    world.mirror().export(&commit, &dest).unwrap();
    // The index is what was committed: git's own attributes may have changed the work tree's copy on the way in.
    let committed = |path: &str| world.blob(&commit, path, 1 << 20).unwrap().unwrap();
    let expected: Vec<(String, Vec<u8>)> = vec![
        (".gitattributes".into(), committed(".gitattributes")),
        ("compose.yml".into(), committed("compose.yml")),
        ("dangling".into(), b"nowhere".to_vec()),
        ("hidden/file".into(), b"x".to_vec()),
        ("outside".into(), b"/etc/passwd".to_vec()),
        ("run".into(), b"#!/bin/sh\n".to_vec()),
    ];
    assert_eq!(listing(&dest), expected);
    assert!(!ran.exists(), "a filter ran");
    let mode = |path: &str| std::fs::metadata(dest.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("hidden"), mode("run"), mode("compose.yml")], [0o755, 0o755, 0o755, 0o644]);
    // Never over something, and nothing half-made beside it.
    world.mirror().export(&commit, &dest).unwrap_err();
    world.mirror().export(&id(&"1".repeat(40)), &world.dir.path().join("none")).unwrap_err();
    let left = std::fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".new-") && name != "none"));
}

#[test]
fn a_submodule_is_refused() {
    let world = World::new();
    let other = world.repository.publish("0.1.0+1");
    world.repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{other},module")]);
    world.repository.git(&["commit", "--quiet", "--message", "x"]);
    world.repository.git(&["tag", "1.0.0+1"]);
    let commit = world.refresh().versions[&version("1.0.0+1")].commit.clone();
    let error = world.mirror().export(&commit, &world.dir.path().join("out")).unwrap_err();
    assert!(format!("{error:#}").contains("submodule at `module`"), "{error:#}");
}

#[test]
fn shows_what_differs_within_limits() {
    let world = World::new();
    let repository = &world.repository;
    let from = id(&repository.write("compose.yml", "image: a:1\n").publish("1.0.0+1"));
    repository.write(".gitattributes", "*.yml diff=evil\n");
    let to = id(&repository.write("compose.yml", "image: a:2\n\u{1b}[2J\n").publish("1.1.0+1"));
    let many: String = (0..40_000).map(|line| format!("line {line}\n")).collect();
    let large = id(&repository.write("large", many).publish("1.2.0+1"));
    world.refresh();
    let recipes = Recipes::new(&world.dirs());
    let diff = recipes.diff(&repository.remote(), &from, &to).unwrap();
    assert!(diff.raw().contains("-image: a:1\n+image: a:2\n"), "{diff:?}");
    assert!(!diff.terminal_lines().contains('\u{1b}'));
    let diff = recipes.diff(&repository.remote(), &from, &large).unwrap();
    assert!(diff.raw().len() < 300_000 && diff.raw().ends_with("and more\n"));
}

#[test]
fn a_blob_is_a_regular_file_within_limits() {
    let world = World::new();
    world.repository.write("a", "0123456789").write("folder/b", "x");
    symlink("a", world.repository.path().join("link")).unwrap();
    let commit = id(&world.repository.publish("1.0.0+1"));
    world.refresh();
    let blob = |path: &str, cap| world.blob(&commit, path, cap);
    assert_eq!(blob("a", 10).unwrap().unwrap(), b"0123456789");
    assert!(blob("none", 10).unwrap().is_none());
    for (path, cap) in [("a", 9), ("link", 10), ("folder", 10)] {
        blob(path, cap).unwrap_err();
    }
    let all = world.mirror().blobs(&commit, &["none", "folder/b", "a", "nor this"], 10).unwrap();
    assert_eq!(all, [None, Some(b"x".to_vec()), Some(b"0123456789".to_vec()), None]);
    world.mirror().blobs(&commit, &["a", "folder"], 10).unwrap_err();
    assert_eq!(world.mirror().commit_of(&version("1.0.0+1")).unwrap(), Some(commit));
    assert_eq!(world.mirror().commit_of(&version("1.0.1+1")).unwrap(), None);
}

#[test]
fn hostile_trees_do_not_get_in() {
    // git itself refuses to make these, so they are made by hand.
    let world = World::new();
    world.repository.publish("1.0.0+1");
    world.refresh();
    let blob = world.repository.git(&["rev-parse", "HEAD^{tree}"]);
    for name in ["..", ".git", ".GIT"] {
        let hex: Vec<u8> = (0..20).map(|i| u8::from_str_radix(&blob[2 * i..2 * i + 2], 16).unwrap()).collect();
        let mut tree = format!("40000 {name}\0").into_bytes();
        tree.extend(hex);
        let file = world.dir.path().join("tree");
        std::fs::write(&file, tree).unwrap();
        let tree = world.repository.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
        let commit = world.repository.git(&["commit-tree", "-m", "x", &tree]);
        world.repository.git(&["tag", "--force", "1.1.0+1", &commit]);
        let error = world.mirror().refresh(soon()).unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Nonsense, "{error}");
        assert_eq!(names(&world.mirror().published_offline().unwrap()), ["1.0.0+1"], "{name}");
    }
}
