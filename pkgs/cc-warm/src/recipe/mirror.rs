//! The bare mirror of a remote: cache, except for the commits that are pinned because they run or can be gone back to.
//!
//! Writers hold the mirror's lock. A refresh that fails leaves it as it was: git updates all refs or none, and a mirror
//! that cannot be read is built anew beside the old one and exchanged with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::{FetchError, FetchErrorKind, shown};
use super::published::Published;
use crate::identity::CommitId;
use crate::sys::clock::Deadline;
use crate::sys::git::{Git, Reach, trust};
use crate::sys::signals::Interrupt;
use crate::sys::{durable, fault, flock};

/// For what touches only the disk.
pub(super) const LOCAL: Duration = Duration::from_mins(1);
/// More tags than fit in this are no recipe.
pub(super) const TAGS_CAP: usize = 16 << 20;
/// Every tag, and nothing else: no branch and no fork is a version.
const TAGS: &str = "+refs/tags/*:refs/tags/*";
/// Where pinned commits are kept.
const PINS: &str = "refs/cc-warm/pin/";
/// In a mirror that must be built anew.
const DAMAGED: &str = "cc-warm-damaged";

/// A mirror, which may not be there yet.
#[derive(Debug, Clone)]
pub struct Mirror {
    dir: PathBuf,
    remote: String,
    /// Ends what is asked of the remote.
    interrupt: Interrupt,
}

/// Tag names and the objects they name, unpeeled, as the remote says it.
type Asked = BTreeMap<String, CommitId>;

impl Mirror {
    /// The mirror of `remote` under `root`: its name, and a part of the remote's digest.
    #[must_use]
    pub fn at(root: &Path, remote: &str) -> Self {
        let name = remote.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' })
            .take(40)
            .collect();
        let digest = blake3::hash(remote.as_bytes()).to_hex();
        Self {
            dir: root.join(format!("{name}-{}.git", &digest[..12])),
            remote: remote.to_owned(),
            interrupt: Interrupt::never(),
        }
    }

    /// A refresh ends early when `interrupt` is set.
    #[must_use]
    pub fn ends_with(self, interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), ..self }
    }

    /// The bare repository.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks the remote what it publishes now, and fetches what is new. An error leaves the mirror usable as it was.
    pub fn refresh(&self, deadline: Deadline) -> Result<Published, FetchError> {
        let reach = self.reach()?;
        let asked = self.ask(&reach, deadline)?;
        if let Some(published) = self.up_to_date(&asked) {
            return Ok(published);
        }
        let _lock = self.lock(deadline)?;
        // Whoever held the lock may have fetched it.
        if let Some(published) = self.up_to_date(&asked) {
            return Ok(published);
        }
        if self.is_damaged() {
            self.rebuild(&reach, deadline)?;
        } else {
            match self.fetch_into(&self.dir, &reach, deadline) {
                Ok(()) => {}
                Err(error) if error.kind == FetchErrorKind::Asked => return Err(error),
                // Whose fault was it?
                Err(error) if self.is_whole() => return Err(error),
                Err(_) => self.rebuild(&reach, deadline)?,
            }
        }
        // Not what was asked: what was fetched is newer.
        self.published_offline().map_err(|error| self.local(&error))
    }

    /// What the mirror has, without asking the remote.
    pub fn published_offline(&self) -> Result<Published> {
        ensure!(self.dir.is_dir(), "the recipe `{}` was never fetched", shown(&self.remote));
        self.publishes(&self.refs("refs/tags")?)
    }

    /// Whether it must be built anew; the next [`Mirror::refresh`] does so.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.dir.is_dir() || self.dir.join(DAMAGED).exists() || self.refs("refs").is_err()
    }

    /// Notes that it cannot be read, if that is so. `error` is what led to the question.
    pub(super) fn suspect(&self, error: anyhow::Error) -> anyhow::Error {
        if self.is_whole() {
            return error;
        }
        let _ = fs::write(self.dir.join(DAMAGED), b"");
        error.context("the mirror of the recipe is damaged; it is built anew by the next fetch")
    }

    /// Whether every commit that a ref names is there with all that it needs.
    fn is_whole(&self) -> bool {
        let fsck = Git::new(Some(&self.dir), "fsck", &Reach::Nothing).words(&["--no-dangling", "--no-progress"]);
        !self.is_damaged() && fsck.run(LOCAL).is_ok()
    }

    /// Keeps `commit` in the mirror, even if its tag moves or vanishes.
    pub fn pin(&self, commit: &CommitId) -> Result<()> {
        let _lock = self.lock(Deadline::after(LOCAL))?;
        self.update_refs(&format!("update {PINS}{commit} {commit}\n"))
            .with_context(|| format!("commit {} cannot be kept", commit.short()))
    }

    /// Keeps exactly these commits: those of all apps that share the mirror. Gives those that it does not have.
    pub fn keep_pins(&self, commits: &[CommitId]) -> Result<Vec<CommitId>> {
        let _lock = self.lock(Deadline::after(LOCAL))?;
        let wanted: BTreeSet<&CommitId> = commits.iter().collect();
        let pinned = self.pins()?;
        let new: Vec<&CommitId> = wanted.iter().copied().filter(|commit| !pinned.contains(*commit)).collect();
        let found = self.peel(&new)?;
        let mut changes: Vec<String> = Vec::new();
        let mut missing = Vec::new();
        for (commit, found) in new.into_iter().zip(found) {
            if found.as_ref() == Some(commit) {
                changes.push(format!("update {PINS}{commit} {commit}\n"));
            } else {
                missing.push(commit.clone());
            }
        }
        for commit in pinned.iter().filter(|commit| !wanted.contains(commit)) {
            changes.push(format!("delete {PINS}{commit}\n"));
        }
        self.update_refs(&changes.concat())?;
        Ok(missing)
    }

    /// The commits that are pinned.
    pub fn pins(&self) -> Result<BTreeSet<CommitId>> {
        Ok(self.refs(PINS.trim_end_matches('/'))?.into_values().map(|found| found.id).collect())
    }

    fn update_refs(&self, changes: &str) -> Result<()> {
        if !changes.is_empty() {
            Git::new(Some(&self.dir), "update-ref", &Reach::Nothing).words(&["--stdin"]).stdin(changes).run(LOCAL)?;
        }
        Ok(())
    }

    /// What the remote says, if the mirror has just that: one process, whatever the number of tags.
    fn up_to_date(&self, asked: &Asked) -> Option<Published> {
        if !self.dir.is_dir() || self.dir.join(DAMAGED).exists() {
            return None;
        }
        let refs = self.refs("refs/tags").ok()?;
        let same = refs.len() == asked.len() && refs.iter().all(|(name, found)| asked.get(name) == Some(&found.id));
        if same { self.publishes(&refs).ok() } else { None }
    }

    fn ask(&self, reach: &Reach, deadline: Deadline) -> Result<Asked, FetchError> {
        let git = Git::new(None, "ls-remote", reach).words(&["--quiet", "--tags", "--refs"]).values([&self.remote]);
        let answer = git
            .cap(TAGS_CAP + 1)
            .ends_with(&self.interrupt)
            .run(deadline.left())
            .map_err(|error| FetchError::from_git(&self.remote, &error))?
            .stdout;
        let nonsense = |words: &str| FetchError::new(&self.remote, FetchErrorKind::Nonsense, words);
        if answer.len() > TAGS_CAP {
            return Err(nonsense("there are too many tags"));
        }
        let mut refs = Asked::new();
        for line in answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let (id, name) = line.split_once('\t').ok_or_else(|| nonsense("an answer that is no list of tags"))?;
            let id = id.parse().map_err(|_| nonsense("object ids that are not SHA-1"))?;
            if let Some(name) = name.strip_prefix("refs/tags/") {
                refs.insert(name.to_owned(), id);
            }
        }
        Ok(refs)
    }

    fn fetch_into(&self, dir: &Path, reach: &Reach, deadline: Deadline) -> Result<(), FetchError> {
        fault::point("recipe.mirror.fetch").map_err(|error| self.local(&error.into()))?;
        Git::new(Some(dir), "fetch", reach)
            .words(&["--quiet", "--atomic", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"])
            .words(&["--no-recurse-submodules", "--no-show-forced-updates"])
            .values([self.remote.as_str(), TAGS])
            .ends_with(&self.interrupt)
            .run(deadline.left())
            .map_err(|error| FetchError::from_git(&self.remote, &error))?;
        Ok(())
    }

    /// A new mirror beside the old one, and then in its place. Pinned commits are taken over where they can be read.
    fn rebuild(&self, reach: &Reach, deadline: Deadline) -> Result<(), FetchError> {
        let local = |error: anyhow::Error| self.local(&error);
        let root = self.dir.parent().unwrap_or(Path::new("/"));
        self.remove_leftovers(root).map_err(local)?;
        let new = tempfile::Builder::new()
            .prefix(&self.leftover_prefix())
            .tempdir_in(root)
            .map_err(|error| local(error.into()))?;
        Git::new(None, "init", &Reach::Nothing)
            .words(&["--bare", "--quiet", "--template=", "--object-format=sha1"])
            .values([new.path()])
            .run(LOCAL)
            .map_err(|error| local(error.into()))?;
        self.fetch_into(new.path(), reach, deadline)?;
        let replace = || -> Result<()> {
            if self.dir.is_dir() {
                self.take_over_pins(new.path());
            }
            rustix::fs::syncfs(File::open(new.path())?)?;
            fault::point("recipe.mirror.replace")?;
            match renameat_with(CWD, new.path(), CWD, &self.dir, RenameFlags::EXCHANGE) {
                // The old one now has the temporary name, and goes with it.
                Ok(()) => durable::sync_dir(root),
                Err(rustix::io::Errno::NOENT) => durable::rename(&new.keep(), &self.dir),
                // No exchange here: for a moment there is no mirror, which is then fetched again.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    fs::remove_dir_all(&self.dir)?;
                    durable::rename(&new.keep(), &self.dir)
                }
                Err(error) => Err(error).with_context(|| format!("cannot replace `{}`", self.dir.display())),
            }
        };
        replace().map_err(local)
    }

    /// Copies what is pinned in this mirror to the one at `new`, one by one: what is damaged does not keep the rest back.
    fn take_over_pins(&self, new: &Path) {
        let mut lost = Vec::new();
        let other = Self { dir: new.to_owned(), ..self.clone() };
        for pin in self.pins_by_name() {
            let has = other.peel(&[&pin]).is_ok_and(|found| found == [Some(pin.clone())]);
            let change = format!("update {PINS}{pin} {pin}\n");
            if (has || self.copy_commit(&pin, new).is_ok()) && other.update_refs(&change).is_ok() {
                continue;
            }
            lost.push(pin.short().to_owned());
        }
        if !lost.is_empty() {
            let mirror = self.dir.display();
            tracing::warn!(%mirror, "the mirror was damaged; these commits could not be kept: {}", lost.join(", "));
        }
    }

    /// `commit` and all that it needs, from this mirror's objects, whatever state its refs and configuration are in: the
    /// new mirror borrows them for a moment.
    fn copy_commit(&self, commit: &CommitId, new: &Path) -> Result<()> {
        let borrowed = new.join("objects/info/alternates");
        fs::create_dir_all(new.join("objects/info"))?;
        let mut line = self.dir.join("objects").into_os_string();
        line.push("\n");
        fs::write(&borrowed, line.as_encoded_bytes())?;
        let pack = Git::new(Some(new), "pack-objects", &Reach::Nothing)
            .words(&["--stdout", "--revs", "--quiet"])
            .stdin(format!("{commit}\n"))
            .cap(PACK_CAP + 1)
            .run(LOCAL);
        fs::remove_file(&borrowed)?;
        let pack = pack?.stdout;
        ensure!(pack.len() <= PACK_CAP, "the commit is too large");
        Git::new(Some(new), "index-pack", &Reach::Nothing).words(&["--stdin", "--strict"]).stdin(pack).run(LOCAL)?;
        Ok(())
    }

    /// What is pinned, as the names of refs say it, even where git cannot read the mirror any more.
    fn pins_by_name(&self) -> BTreeSet<CommitId> {
        let mut names: Vec<String> = Vec::new();
        if let Ok(entries) = fs::read_dir(self.dir.join(PINS)) {
            names.extend(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        if let Ok(packed) = fs::read(self.dir.join("packed-refs")) {
            let lines = String::from_utf8_lossy(&packed);
            names.extend(lines.lines().filter_map(|line| Some(line.split_once(PINS)?.1.to_owned())));
        }
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// How to reach the remote; for a path, with a file that lets git read what somebody else owns.
    fn reach(&self) -> Result<Reach, FetchError> {
        let path = self.remote.strip_prefix("file://").unwrap_or(&self.remote);
        if self.remote.chars().any(char::is_control) || path.starts_with('-') {
            return Err(FetchError::new(&self.remote, FetchErrorKind::Unsupported, ""));
        }
        if self.remote.starts_with("https://") || self.remote.starts_with("ssh://") {
            return Ok(Reach::Network);
        }
        if !path.starts_with('/') {
            return Err(FetchError::new(&self.remote, FetchErrorKind::Unsupported, ""));
        }
        let trusted = self.dir.with_extension("trust");
        let wanted = trust(Path::new(path));
        let write = || -> Result<()> {
            if durable::read(&trusted)?.as_deref() != Some(&wanted) {
                durable::make_dir(trusted.parent().unwrap_or(Path::new("/")))?;
                durable::replace(&trusted, &wanted)?;
            }
            Ok(())
        };
        write().map_err(|error| self.local(&error))?;
        Ok(Reach::Path(trusted))
    }

    fn lock(&self, deadline: Deadline) -> Result<File, FetchError> {
        let path = self.dir.with_extension("lock");
        let make = || durable::make_dir(path.parent().unwrap_or(Path::new("/")));
        make().map_err(|error| self.local(&error))?;
        flock::take(&path, deadline).map_err(|error| {
            let kind = if deadline.is_over() { FetchErrorKind::Busy } else { FetchErrorKind::Local };
            FetchError::new(&self.remote, kind, format!("{error:#}"))
        })
    }

    fn leftover_prefix(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!(".{name}.new-")
    }

    /// Removes what rebuilds that were cut short left. The lock is held: nobody else is at it.
    fn remove_leftovers(&self, root: &Path) -> Result<()> {
        let prefix = self.leftover_prefix();
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn local(&self, error: &anyhow::Error) -> FetchError {
        FetchError::new(&self.remote, FetchErrorKind::Local, format!("{error:#}"))
    }
}

/// The most bytes of a pinned commit's history that are carried over from a damaged mirror.
const PACK_CAP: usize = 256 << 20;
