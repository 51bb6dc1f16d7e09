use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn deletes_what_is_in_it_and_nothing_that_it_points_to() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), "kept").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    symlink(dir.path().join("outside"), tree.join("a/link")).unwrap();
    symlink("..", tree.join("a/b/up")).unwrap();
    for n in 0..500 {
        fs::write(tree.join(format!("a/file{n}")), "x").unwrap();
        fs::create_dir_all(tree.join(format!("a/b/dir{n}/x"))).unwrap();
    }
    rustix::fs::mknodat(CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
    delete(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!(fs::read(dir.path().join("outside/file")).unwrap(), b"kept");
    delete(&tree).unwrap();
    delete(&dir.path().join("none/at/all")).unwrap();
}

/// Other tests open descriptors, too, so it runs itself once more in a process of its own.
#[test]
fn a_tree_deeper_than_any_path_needs_few_descriptors() {
    const ALONE: &str = "CC_WARM_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let this = "snapshot::trash::tests::a_tree_deeper_than_any_path_needs_few_descriptors";
        let program = std::env::current_exe().unwrap();
        let alone = std::process::Command::new(program).args([this, "--exact"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    fs::create_dir(dir.path().join("tree")).unwrap();
    let mut at = openat(CWD, dir.path().join("tree"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..4000 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&at, "beside", Mode::RWXU).unwrap();
        at = openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(at);
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    delete(&dir.path().join("tree")).unwrap();
    assert!(open() <= before + 8, "descriptors are left open");
    assert!(!dir.path().join("tree").exists());
}

#[test]
fn flags_that_forbid_it_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("folder")).unwrap();
    fs::write(tree.join("folder/file"), "x").unwrap();
    let lock = |path: &Path, flag| -> rustix::io::Result<()> {
        let file = openat(CWD, path, OFlags::RDONLY, Mode::empty())?;
        ioctl_setflags(&file, ioctl_getflags(&file)? | flag)
    };
    // Only root may, and not every file system has them: then there is nothing to clear.
    let Ok(()) = lock(&tree.join("folder/file"), IFlags::IMMUTABLE) else { return };
    lock(&tree.join("folder"), IFlags::APPEND).unwrap();
    lock(&tree, IFlags::IMMUTABLE).unwrap();
    fs::rename(&tree, dir.path().join("other")).unwrap_err();
    let apart = set_apart(&tree, &dir.path().join("trash"), "app").unwrap();
    assert!(apart.starts_with(dir.path().join("trash")));
    delete(&apart).unwrap();
    assert!(!apart.exists());
}

#[test]
fn what_is_mounted_in_it_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("mounted")).unwrap();
    let mounted = tree.join("mounted");
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &mounted, "tmpfs", flags, None).is_err() {
        return;
    }
    fs::write(mounted.join("file"), "kept").unwrap();
    let error = delete(&tree);
    let kept = fs::read(mounted.join("file"));
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(format!("{:#}", error.unwrap_err()).contains("is a mount"));
    assert_eq!(kept.unwrap(), b"kept");
    delete(&tree).unwrap();
}
