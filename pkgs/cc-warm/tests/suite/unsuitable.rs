//! Data that cannot be snapshotted as it is: nothing is stopped for it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use crate::fixture::{Fixture, NOTES};

/// A file system that can encrypt folders, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where it cannot be had.
    fn new(fixture: &Fixture) -> Option<Self> {
        let (image, at) = (fixture.sandbox.dir().join("image"), fixture.sandbox.state_dir());
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir_all(&at).unwrap();
        let done = |program: &mut Command| program.output().is_ok_and(|output| output.status.success());
        let mounted = done(Command::new("mkfs.ext4").args(["-O", "encrypt"]).arg(&image))
            && done(Command::new("mount").args(["-o", "loop"]).args([&image, &at]));
        mounted.then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn what_a_copy_would_not_keep_holds_an_update_before_the_stop() {
    let fixture = Fixture::empty();
    let Some(_mounted) = Mounted::new(&fixture) else {
        return println!("skipped: encrypted data: no such file system can be mounted here");
    };
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    fixture.sandbox.write_note(NOTES[0]).unwrap();
    let data = fixture.sandbox.volume().unwrap().join("_data");
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let secret = data.join("secret");
    fs::create_dir(&secret).unwrap();
    // FS_IOC_SET_ENCRYPTION_POLICY, version 1.
    let script =
        "import fcntl, os, sys; fcntl.ioctl(os.open(sys.argv[1], 0), 0x800c6613, bytes([0, 1, 4, 0]) + b'key-of-8')";
    if !Command::new("python3").args(["-c", script]).arg(&secret).output().is_ok_and(|output| output.status.success()) {
        return println!("skipped: encrypted data: nothing can be encrypted here");
    }
    let held = |why: &str| {
        let said = fixture.run(&["update"]).expect(10);
        assert!(said.contains(why) && said.contains("1.1.0+2 waits") && !said.contains("stopping"), "{said}");
        let said = fixture.run(&["snapshot", APP]).expect(24);
        assert!(said.contains(why) && said.contains("nothing was touched") && !said.contains("stopping"), "{said}");
        assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    };
    held("`secret` in it is encrypted by its file system (fscrypt)");
    fs::remove_dir(&secret).unwrap();
    let within = data.join("within");
    fs::create_dir(&within).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&within).status().unwrap().success());
    held("`within` is a mount inside the volume");
    assert!(Command::new("umount").arg(&within).status().unwrap().success());
    fixture.run(&["update"]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.1.0+2"));
}

#[test]
fn a_volume_that_is_a_link_is_named_before_anything_is_copied() {
    let fixture = Fixture::empty();
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    fixture.run(&["update"]).expect(0);
    let (volume, elsewhere) = (fixture.sandbox.volume().unwrap(), fixture.sandbox.dir().join("elsewhere"));
    fs::rename(&volume, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &volume).unwrap();
    for words in [&["snapshot", "--dry-run", APP][..], &["snapshot", APP]] {
        let said = fixture.run(words).expect(24);
        assert!(said.contains("is a symbolic link") && !said.contains("copying"), "{said}");
    }
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
}
