//! Building live data from a snapshot's copy, by what was recorded of it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FileType, Mode, mkdirat, readlinkat};

use super::beneath::Root;
use super::catalog::{Catalog, Digest, Event, Reader};
use super::changed::OfCopy;
use super::crew::{self, Crew, Lead, Part};
use super::data::LARGE;
use super::descent::Descent;
use super::entry::Entry;
use super::flush::{Flush, Pace};
use super::links::{Linked, Node};
use super::make::{Finish, Folder, Kit, Maker, count};
use super::meter::{Meter, Progress};
use super::moment::Moment;
use super::predecessor::{Believed, Predecessor, Steps};
use super::transfer;
use super::tree::{Copied, file_system, make_top, threads};
use super::xattrs::{self, Way};
use crate::sys::signals::Interrupt;

/// Entries of one job.
const BATCH: usize = 32;

/// A tree to restore.
#[derive(Debug, Clone, Copy)]
pub struct Restore<'a> {
    /// The snapshot's copy.
    pub source: &'a Path,
    /// What is known of it.
    pub catalog: &'a Catalog,
    /// The new tree; made here, must not be there.
    pub target: &'a Path,
    /// Writes the new tree back while it is made.
    pub flush: &'a Flush,
    /// The live tree, only where it is not kept: what of it is as it was recorded gets a second name in the new one.
    pub live: Option<Predecessor<'a>>,
    /// Whether content is held against its digests, where there are any.
    pub digest: bool,
    /// Whether reflinks are tried.
    pub reflink: bool,
}

/// What is wrong with a file that does not fit its digest.
const OTHER_CONTENT: &str = "has other content than its digest says";

/// A snapshot is not what was recorded of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the snapshot is damaged: `{path}` {what}")]
pub struct Damaged {
    /// Where, escaped.
    pub path: String,
    /// What was seen.
    pub what: String,
}

struct Item {
    entry: Entry,
    digest: Digest,
    live: Option<Entry>,
}

struct Batch {
    folder: Folder,
    items: Vec<Item>,
}

/// Builds it. The new tree is neither verified nor durable yet: see [`super::verify`] and [`super::flush::Flush`].
pub fn restore(order: &Restore<'_>, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Copied> {
    let source = Root::open(order.source).with_context(|| format!("cannot open `{}`", order.source.display()))?;
    let reader = Reader::open(order.catalog)?;
    let header = reader.header().clone();
    let digested = order.digest && reader.is_digested();
    let target = make_top(order.target)?;
    let above = order.target.parent().unwrap_or(order.target);
    let (live, takeover) = Believed::open(order.live, &Moment::now()?, &file_system(target.dir())?)?;
    let (live, live_reader) = live.unzip();
    let meter = Arc::new(Meter::new(interrupt, None));
    let mut maker = Maker::new(source, (target, above), order.reflink, Arc::clone(&meter))?;
    maker.live = true;
    let shared = Shared { maker, live, digest: order.digest };
    let mut buffers = xattrs::Buffers::default();
    let pace = Pace::of(order.flush);
    crew::run(
        threads(),
        |batch: Batch, kit: &mut Kit, crew, part| shared.batch(batch, kit, crew, part),
        |finish: Option<Finish>| {
            pace.reached(meter.read());
            match finish {
                Some(finish) => shared.maker.finish_folder(&finish, &mut buffers),
                None => Ok(()),
            }
        },
        || {
            let (entries, bytes) = meter.read();
            pace.reached((entries, bytes));
            progress.done(entries, bytes);
            Ok(meter.check()?)
        },
        |lead| Walk::new(&shared, live_reader)?.run(reader, lead),
    )?;
    shared.maker.finish()?;
    let (entries, bytes) = meter.read();
    progress.done(entries, bytes);
    Ok(Copied { entries: header.entries, bytes, digested, takeover, sum: header.sum, ..shared.maker.counts.read() })
}

struct Shared {
    maker: Maker,
    live: Option<Believed>,
    digest: bool,
}

impl Shared {
    fn batch(
        &self,
        batch: Batch,
        kit: &mut Kit,
        crew: Crew<'_>,
        part: &mut Part<'_, Batch, Option<Finish>>,
    ) -> Result<Option<Finish>> {
        let mut items = batch.items.into_iter();
        while let Some(item) = items.next() {
            if item.entry.size >= LARGE && items.len() > 0 {
                part.leave(Batch { folder: batch.folder.clone(), items: items.by_ref().collect() });
            }
            self.maker.meter.check()?;
            let name = item.entry.name.clone();
            if let Some(what) = self.entry(&batch.folder, item, kit, crew).or_else(|error| {
                match error.downcast_ref::<io::Error>().map(io::Error::kind).filter(|_| !error.is::<OfCopy>()) {
                    Some(io::ErrorKind::NotFound) => Ok(Some("is missing".to_owned())),
                    Some(io::ErrorKind::InvalidInput) => Ok(Some("is no regular file".to_owned())),
                    _ if transfer::is_short(&error) => Ok(Some("is too short".to_owned())),
                    _ => Err(error.context(format!("cannot restore `{}`", batch.folder.node.shown(&name)))),
                }
            })? {
                return Err(Damaged { path: batch.folder.node.shown(&name), what }.into());
            }
            self.maker.meter.add_entry();
        }
        Ok(None)
    }

    /// Makes one entry; what is wrong with the snapshot's, if something is.
    fn entry(&self, folder: &Folder, item: Item, kit: &mut Kit, crew: Crew<'_>) -> Result<Option<String>> {
        let Item { mut entry, digest, live } = item;
        if entry.kind == FileType::Socket {
            count(&self.maker.counts.sockets);
            return Ok(None);
        }
        if entry.kind == FileType::RegularFile && self.keep(folder, &entry, live.as_ref())? {
            return Ok(None);
        }
        let stat = self.maker.source.stat_at(&folder.source, &entry.name)?;
        if let Some(what) = entry.differs(&stat) {
            return Ok(Some(format!("has another {what} than was recorded")));
        }
        let recorded = entry.xattrs;
        if entry.kind == FileType::RegularFile {
            let (from, stat) = self.maker.source.open_known_file(&folder.source, &entry.name)?;
            let from = Arc::new(from);
            let wanted = match digest {
                Digest::Known(wanted) if self.digest => Some(wanted),
                _ => None,
            };
            let Linked::First(to) = self.maker.link(folder, &entry, || self.maker.create(folder, &entry))? else {
                // The first of its names was copied unchecked, if it is this one that has the digest.
                let found = wanted.map(|_| self.maker.digest(&from, &stat, (kit, crew))).transpose()?;
                return Ok((found != wanted).then(|| OTHER_CONTENT.to_owned()));
            };
            let mut found =
                self.maker.fill(folder, &mut entry, (&from, &stat), to, wanted.is_some(), (&mut *kit, crew))?;
            if wanted.is_some() && found.is_none() {
                found = Some(self.maker.digest(&from, &stat, (kit, crew))?);
            }
            if found.is_some() && wanted.is_some() && found != wanted {
                return Ok(Some(OTHER_CONTENT.to_owned()));
            }
        } else {
            if entry.kind == FileType::Symlink {
                let target =
                    readlinkat(&*folder.source, &*entry.name, Vec::new()).map_err(io::Error::from)?.into_bytes();
                if target != entry.target {
                    return Ok(Some("leads elsewhere than was recorded".to_owned()));
                }
            }
            match self.maker.link(folder, &entry, || self.maker.create_special(folder, &entry))? {
                Linked::First(()) => self.maker.dress_special(folder, &mut entry, &stat, kit)?,
                Linked::Again => return Ok(None),
            }
        }
        let same =
            entry.xattrs == recorded || xattrs::are(&Way::to(&folder.source, &entry.name), recorded, &mut kit.xattrs)?;
        Ok((!same).then(|| "has other extended attributes than were recorded".to_owned()))
    }

    /// Gives the live file a second name, if the rule says that it is what was recorded.
    fn keep(&self, folder: &Folder, entry: &Entry, live: Option<&Entry>) -> Result<bool> {
        let (Some(known), Some(dir), Some(live)) = (&self.live, &folder.predecessor, live) else {
            return Ok(false);
        };
        let Ok(stat) = known.root.stat_at(dir, &entry.name) else { return Ok(false) };
        // The record of the live tree must also be of this entry, whatever else became of either.
        let attributes = |entry: &Entry| (entry.size, entry.mtime, entry.flags, entry.project, entry.xattrs);
        let same = attributes(live) == attributes(entry) && entry.differs(&stat).is_none();
        let old = if same { known.may_link(dir, live, &Entry::of(&stat, &entry.name)) } else { None };
        let Some(old) = old else { return Ok(false) };
        Ok(self.maker.link_old((dir, &old), folder, entry)?.is_some())
    }
}

struct Walk<'s> {
    shared: &'s Shared,
    source: Descent<'s>,
    target: Descent<'s>,
    live: Option<Steps<'s>>,
    /// The folders that the walk is in, and whether what is made in them gets flags or a project from them.
    levels: Vec<(Entry, Arc<Node>, bool)>,
    items: Vec<Item>,
}

impl<'s> Walk<'s> {
    fn new(shared: &'s Shared, reader: Option<Reader>) -> Result<Self> {
        let live = match (reader, &shared.live) {
            (Some(reader), Some(known)) => Some(Steps::new(&known.root, reader)?),
            _ => None,
        };
        let maker = &shared.maker;
        let (source, target) = (Descent::new(&maker.source)?, Descent::new(&maker.target)?);
        Ok(Self { shared, source, target, live, levels: Vec::new(), items: Vec::new() })
    }

    fn run(mut self, mut reader: Reader, lead: &mut Lead<'_, Batch, Option<Finish>>) -> Result<()> {
        while let Some(event) = reader.next()? {
            match event {
                Event::Entry(entry, digest) => {
                    let live = match &mut self.live {
                        Some(live) => live.find(&entry.name)?.map(|(entry, _)| entry),
                        None => None,
                    };
                    self.items.push(Item { entry, digest, live });
                    if self.items.len() == BATCH {
                        self.flush(lead)?;
                    }
                }
                Event::Enter(entry) => {
                    self.flush(lead)?;
                    self.enter(entry)?;
                }
                Event::Leave => {
                    self.flush(lead)?;
                    self.leave(lead)?;
                }
            }
            self.shared.maker.meter.check()?;
        }
        Ok(())
    }

    fn flush(&mut self, lead: &mut Lead<'_, Batch, Option<Finish>>) -> Result<()> {
        let items = std::mem::take(&mut self.items);
        match self.levels.last() {
            Some((_, node, inherits)) if !items.is_empty() => {
                let predecessor = match &mut self.live {
                    Some(live) => live.dir()?,
                    None => None,
                };
                let folder = Folder {
                    source: self.source.dir()?,
                    target: self.target.dir()?,
                    node: Arc::clone(node),
                    inherits: *inherits,
                    predecessor,
                };
                lead.submit(Batch { folder, items })
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, entry: Entry) -> Result<()> {
        let maker = &self.shared.maker;
        maker.meter.add_entry();
        // What a folder without flags and project hands down is nothing, whatever lies above it.
        let hands_down = entry.flags != 0 || entry.project != 0;
        let Some((_, up, inherits)) = self.levels.last() else {
            maker.begin_folder(&entry, &*self.target.dir()?, true)?;
            self.levels.push((entry, Arc::default(), hands_down));
            return Ok(());
        };
        let (node, inherits) = (Node::below(up, &entry.name), *inherits);
        let name = entry.name.clone();
        if let Err(error) = self.source.enter(&name) {
            let what = format!("cannot be opened: {error}");
            return Err(anyhow!(Damaged { path: node.shown(b"."), what }));
        }
        let mut make = || -> Result<()> {
            mkdirat(&*self.target.dir()?, &*name, Mode::RWXU)?;
            self.target.enter(&name)?;
            maker.begin_folder(&entry, &*self.target.dir()?, inherits)
        };
        make().with_context(|| format!("cannot make the folder `{}`", node.shown(b".")))?;
        if let Some(live) = &mut self.live {
            live.enter(&name)?;
        }
        self.levels.push((entry, node, hands_down));
        Ok(())
    }

    fn leave(&mut self, lead: &mut Lead<'_, Batch, Option<Finish>>) -> Result<()> {
        let Some((entry, node, _)) = self.levels.pop() else { return Ok(()) };
        let (from, to) = (self.source.dir()?, self.target.dir()?);
        lead.pass(Some(Finish { entry, node, from, to }))?;
        self.source.leave();
        self.target.leave();
        if let Some(live) = &mut self.live {
            live.leave()?;
        }
        Ok(())
    }
}
