//! What an app says, kept in a file that does not grow without bounds.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::Result;
use jiff::Timestamp;

use super::folder::Folder;
use super::supervisor::log_file;
use crate::sys::untrusted::Untrusted;

/// When the log is put aside for a new one; so much again is kept in the old one.
const CAP: u64 = 4 << 20;
/// The longest line; what is longer is cut into several.
const LONGEST: usize = 8 << 10;
/// Lines that are remembered of the last output of each process.
const REMEMBERED: usize = 12;
/// Lines that are shown of a log.
const SHOWN: usize = 50;

/// The log of an app.
#[derive(Debug)]
pub(super) struct Log {
    folder: Folder,
    file: File,
    size: u64,
    last: BTreeMap<String, VecDeque<String>>,
}

impl Log {
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        let file = log_file(&folder.log())?;
        let size = file.metadata()?.len();
        Ok(Self { folder: folder.clone(), file, size, last: BTreeMap::new() })
    }

    /// A line of the process `name`.
    fn line(&mut self, name: &str, line: &[u8]) {
        let last = self.last.entry(name.to_owned()).or_default();
        last.push_back(String::from_utf8_lossy(line).into_owned());
        if last.len() > REMEMBERED {
            last.pop_front();
        }
        let mut bytes = format!("{:.3} {name}: ", Timestamp::now()).into_bytes();
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        self.write(&bytes);
    }

    /// A line of our own.
    pub(super) fn note(&mut self, text: &str) {
        let line = format!("{:.3} cc-warm: {text}\n", Timestamp::now());
        self.write(line.as_bytes());
    }

    /// Output that cannot be kept is lost: the app must not suffer for a full disk.
    fn write(&mut self, bytes: &[u8]) {
        if self.size > CAP
            && fs::rename(self.folder.log(), self.folder.old_log()).is_ok()
            && let Ok(file) = log_file(&self.folder.log())
        {
            self.file = file;
            self.size = 0;
        }
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    /// The last lines of the process `name`.
    pub(super) fn last_words(&self, name: &str) -> Untrusted {
        let lines: Vec<&str> = self.last.get(name).into_iter().flatten().map(String::as_str).collect();
        Untrusted::new(lines.join("\n"))
    }
}

/// Puts the log of the deployment before aside.
pub(super) fn begin(folder: &Folder) -> Result<()> {
    match fs::rename(folder.log(), folder.old_log()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Cuts the output of one process into lines.
#[derive(Debug)]
pub(super) struct Lines {
    name: String,
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), begun: Vec::new() }
    }

    pub(super) fn add(&mut self, bytes: &[u8], log: &mut Log) {
        for &byte in bytes {
            if byte == b'\n' || self.begun.len() >= LONGEST {
                log.line(&self.name, &std::mem::take(&mut self.begun));
            }
            if byte != b'\n' {
                self.begun.push(byte);
            }
        }
    }

    pub(super) fn finish(&mut self, log: &mut Log) {
        if !self.begun.is_empty() {
            log.line(&self.name, &std::mem::take(&mut self.begun));
        }
    }
}

/// The end of the log of an app.
pub(super) fn tail(folder: &Folder) -> Untrusted {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(folder.log())?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(16 << 10)))?;
        let mut bytes = Vec::new();
        file.take(16 << 10).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Untrusted::new(lines[lines.len().saturating_sub(SHOWN)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_bounded_and_keeps_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        let mut log = Log::open(&folder).unwrap();
        let mut lines = Lines::of("web");
        let line = [b'x'; 1023];
        for _ in 0..(3 * CAP / 1024) {
            lines.add(&line, &mut log);
            lines.add(b"\n", &mut log);
        }
        lines.add(b"the end, with no line break", &mut log);
        lines.finish(&mut log);
        let sizes = [folder.log(), folder.old_log()].map(|path| fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|&size| size < CAP + (64 << 10)), "{sizes:?}");
        assert!(tail(&folder).raw().ends_with("web: the end, with no line break"));
        assert!(log.last_words("web").raw().ends_with("the end, with no line break"));
        assert_eq!(log.last_words("worker").raw(), "");
    }

    #[test]
    fn one_that_talks_much_does_not_push_out_what_another_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&Folder::at(dir.path())).unwrap();
        let (mut quiet, mut chatty) = (Lines::of("quiet"), Lines::of("chatty"));
        quiet.add(b"no such database\n", &mut log);
        for number in 0..100 {
            chatty.add(format!("request {number}\n").as_bytes(), &mut log);
        }
        assert_eq!(log.last_words("quiet").raw(), "no such database");
        assert_eq!(log.last_words("chatty").raw().lines().count(), REMEMBERED);
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path());
        let mut log = Log::open(&folder).unwrap();
        let mut lines = Lines::of("web");
        lines.add(&vec![b'x'; LONGEST * 3 + 5], &mut log);
        assert_eq!(fs::read_to_string(folder.log()).unwrap().lines().count(), 3);
        assert!(lines.begun.len() <= LONGEST);
    }
}
