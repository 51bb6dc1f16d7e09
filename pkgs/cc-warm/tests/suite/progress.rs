//! Progress on a terminal: a pseudo-terminal, since nothing is drawn where there is none.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use cc_warm::demo::sandbox::APP;
use regex::Regex;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::fixture::Fixture;

/// What is shown on a terminal of `cc-warm <words>`, stderr alone.
fn shown(fixture: &Fixture, words: &[&str]) -> String {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
    let no_terminal_of_ours = OFlags::NOCTTY.bits().cast_signed();
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(no_terminal_of_ours).open(name).unwrap();
    let mut child = Command::new(fixture.sandbox.program())
        .arg("--config")
        .arg(fixture.sandbox.config())
        .args(words)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    let mut control = File::from(control);
    // It ends with an error once nobody has the terminal open any more.
    while let Ok(got @ 1..) = control.read(&mut piece) {
        all.extend(&piece[..got]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(all).unwrap()
}

#[test]
fn a_terminal_shows_bytes_files_and_an_estimate_and_nothing_of_it_stays() {
    let fixture = Fixture::running();
    for n in 0..6 {
        let file = fixture.sandbox.volume().unwrap().join(format!("_data/attachment-{n}"));
        fs::write(file, vec![n; 512 << 10]).unwrap();
    }
    fixture.run(&["snapshot", APP]).expect(0);
    let said = shown(&fixture, &["verify", APP, "--rate-limit", "2M"]);
    let bar = Regex::new(r"\[\d+s\] [█░ ]*.*\d (?:KiB|MiB)/3\.\d+ MiB, \d+ files?, \d+s left").unwrap();
    assert!(bar.is_match(&said), "{said:?}");
    // It is drawn anew in its place, and erased at the end.
    let (drawn, after) = said.rsplit_once(" left").unwrap();
    assert!(drawn.matches(" left").count() > 5 && !said.contains('\n'), "{said:?}");
    let erased = Regex::new(r"^ *(?:\r|\x1b\[\d[ABK])+$").unwrap();
    assert!(erased.is_match(after) && after.contains("\u{1b}[2K"), "{after:?}");
}
