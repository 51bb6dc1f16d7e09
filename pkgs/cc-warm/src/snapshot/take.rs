//! Taking a copy of a live tree, and writing down what it was.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{Mode, mkdirat};

use super::beneath::Root;
use super::catalog::{Catalog, Digest, LEAVE, Lines, Reader};
use super::crew::{self, Lead};
use super::descent::Descent;
use super::entry::Entry;
use super::flush::{Flush, Pace};
use super::links::Node;
use super::make::{Finish, Folder, Kit, Maker};
use super::meter::{Meter, Progress};
use super::moment::Moment;
use super::predecessor::{Believed, Predecessor, Steps};
use super::take_entry::{Batch, Item, Piece, Shared};
use super::tree::{Copied, Listing, file_system, make_top, threads};
use super::xattrs::Way;
use super::{flags, xattrs};
use crate::sys::signals::Interrupt;

/// Entries of one job.
const BATCH: usize = 64;

/// A copy to take.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    /// The live tree (`…/_data`).
    pub source: &'a Path,
    /// The copy; made here, must not be there.
    pub target: &'a Path,
    /// Writes the copy back while it is made.
    pub flush: &'a Flush,
    /// Where what is known of the tree is written; must not be there. Digests only if asked for.
    pub catalog: &'a Catalog,
    /// What it may take over from.
    pub predecessor: Option<Predecessor<'a>>,
    /// Whether the app runs: a staging copy then, in which what changes meanwhile is left as it was found, or out.
    pub running: bool,
    /// Whether content is digested where it is read; see [`super::scrub::complete`] for what was reflinked.
    pub digest: bool,
    /// Whether reflinks are tried.
    pub reflink: bool,
}

/// Takes it. The copy is neither verified nor durable yet: see [`super::verify`] and [`super::flush::Flush`].
pub fn take(order: &Take<'_>, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Copied> {
    let source = Root::open(order.source).with_context(|| format!("cannot open `{}`", order.source.display()))?;
    let kind = file_system(source.dir())?;
    let began = Moment::now()?;
    if order.running {
        // A page that is dirty through a map keeps the ctime of its first store; written back, the next store moves it.
        rustix::fs::syncfs(source.dir()).with_context(|| format!("cannot sync `{}`", order.source.display()))?;
    }
    let target = make_top(order.target)?;
    let above = order.target.parent().unwrap_or(order.target);
    let (predecessor, takeover) = Believed::open(order.predecessor, &began, &kind)?;
    let (predecessor, reader) = predecessor.unzip();
    let meter = Arc::new(Meter::new(interrupt, None));
    let shared = Shared {
        maker: Maker::new(source, (target, above), order.reflink, Arc::clone(&meter))?,
        predecessor,
        running: order.running,
        digest: order.digest,
    };
    let mut entries = Lines::create(&order.catalog.entries)?;
    let mut digests = if order.digest { Some(Lines::create(&order.catalog.digests)?) } else { None };
    let (mut total, mut missing) = (0, 0);
    let mut buffers = xattrs::Buffers::default();
    let pace = Pace::of(order.flush);
    crew::run(
        threads(),
        |batch: Batch, kit: &mut Kit, crew, part| shared.batch(batch, kit, crew, part),
        |piece: Piece| {
            pace.reached(meter.read());
            total += piece.count;
            missing += piece.missing;
            entries.write(&piece.entries)?;
            if let Some(digests) = &mut digests {
                digests.write(&piece.digests)?;
            }
            if let Some(finish) = &piece.finish {
                shared.maker.finish_folder(finish, &mut buffers)?;
            }
            Ok(())
        },
        || {
            let (entries, bytes) = meter.read();
            pace.reached((entries, bytes));
            progress.done(entries, bytes);
            Ok(meter.check()?)
        },
        |lead| Walk::new(&shared, reader)?.run(lead),
    )?;
    shared.maker.finish()?;
    let header = entries.finish_entries(began, order.running, &kind, total)?;
    if let Some(digests) = digests {
        digests.finish_digests(&header.sum, missing)?;
    }
    let (entries, bytes) = meter.read();
    progress.done(entries, bytes);
    let digested = order.digest && missing == 0;
    Ok(Copied { entries: header.entries, bytes, digested, takeover, sum: header.sum, ..shared.maker.counts.read() })
}

/// The walk that hands in the jobs.
struct Walk<'s> {
    shared: &'s Shared,
    source: Descent<'s>,
    target: Descent<'s>,
    old: Option<Steps<'s>>,
    levels: Vec<Level>,
    buffers: xattrs::Buffers,
}

struct Level {
    entry: Entry,
    node: Arc<Node>,
    inherits: bool,
    folders: VecDeque<Box<[u8]>>,
}

impl<'s> Walk<'s> {
    fn new(shared: &'s Shared, reader: Option<Reader>) -> Result<Self> {
        let old = match (reader, &shared.predecessor) {
            (Some(reader), Some(known)) => Some(Steps::new(&known.root, reader)?),
            _ => None,
        };
        let maker = &shared.maker;
        Ok(Self {
            shared,
            source: Descent::new(&maker.source)?,
            target: Descent::new(&maker.target)?,
            old,
            levels: Vec::new(),
            buffers: xattrs::Buffers::default(),
        })
    }

    fn run(mut self, lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        let stat = *self.shared.maker.source.stat();
        let mut entry = Entry::of(&stat, b".");
        self.describe(&mut entry)?;
        self.begin(entry, Arc::default(), true, lead)?;
        while let Some(level) = self.levels.last_mut() {
            self.shared.maker.meter.check()?;
            match level.folders.pop_front() {
                Some(name) => self.enter(&name, lead)?,
                None => self.leave(lead)?,
            }
        }
        Ok(())
    }

    /// Adds what the open folder itself says.
    fn describe(&mut self, entry: &mut Entry) -> Result<()> {
        let dir = self.source.dir()?;
        (entry.flags, entry.project) = flags::read(&*dir, &self.shared.maker.source_flags)?;
        entry.xattrs = xattrs::read(&Way::open(&*dir), &mut self.buffers)?;
        Ok(())
    }

    fn enter(&mut self, name: &[u8], lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let (node, inherits) = (Arc::clone(&level.node), level.inherits);
        let stat = match self.source.enter(name) {
            Ok(stat) => stat,
            Err(error) => {
                let target = self.target.dir()?;
                return self.shared.tolerate(error.into(), &node, &target, name);
            }
        };
        let mut entry = Entry::of(&stat, name);
        let mut make = |walk: &mut Self| -> Result<()> {
            walk.describe(&mut entry)?;
            mkdirat(&*walk.target.dir()?, name, Mode::RWXU)?;
            walk.target.enter(name)?;
            if let Some(old) = &mut walk.old {
                old.enter(name)?;
            }
            Ok(())
        };
        make(self).with_context(|| format!("cannot copy the folder `{}`", node.shown(name)))?;
        self.begin(entry, Node::below(&node, name), inherits, lead)
    }

    /// Begins the folder that was entered: hands in what is in it.
    fn begin(
        &mut self,
        entry: Entry,
        node: Arc<Node>,
        inherits: bool,
        lead: &mut Lead<'_, Batch, Piece>,
    ) -> Result<()> {
        let mut piece = Piece::default();
        piece.add(&entry, Digest::Missing);
        lead.pass(piece)?;
        self.shared.maker.meter.add_entry();
        let (source, target) = (self.source.dir()?, self.target.dir()?);
        self.shared.maker.begin_folder(&entry, &target, inherits)?;
        let listing = match Listing::read(&self.shared.maker.source, &source) {
            Ok(listing) => listing,
            // It was deleted since it was opened.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.shared.running => Listing::default(),
            Err(e) => return Err(e).with_context(|| format!("cannot list the folder `{}`", node.shown(b"."))),
        };
        let mut folder = Folder {
            source,
            target,
            node: Arc::clone(&node),
            inherits: entry.flags != 0 || entry.project != 0,
            predecessor: None,
        };
        if let Some(old) = &mut self.old {
            folder.predecessor = old.dir()?;
        }
        self.levels.push(Level { entry, node, inherits: folder.inherits, folders: listing.folders });
        let names = Arc::new(listing.names);
        let mut items = Vec::with_capacity(names.len().min(BATCH));
        for (at, name) in names.iter().enumerate() {
            let recorded = match &mut self.old {
                Some(old) => old.find(name)?.map(Box::new),
                None => None,
            };
            items.push(Item { at, recorded });
            if items.len() == BATCH {
                let items = std::mem::replace(&mut items, Vec::with_capacity(BATCH));
                lead.submit(Batch { folder: folder.clone(), names: Arc::clone(&names), items })?;
            }
        }
        if !items.is_empty() {
            lead.submit(Batch { folder, names, items })?;
        }
        Ok(())
    }

    fn leave(&mut self, lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let (from, to) = (self.source.dir()?, self.target.dir()?);
        let finish = Some(Finish { entry: level.entry, node: level.node, from, to });
        lead.pass(Piece { entries: LEAVE.to_vec(), finish, ..Piece::default() })?;
        self.source.leave();
        self.target.leave();
        if let Some(old) = &mut self.old {
            old.leave()?;
        }
        Ok(())
    }
}
