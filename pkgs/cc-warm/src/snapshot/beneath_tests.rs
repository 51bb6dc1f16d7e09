//! Nothing outside a tree is reached.

use std::fs;
use std::os::unix::fs::symlink;

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::beneath::{Root, Shown};

#[test]
fn follows_no_symlink_and_no_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    symlink("../out", inside.join("folder")).unwrap();
    symlink("../out/secret", inside.join("file")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    let root = Root::open(&inside).unwrap();
    for name in [&b"folder"[..], b"file", b"magic", b"..", b".", b"", b"../out", b"folder/secret", b"a\0b"] {
        assert!(root.open_dir(root.dir(), name).is_err(), "{}", Shown(name));
        assert!(root.open_file(root.dir(), name).is_err(), "{}", Shown(name));
        assert!(root.open_known_file(root.dir(), name).is_err(), "{}", Shown(name));
        assert!(root.open_own_file(root.dir(), name).is_err(), "{}", Shown(name));
        assert!(root.create_file(root.dir(), name, 0o600).is_err(), "{}", Shown(name));
    }
    assert!(root.open_far(root.dir(), [&b"folder"[..], b"x"]).is_err());
    assert!(Root::open(&inside.join("folder")).is_err());
    assert_eq!(root.stat_at(root.dir(), b"file").unwrap().kind(), FileType::Symlink);
    assert_eq!(root.open_path(root.dir(), b"file").unwrap().1.kind(), FileType::Symlink);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"s");
}

#[test]
fn does_not_block_on_a_fifo() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert_eq!(root.open_file(root.dir(), b"fifo").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(root.open_known_file(root.dir(), b"fifo").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn names_a_mount_inside_the_tree() {
    // The tree with a mount in it that every Linux has: /proc below /.
    let root = Root::open(Path::new("/")).unwrap();
    let error = root.open_dir(root.dir(), b"proc").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
    assert_eq!(error.to_string(), "`proc` is a mount inside the volume");
    assert_eq!(root.stat_at(root.dir(), b"proc").unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    assert_eq!(root.open_path(root.dir(), b"proc").unwrap_err().kind(), io::ErrorKind::CrossesDevices);
}

#[test]
fn lists_names_as_bytes_and_sorted() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [b"\x01\n", b"a", b"a b", b"\xff\xfe"];
    for name in names.iter().rev() {
        fs::write(dir.path().join(OsStr::from_bytes(name)), "").unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    let listed = root.dir().names().unwrap();
    assert!(listed.iter().eq(names));
    assert_eq!(root.dir().names().unwrap().len(), 4, "a second listing starts anew");
}
