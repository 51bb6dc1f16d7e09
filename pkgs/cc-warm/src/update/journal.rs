//! The intent log on disk (`journal.jsonl`, format 1): one event a line, with a sequence number and a checksum, durable
//! before the act that it announces.
//!
//! A line is `{"sum":"<16 hex>","record":{"format":1,"seq":0,"at":"…","event":{"begun":{…}}}}`; `sum` is the beginning of
//! the BLAKE3 of the record's bytes. Only the last line may be torn: it is cut off before anything is appended. An invalid
//! line before a valid one is corruption: nothing is touched.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::saga::{Begun, Event, EventName, Progress};
use super::{ballast, helper};
use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::sys::clock::Clock;
use crate::sys::dirs::{AppDirs, Dirs};
use crate::sys::{durable, fault};

/// The newest format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// The journal of one app, open for appending. The app's lock must be held.
#[derive(Debug)]
pub struct Journal {
    dirs: AppDirs,
    clock: Clock,
    /// Bytes of valid records; what lies behind them is cut off before the next append.
    valid: u64,
    seq: u64,
    progress: Progress,
}

/// A journal that must not be touched.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An invalid record before a valid one, or an event that may not follow.
    #[error("the journal `{}` is damaged at line {line}: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer program.
    #[error("the journal `{}` has format {format}, this cc-warm reads format {FORMAT}; it was written by `{helper}`", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The program that wrote it.
        helper: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] anyhow::Error),
}

impl JournalError {
    /// As an error of the operation on `app`: nothing was touched, exit code 12.
    #[must_use]
    pub fn into_problem(self, app: &AppName) -> anyhow::Error {
        let hint = match &self {
            Self::TooNew { helper, .. } => format!("{helper} recover {app}"),
            Self::Corrupt { path, .. } => format!(
                "find out in which state the app is (`cc-warm status {app}`), then move `{}` away and run `cc-warm restore {app}` or `cc-warm adopt {app}`",
                path.display()
            ),
            Self::Io(_) => format!("cc-warm recover {app}"),
        };
        let exit = if matches!(self, Self::Io(_)) { Exit::Failed } else { Exit::BecameStuck };
        Problem::new(format!("app `{app}` was not touched: its journal cannot be used"))
            .exit(exit)
            .hint(hint)
            .because(self)
            .into()
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    sum: String,
    record: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    seq: u64,
    at: Timestamp,
    event: Event,
}

/// What can be read of a record whatever its format.
#[derive(Deserialize)]
struct Envelope {
    format: u64,
    seq: u64,
    event: serde_json::Value,
}

impl Envelope {
    /// The program that wrote the journal, if this is its first record.
    fn helper(&self) -> Option<String> {
        Some(self.event.get("begun")?.get("helper")?.as_str()?.to_owned())
    }
}

impl Journal {
    /// Begins an operation: replaces whatever journal there was (only a stuck one may be left) by one with the single
    /// record `begun`, and sets aside the ballast.
    pub fn begin(dirs: &Dirs, clock: Clock, begun: Begun) -> Result<Self> {
        let dirs = dirs.app(begun.app.name.as_str());
        durable::make_dir(dirs.root())?;
        ballast::set(&dirs)?;
        helper::keep(&dirs, Path::new(&begun.helper))?;
        let event = Event::Begun(Box::new(begun));
        let line = encode(0, clock.now(), &event)?;
        point(EventName::Begun, "before")?;
        durable::replace(&dirs.journal(), &line)?;
        ballast::reserve_records(&dirs);
        point(EventName::Begun, "after")?;
        let progress = Progress::start(event)?;
        Ok(Self { dirs, clock, valid: line.len() as u64, seq: 1, progress })
    }

    /// The journal of `app`, if there is one. A torn last record is cut off, durably; a journal of which nothing is
    /// valid began nothing, and is removed.
    pub fn open(dirs: &Dirs, clock: Clock, app: &AppName) -> Result<Option<Self>, JournalError> {
        let dirs = dirs.app(app.as_str());
        let Some(read) = read(&dirs.journal())? else { return Ok(None) };
        let Some(progress) = read.progress else {
            durable::remove(&dirs.journal())?;
            return Ok(None);
        };
        let mut journal = Self { dirs, clock, valid: read.valid, seq: read.records, progress };
        if read.torn {
            journal.truncate()?;
        }
        Ok(Some(journal))
    }

    /// What the events so far say.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Makes `event` durable. If that fails, the act it announces must not be done, and the journal is as before.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        use EventName as E;
        let name = event.name();
        let next = self.progress.clone().apply(event.clone())?;
        let problem = || format!("cannot note `{}` in the journal, so it is not done", name.as_str());
        point(name, "before").with_context(problem)?;
        // A restore, restart or snapshot by hand comes to its way back without `RollingBack`.
        if matches!(name, E::RollingBack | E::Restoring | E::Redeploying | E::Stuck) {
            self.free_ballast()?;
        }
        let line = encode(self.seq, self.clock.now(), event)?;
        if let Err(error) = durable::append(&self.dirs.journal(), &line) {
            // Half a record in the middle would look like damage later.
            self.truncate().with_context(problem)?;
            return Err(error).with_context(problem);
        }
        self.valid += line.len() as u64;
        self.seq += 1;
        self.progress = next;
        point(name, "after").with_context(problem)
    }

    /// Gives back the space that was set aside for the way back: from here on a full disk keeps nobody from noting what is
    /// done.
    pub fn free_ballast(&self) -> Result<()> {
        ballast::free(&self.dirs)
    }

    /// Ends the operation: the journal and what belongs to it are gone.
    pub fn remove(self) -> Result<()> {
        durable::remove(&self.dirs.journal())?;
        helper::release(&self.dirs)?;
        durable::remove(&self.dirs.ballast())
    }

    fn truncate(&mut self) -> Result<()> {
        let path = self.dirs.journal();
        let cut = || -> Result<()> {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(self.valid)?;
            file.sync_all()?;
            Ok(())
        };
        cut().with_context(|| format!("cannot cut the torn end off `{}`", path.display()))
    }
}

/// What the journal of `app` says, without touching it: for commands that only look. `None` if there is none.
pub fn peek(dirs: &Dirs, app: &AppName) -> Result<Option<Progress>, JournalError> {
    Ok(read(&dirs.app(app.as_str()).journal())?.and_then(|read| read.progress))
}

/// The fault points of an event: before it is durable, and after, when its act has not begun.
fn point(name: EventName, when: &str) -> std::io::Result<()> {
    fault::point(&format!("journal.{}.{when}", name.as_str()))
}

fn encode(seq: u64, at: Timestamp, event: &Event) -> Result<Vec<u8>> {
    let record = serde_json::to_string(&Record { format: FORMAT, seq, at, event: event.clone() })?;
    let line = Line { sum: checksum(record.as_bytes()), record: RawValue::from_string(record)? };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

struct Read {
    progress: Option<Progress>,
    records: u64,
    valid: u64,
    torn: bool,
}

fn read(path: &Path) -> Result<Option<Read>, JournalError> {
    let Some(bytes) = durable::read(path)? else { return Ok(None) };
    let corrupt = |line: usize, why: String| JournalError::Corrupt { path: path.to_owned(), line, why };
    let mut read = Read { progress: None, records: 0, valid: 0, torn: false };
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let event = match decode(line, read.records) {
            Ok(event) => event,
            Err(Bad::TooNew { format, helper }) => {
                let helper = helper.or_else(|| read.progress.as_ref().map(|p| p.begun.helper.clone()));
                let helper = helper.unwrap_or_else(|| "an unknown program".to_owned());
                return Err(JournalError::TooNew { path: path.to_owned(), format, helper });
            }
            Err(Bad::Torn(_)) if index + 1 == lines.len() => {
                read.torn = true;
                break;
            }
            Err(Bad::Torn(why) | Bad::Wrong(why)) => return Err(corrupt(index + 1, why)),
        };
        let next = match read.progress.take() {
            None => Progress::start(event),
            Some(progress) => progress.apply(event),
        };
        read.progress = Some(next.map_err(|illegal| corrupt(index + 1, illegal.to_string()))?);
        read.records += 1;
        read.valid += line.len() as u64;
    }
    Ok(Some(read))
}

enum Bad {
    /// As a write that a power cut ended leaves it.
    Torn(String),
    /// Whole, but not what can stand here.
    Wrong(String),
    /// Of a newer program.
    TooNew { format: u64, helper: Option<String> },
}

fn decode(line: &[u8], seq: u64) -> Result<Event, Bad> {
    let torn = Bad::Torn;
    let text = line.strip_suffix(b"\n").ok_or_else(|| torn("it has no end".to_owned()))?;
    let line: Line = serde_json::from_slice(text).map_err(|e| torn(format!("it does not parse: {e}")))?;
    if checksum(line.record.get().as_bytes()) != line.sum {
        return Err(torn("its checksum is wrong".to_owned()));
    }
    let envelope: Envelope =
        serde_json::from_str(line.record.get()).map_err(|e| torn(format!("it does not parse: {e}")))?;
    if envelope.format > u64::from(FORMAT) {
        return Err(Bad::TooNew { format: envelope.format, helper: envelope.helper() });
    }
    if envelope.seq != seq {
        return Err(Bad::Wrong(format!("it has the number {}, wanted {seq}", envelope.seq)));
    }
    // The checksum holds, so this is what was written: another shape means another program.
    let record: Record = serde_json::from_str(line.record.get())
        .map_err(|_| Bad::TooNew { format: envelope.format, helper: envelope.helper() })?;
    Ok(record.event)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::saga::samples::begun;
    use super::super::saga::{Cause, Kind};
    use super::*;
    use crate::snapshot::SnapshotId;
    use crate::sys::untrusted::Untrusted;

    fn with_events(events: &[Event]) -> (tempfile::TempDir, Dirs, AppName) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path());
        let begun = begun();
        let app = begun.app.name.clone();
        let mut journal = Journal::begin(&dirs, Clock::system(), begun).unwrap();
        for event in events {
            journal.write(event).unwrap();
        }
        (dir, dirs, app)
    }

    #[test]
    fn the_ballast_is_freed_before_every_way_back() {
        let id = SnapshotId::random().unwrap();
        let ways = [
            (Kind::Update, vec![Event::Stopping, back()]),
            (Kind::Restore, vec![Event::Stopping, Event::Restoring { id }]),
            (Kind::Restart, vec![Event::Redeploying]),
        ];
        for (kind, events) in ways {
            let dir = tempfile::tempdir().unwrap();
            let dirs = Dirs::new(dir.path());
            let begun = Begun { kind, ..begun() };
            let ballast = dirs.app(begun.app.name.as_str()).ballast();
            let mut journal = Journal::begin(&dirs, Clock::system(), begun).unwrap();
            for event in &events {
                assert!(ballast.exists(), "{kind:?} before {event:?}");
                journal.write(event).unwrap();
            }
            assert!(!ballast.exists(), "{kind:?}");
        }
    }

    fn back() -> Event {
        Event::RollingBack { cause: Cause::Failed, reason: Untrusted::new("x") }
    }

    #[test]
    fn cut_at_any_byte_it_reads_as_what_was_whole_by_then_and_goes_on_from_there() {
        let (_dir, dirs, app) = with_events(&[Event::Stopping, back()]);
        let path = dirs.app(app.as_str()).journal();
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            let names = [EventName::Begun, EventName::Stopping, EventName::RollingBack];
            match Journal::open(&dirs, Clock::system(), &app).unwrap() {
                None => {
                    assert_eq!(lines, 0);
                    assert!(!path.exists());
                }
                Some(mut journal) => {
                    assert_eq!(journal.progress().last, names[lines - 1]);
                    if lines < 3 {
                        journal.write(&if lines == 1 { Event::Stopping } else { back() }).unwrap();
                        let again = Journal::open(&dirs, Clock::system(), &app).unwrap().unwrap();
                        assert_eq!(again.progress().last, names[lines]);
                    }
                }
            }
        }
    }

    #[test]
    fn damage_before_the_end_is_refused_and_left_as_it_is() {
        let (_dir, dirs, app) = with_events(&[Event::Stopping, back()]);
        let path = dirs.app(app.as_str()).journal();
        let whole = fs::read(&path).unwrap();
        let last_line = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap();
        for position in (0..last_line).step_by(7) {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x20;
            fs::write(&path, &damaged).unwrap();
            let error = Journal::open(&dirs, Clock::system(), &app).unwrap_err();
            assert!(matches!(error, JournalError::Corrupt { .. }), "byte {position}: {error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_lost_or_doubled_line_is_damage() {
        let (_dir, dirs, app) = with_events(&[Event::Stopping, back()]);
        let path = dirs.app(app.as_str()).journal();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for order in [&[0, 2][..], &[0, 1, 1, 2], &[0, 2, 1], &[1, 2]] {
            let changed: String = order.iter().map(|&index| format!("{}\n", lines[index])).collect();
            fs::write(&path, &changed).unwrap();
            assert!(Journal::open(&dirs, Clock::system(), &app).is_err(), "{order:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), changed);
        }
    }

    #[test]
    fn a_newer_format_names_the_program_that_wrote_it() {
        let (_dir, dirs, app) = with_events(&[]);
        let path = dirs.app(app.as_str()).journal();
        let record = r#"{"format":2,"seq":0,"event":{"begun":{"helper":"/nix/store/x/bin/cc-warm"}}}"#;
        let line = format!("{{\"sum\":\"{}\",\"record\":{record}}}\n", checksum(record.as_bytes()));
        fs::write(&path, &line).unwrap();
        let error = Journal::open(&dirs, Clock::system(), &app).unwrap_err();
        assert!(error.to_string().contains("/nix/store/x/bin/cc-warm"), "{error}");
        let report = crate::error::report(&error.into_problem(&app));
        assert!(report.contains("hint: /nix/store/x/bin/cc-warm recover login"), "{report}");
        assert_eq!(fs::read_to_string(&path).unwrap(), line);
    }

    #[test]
    fn an_illegal_event_is_an_error_and_writes_nothing() {
        let (_dir, dirs, app) = with_events(&[]);
        let before = fs::read(dirs.app(app.as_str()).journal()).unwrap();
        let mut journal = Journal::open(&dirs, Clock::system(), &app).unwrap().unwrap();
        journal.write(&Event::Committed).unwrap_err();
        assert_eq!(fs::read(dirs.app(app.as_str()).journal()).unwrap(), before);
    }
}
