//! The outbox: one file an alert, named after its app and kind so that a person can read the folder.
//!
//! ```text
//! outbox/<app>.<kind>.<digest>.json        waits for delivery to some sink (or there is none); `_host` for no app
//! outbox/told/<app>.<kind>.<digest>.json   every sink has it: kept lest it be told again
//! outbox/lock                              held while files change, never while something is sent
//! outbox/turn                              held while a process delivers, so that two never send one alert
//! ```
//!
//! A file that does not parse stays as it is and is reported; all others go on, and an alert that would have its name
//! gets another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;

use super::record::{FORMAT, Fate, Record, Says};
use super::{Alert, Kind, Nature};
use crate::config::names::AppName;
use crate::sys::clock::Deadline;
use crate::sys::dirs::Dirs;
use crate::sys::durable;

/// Most alerts that wait for delivery: more than one for each app of a large host.
const PENDING_CAP: usize = 2000;
/// How long to wait for a process that changes files: milliseconds of work.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// The outbox of this host.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) dir: PathBuf,
    host: String,
    reminder: Duration,
    cap: usize,
}

/// What [`Outbox::raise`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// It waits for delivery: it is new, came back, or is due again.
    ToTell,
    /// It was raised before: nothing was added.
    Known,
}

/// An alert that stands, or waits for delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// All that is known of it.
    pub record: Record,
    /// Whether some sink has yet to take it, or there is no sink.
    pub pending: bool,
}

/// What became of an alert at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// It took it.
    Heard,
    /// It did not, and why.
    Failed(String),
    /// It was not asked yet.
    NotTried,
}

impl Hearing {
    fn of(record: Option<&Record>, sink: &str) -> Self {
        let Some(state) = record.and_then(|record| record.sinks.get(sink)) else { return Self::NotTried };
        match &state.error {
            _ if state.last.is_some() => Self::Heard,
            Some(error) => Self::Failed(error.clone()),
            None => Self::NotTried,
        }
    }
}

/// What is in the outbox.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// The most urgent first, then the oldest.
    pub alerts: Vec<Shown>,
    /// Files that cannot be used, and why; each was left as it is.
    pub unreadable: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Pending,
    Told,
}

/// Held while files change.
pub(super) struct Locked(#[expect(dead_code, reason = "holds the lock")] File);

impl Outbox {
    /// The outbox in `dirs`, of the host that alerts call `host`; standing facts are told again after `reminder`.
    #[must_use]
    pub fn new(dirs: &Dirs, host: &str, reminder: Duration) -> Self {
        Self { dir: dirs.outbox(), host: host.to_owned(), reminder, cap: PENDING_CAP }
    }

    /// Puts `alert` on disk, durably, unless it was raised before. Idempotent: recovery repeats it.
    pub fn raise(&self, alert: Alert, now: Timestamp) -> Result<Raised> {
        let lock = self.lock()?;
        let prefix = prefix(alert.app.as_ref(), alert.kind);
        let (id, found) = self.place(&lock, &self.id(&alert))?;
        let nature = alert.kind.doc().nature;
        let (from, fate) = match found {
            None => (Slot::Pending, Fate::Pending(Box::new(Record::new(id.clone(), &self.host, alert, now)))),
            Some((record, slot)) => (slot, record.raised(alert, slot == Slot::Told, now, self.reminder)),
        };
        let raised = if matches!(fate, Fate::Pending(_)) { Raised::ToTell } else { Raised::Known };
        self.apply(&lock, &id, from, fate)?;
        if nature == Nature::Fact {
            for (other, slot) in self.ids(&prefix)?.into_iter().filter(|(other, _)| *other != id) {
                // One that cannot be read is left to `list` and `deliver` to report.
                if let Ok(Some(record)) = self.load(&other, slot) {
                    self.apply(&lock, &other, slot, record.superseded())?;
                }
            }
        }
        if raised == Raised::ToTell {
            self.keep_to_the_cap(&lock, now)?;
        }
        Ok(raised)
    }

    /// The standing facts of these kinds are over for `app`: `resolved` is sent to whom they were told, and the others
    /// are withdrawn. Gives the number of facts that ended.
    pub fn resolve(&self, app: Option<&AppName>, kinds: &[Kind], now: Timestamp) -> Result<usize> {
        self.end(&kinds.iter().map(|&kind| prefix(app, kind)).collect::<Vec<_>>(), |record| record.resolved(now))
    }

    fn id(&self, alert: &Alert) -> String {
        format!("{}{}", prefix(alert.app.as_ref(), alert.kind), self.digest(alert))
    }

    /// What became of `alert` at each of `sinks`, so far.
    pub fn told<'a>(
        &self,
        alert: &Alert,
        sinks: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Hearing>> {
        let id = self.id(alert);
        let record = match self.load(&id, Slot::Pending)? {
            None => self.load(&id, Slot::Told)?,
            pending => pending,
        };
        Ok(sinks.into_iter().map(|sink| (sink.clone(), Hearing::of(record.as_ref(), sink))).collect())
    }

    /// Whether a fact of this kind stands for `app`.
    pub fn stands(&self, app: &AppName, kind: Kind) -> Result<bool> {
        let is_it = |shown: &Shown| {
            let record = &shown.record;
            record.alert.kind == kind && record.alert.app.as_ref() == Some(app) && record.says != Says::Resolved
        };
        Ok(self.list()?.alerts.iter().any(is_it))
    }

    /// Forgets everything about `app` that still stands or waits: it is not kept warm any longer.
    pub fn forget(&self, app: &AppName) -> Result<usize> {
        self.end(&[format!("{app}.")], |_| Fate::Gone)
    }

    fn end(&self, prefixes: &[String], fate: impl Fn(Record) -> Fate) -> Result<usize> {
        let mine = |id: &str| prefixes.iter().any(|prefix| id.starts_with(prefix));
        // Nearly always there is nothing: seen without a lock.
        if !self.ids("")?.iter().any(|(id, _)| mine(id)) {
            return Ok(0);
        }
        let lock = self.lock()?;
        let mut ended = 0;
        for (id, slot) in self.ids("")?.into_iter().filter(|(id, _)| mine(id)) {
            if let Ok(Some(record)) = self.load(&id, slot) {
                let stood = !record.superseded;
                let fate = fate(record);
                ended += usize::from(stood && fate != Fate::Unchanged);
                self.apply(&lock, &id, slot, fate)?;
            }
        }
        Ok(ended)
    }

    /// What stands or waits for delivery.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for (id, slot) in self.ids("")? {
            // What happened and was told is history.
            if slot == Slot::Told && kind_of(&id).is_some_and(|kind| kind.doc().nature == Nature::Event) {
                continue;
            }
            match self.load(&id, slot) {
                Ok(Some(record)) if !record.superseded => {
                    listing.alerts.push(Shown { record, pending: slot == Slot::Pending });
                }
                Ok(_) => {}
                Err(error) => listing.unreadable.push(format!("{error:#}")),
            }
        }
        listing.alerts.sort_by_key(|shown| {
            let record = &shown.record;
            (std::cmp::Reverse(record.alert.kind.doc().severity), record.first_at, record.id.clone())
        });
        Ok(listing)
    }

    pub(super) fn lock(&self) -> Result<Locked> {
        durable::make_dir(&self.dir.join("told"))?;
        let file = take(&self.dir.join("lock"), LOCK_WAIT)?;
        let Some(file) = file else {
            bail!("another process has changed `{}` for {} s without an end", self.dir.display(), LOCK_WAIT.as_secs())
        };
        Ok(Locked(file))
    }

    /// The name to use for what is called `base`, and what is there: names whose files cannot be read are taken.
    fn place(&self, _: &Locked, base: &str) -> Result<(String, Option<(Record, Slot)>)> {
        for number in 0..20 {
            let id = if number == 0 { base.to_owned() } else { format!("{base}-{number}") };
            let found = [Slot::Pending, Slot::Told].map(|slot| self.load(&id, slot).map(|found| (found, slot)));
            match found {
                [Ok((Some(record), slot)), _] | [Ok((None, _)), Ok((Some(record), slot))] => {
                    return Ok((id, Some((record, slot))));
                }
                [Ok((None, _)), Ok((None, _))] => return Ok((id, None)),
                _ => {}
            }
        }
        bail!("too many files in `{}` cannot be read: `{base}*.json`", self.dir.display())
    }

    pub(super) fn load(&self, id: &str, slot: Slot) -> Result<Option<Record>> {
        let path = self.path(id, slot);
        let Some(record) = durable::read_json::<Record>(&path)? else { return Ok(None) };
        ensure!(
            record.format == FORMAT,
            "`{}` has format {}; this cc-warm reads {FORMAT}",
            path.display(),
            record.format
        );
        ensure!(record.id == id, "`{}` says that its name is `{}`", path.display(), record.id);
        Ok(Some(record))
    }

    /// Does what `fate` says with `id`, which is in `from`. A crash in between leaves both files; the pending one,
    /// which is newer, counts.
    pub(super) fn apply(&self, _: &Locked, id: &str, from: Slot, fate: Fate) -> Result<()> {
        let (pending, told) = (self.path(id, Slot::Pending), self.path(id, Slot::Told));
        match (fate, from) {
            (Fate::Unchanged, _) => Ok(()),
            (Fate::Pending(record), _) => {
                durable::replace_json(&pending, &record)?;
                durable::remove(&told)
            }
            (Fate::Told(record), Slot::Told) => durable::replace_json(&told, &record),
            (Fate::Told(record), Slot::Pending) => {
                durable::replace_json(&pending, &record)?;
                durable::rename(&pending, &told)
            }
            (Fate::Gone, _) => {
                durable::remove(&told)?;
                durable::remove(&pending)
            }
        }
    }

    /// Names that begin with `prefix`, sorted; of one that is in both places, the one that counts.
    pub(super) fn ids(&self, prefix: &str) -> Result<BTreeSet<(String, Slot)>> {
        let mut all = BTreeSet::new();
        let pending = names(&self.dir, prefix)?;
        for id in names(&self.dir.join("told"), prefix)? {
            if !pending.contains(&id) {
                all.insert((id, Slot::Told));
            }
        }
        all.extend(pending.into_iter().map(|id| (id, Slot::Pending)));
        Ok(all)
    }

    pub(super) fn path(&self, id: &str, slot: Slot) -> PathBuf {
        let dir = if slot == Slot::Told { self.dir.join("told") } else { self.dir.clone() };
        dir.join(format!("{id}.json"))
    }

    /// Drops what is worth least, and says how much.
    fn keep_to_the_cap(&self, lock: &Locked, now: Timestamp) -> Result<()> {
        let pending = names(&self.dir, "")?;
        if pending.len() <= self.cap {
            return Ok(());
        }
        let mut records: Vec<Record> = pending.iter().filter_map(|id| self.load(id, Slot::Pending).ok()?).collect();
        records.retain(|record| record.alert.kind != Kind::AlertsDropped);
        records.sort_by_cached_key(|record| (record.worth(), record.id.clone()));
        records.truncate((pending.len() - self.cap).min(records.len()));
        if records.is_empty() {
            return Ok(());
        }
        // Counted first: a crash in between counts too many rather than too few.
        let title = "alerts were dropped: more waited for delivery than are kept";
        let notice = Alert::new(Kind::AlertsDropped, "", title).hint("cc-warm status");
        let (id, found) =
            self.place(lock, &format!("{}{}", prefix(None, Kind::AlertsDropped), self.digest(&notice)))?;
        let (mut record, from) =
            found.unwrap_or_else(|| (Record::new(id.clone(), &self.host, notice, now), Slot::Pending));
        record.dropped += records.len() as u64;
        record.number += 1;
        record.at = now;
        self.apply(lock, &id, from, Fate::Pending(Box::new(record)))?;
        for record in records {
            durable::remove(&self.path(&record.id, Slot::Pending))?;
        }
        Ok(())
    }

    fn digest(&self, alert: &Alert) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.host, &alert.fingerprint] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    #[cfg(test)]
    pub(super) fn with_cap(self, cap: usize) -> Self {
        Self { cap, ..self }
    }
}

/// `<app>.<kind>.`; neither has a dot, and no app's name an underscore.
fn prefix(app: Option<&AppName>, kind: Kind) -> String {
    format!("{}.{kind}.", app.map_or("_host", AppName::as_str))
}

/// The kind that the name of a file says.
fn kind_of(id: &str) -> Option<Kind> {
    let name = id.split('.').nth(1)?;
    Kind::ALL.iter().copied().find(|kind| kind.doc().name == name)
}

/// The names of the records in `dir`; none if there is no such folder.
fn names(dir: &Path, prefix: &str) -> Result<BTreeSet<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read the folder `{}`", dir.display())),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read the folder `{}`", dir.display()))?.file_name();
        // What is no UTF-8 or begins with a dot (unfinished writes) is not ours.
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json"))
            && id.starts_with(prefix)
            && !id.starts_with('.')
        {
            names.insert(id.to_owned());
        }
    }
    Ok(names)
}

/// The kernel's lock on `path`, waited for at most `wait`; `None` if somebody else has it until then.
pub(super) fn take(path: &Path, wait: Duration) -> Result<Option<File>> {
    let deadline = Deadline::after(wait);
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.with_context(|| format!("cannot open the lock `{}`", path.display()))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if deadline.is_over() => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10).min(deadline.left())),
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock `{}`", path.display())),
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
