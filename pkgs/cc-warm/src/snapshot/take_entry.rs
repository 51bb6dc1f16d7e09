//! Copying one entry of a live tree.

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, readlinkat, unlinkat};
use rustix::io::Errno;

use super::beneath::Dir;
use super::catalog::Digest;
use super::changed::{Changed, Other, change};
use super::crew::{Crew, Part};
use super::data::LARGE;
use super::entry::Entry;
use super::links::{Linked, Node};
use super::make::{Finish, Folder, Kit, Maker, count};
use super::names::Names;
use super::predecessor::Believed;
use super::xattrs::Way;
use super::{flags, xattrs};

/// What a job does one of.
pub(super) struct Item {
    /// Which of the names.
    pub(super) at: usize,
    /// What the predecessor has of it.
    pub(super) recorded: Option<Box<(Entry, Digest)>>,
}

/// A job: some of what is in a folder.
pub(super) struct Batch {
    /// The folder.
    pub(super) folder: Folder,
    /// What is in it.
    pub(super) names: Arc<Names>,
    /// What of it.
    pub(super) items: Vec<Item>,
}

/// What a job gives, in order.
#[derive(Default)]
pub(super) struct Piece {
    /// Lines for the catalog.
    pub(super) entries: Vec<u8>,
    /// Lines for the digests.
    pub(super) digests: Vec<u8>,
    /// How many entries.
    pub(super) count: u64,
    /// How many lacking digests.
    pub(super) missing: u64,
    /// A folder whose content is complete.
    pub(super) finish: Option<Finish>,
}

impl Piece {
    /// Adds an entry.
    pub(super) fn add(&mut self, entry: &Entry, digest: Digest) {
        entry.write(&mut self.entries);
        self.count += 1;
        if entry.kind == FileType::RegularFile {
            digest.write(&mut self.digests);
            self.missing += u64::from(digest == Digest::Missing);
        }
    }
}

/// What copies entries; shared by all threads.
#[derive(Debug)]
pub(super) struct Shared {
    /// Makes them.
    pub(super) maker: Maker,
    /// What did not change is taken over from it.
    pub(super) predecessor: Option<Believed>,
    /// Whether the app runs.
    pub(super) running: bool,
    /// Whether content is digested.
    pub(super) digest: bool,
}

impl Shared {
    /// Does one job.
    pub(super) fn batch(
        &self,
        batch: Batch,
        kit: &mut Kit,
        crew: Crew<'_>,
        part: &mut Part<'_, Batch, Piece>,
    ) -> Result<Piece> {
        let mut piece = Piece::default();
        let Batch { folder, names, items } = batch;
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            self.maker.meter.check()?;
            let listed = names.get(item.at);
            let mut is_large = || {
                if items.len() > 0 {
                    let (folder, names) = (folder.clone(), Arc::clone(&names));
                    part.leave(Batch { folder, names, items: items.by_ref().collect() });
                }
            };
            match self.entry(&folder, listed, item.recorded.as_deref(), (kit, crew), &mut is_large) {
                Ok((entry, digest)) => piece.add(&entry, digest),
                Err(error) => self.tolerate(error, &folder.node, &folder.target, listed.0)?,
            }
            self.maker.meter.add_entry();
        }
        Ok(piece)
    }

    /// Passes over what a running app changed under our hands; anything else, and that too where no app should run, is
    /// an error.
    pub(super) fn tolerate(&self, error: anyhow::Error, node: &Node, target: &Dir, name: &[u8]) -> Result<()> {
        let Some(what) = change(&error, self.running) else {
            return Err(error.context(format!("cannot copy `{}`", node.shown(name))));
        };
        if !self.running {
            return Err(Changed { path: node.shown(name), what }.into());
        }
        match unlinkat(target, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(io::Error::from(e)).with_context(|| format!("cannot remove `{}`", node.shown(name))),
        }
    }

    /// Copies one, which the listing had as a regular file's or not. `is_large` is called before work on a file that takes long.
    fn entry(
        &self,
        folder: &Folder,
        (name, regular): (&[u8], bool),
        recorded: Option<&(Entry, Digest)>,
        (kit, crew): (&mut Kit, Crew<'_>),
        is_large: &mut dyn FnMut(),
    ) -> Result<(Entry, Digest)> {
        // Opening a device can do something, so what it is must be known first: where nobody writes, the listing of a
        // moment ago says it.
        if regular && recorded.is_none() && !self.running {
            return self.file(folder, name, (kit, crew), is_large);
        }
        let stat = self.maker.source.stat_at(&folder.source, name)?;
        let mut entry = Entry::of(&stat, name);
        match entry.kind {
            FileType::RegularFile => {
                if let Some(taken) = self.take_over(folder, &entry, recorded)? {
                    return Ok(taken);
                }
                self.file(folder, &entry.name, (kit, crew), is_large)
            }
            FileType::Socket => {
                count(&self.maker.counts.sockets);
                Ok((entry, Digest::Missing))
            }
            FileType::Symlink | FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                if entry.kind == FileType::Symlink {
                    entry.target = readlinkat(&*folder.source, name, Vec::new())?.into_bytes();
                }
                match self.maker.link(folder, &entry, || self.maker.create_special(folder, &entry))? {
                    Linked::First(()) => self.maker.dress_special(folder, &mut entry, &stat, kit)?,
                    Linked::Again => {
                        entry.xattrs = xattrs::read(&Way::to(&folder.source, name), &mut kit.xattrs)?;
                    }
                }
                Ok((entry, Digest::Missing))
            }
            FileType::Directory | FileType::Unknown => Err(Other.into()),
        }
    }

    fn file(
        &self,
        folder: &Folder,
        name: &[u8],
        (kit, crew): (&mut Kit, Crew<'_>),
        is_large: &mut dyn FnMut(),
    ) -> Result<(Entry, Digest)> {
        let maker = &self.maker;
        let (from, stat) = maker.source.open_known_file(&folder.source, name)?;
        if stat.size() >= LARGE {
            is_large();
        }
        let mut entry = Entry::of(&stat, name);
        (entry.flags, entry.project) = flags::read(&from, &maker.source_flags)?;
        let from = Arc::new(from);
        match maker.link(folder, &entry, || maker.create(folder, &entry))? {
            Linked::First(to) => {
                let digest = maker.fill(folder, &mut entry, (&from, &stat), to, self.digest, (kit, crew))?;
                Ok((entry, digest.map_or(Digest::Missing, Digest::Known)))
            }
            Linked::Again => {
                entry.xattrs = xattrs::read(&Way::open(&*from), &mut kit.xattrs)?;
                Ok((entry, Digest::Elsewhere))
            }
        }
    }

    /// Links the predecessor's copy, if the rule says that nothing changed since.
    fn take_over(
        &self,
        folder: &Folder,
        found: &Entry,
        recorded: Option<&(Entry, Digest)>,
    ) -> Result<Option<(Entry, Digest)>> {
        let (Some(known), Some(dir), Some((recorded, digest))) = (&self.predecessor, &folder.predecessor, recorded)
        else {
            return Ok(None);
        };
        let Some(old) = known.may_link(dir, recorded, found) else { return Ok(None) };
        if recorded.project != 0 && self.is_charged(known, dir, recorded) {
            return Ok(None);
        }
        // An equal ctime means equal metadata, too.
        let entry =
            Entry { flags: recorded.flags, project: recorded.project, xattrs: recorded.xattrs, ..found.clone() };
        Ok(match self.maker.link_old((dir, &old), folder, &entry)? {
            None => None,
            // The name that has the digest may never be the first again.
            Some(Linked::First(())) if *digest == Digest::Elsewhere => Some((entry, Digest::Missing)),
            Some(_) => Some((entry, *digest)),
        })
    }

    /// Whether the predecessor's file in `dir` is in the project of the live one, and so charged to the app, as the copies
    /// of older programs are.
    fn is_charged(&self, known: &Believed, dir: &Dir, recorded: &Entry) -> bool {
        let of = || -> io::Result<u32> {
            let (file, _) = known.root.open_known_file(dir, &recorded.name)?;
            Ok(flags::read(&file, &self.maker.target_flags)?.1)
        };
        of().is_ok_and(|project| project == recorded.project)
    }
}
