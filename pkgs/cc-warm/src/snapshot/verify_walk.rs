//! The walk of a verification: what was recorded decides what is looked at, and that there is no more is counted.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::beneath::Dir;
use super::catalog::{Catalog, Digest, Event, LEAVE, Reader};
use super::changed::Changed;
use super::crew::Lead;
use super::descent::Descent;
use super::entry::Entry;
use super::links::Node;
use super::meter::Meter;
use super::stat::Stat;
use super::take_entry::Piece;
use super::verify::{Batch, Differs, Shared, own};
use super::xattrs;

/// Entries of one job.
const BATCH: usize = 64;

/// Walks both trees in step with the catalog.
pub(super) struct Walk<'s> {
    shared: &'s Shared,
    catalog: &'s Catalog,
    copy: Descent<'s>,
    source: Option<Descent<'s>>,
    levels: Vec<Level>,
    items: Vec<(Entry, Digest)>,
    buffers: xattrs::Buffers,
}

/// A folder. All that was recorded of it is found to be there, so if there are as many names, there are no others.
struct Level {
    node: Arc<Node>,
    recorded: u64,
    sockets: u64,
}

impl<'s> Walk<'s> {
    pub(super) fn new(shared: &'s Shared, catalog: &'s Catalog) -> Result<Self> {
        let source = shared.source.as_ref().map(Descent::new).transpose()?;
        let copy = Descent::new(&shared.copy)?;
        Ok(Self {
            shared,
            catalog,
            copy,
            source,
            levels: Vec::new(),
            items: Vec::new(),
            buffers: xattrs::Buffers::default(),
        })
    }

    pub(super) fn run(mut self, mut reader: Reader, meter: &Meter, lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        while let Some(event) = reader.next()? {
            meter.check()?;
            match event {
                Event::Entry(entry, digest) => {
                    if let Some(level) = self.levels.last_mut() {
                        level.recorded += 1;
                        level.sockets += u64::from(entry.kind == FileType::Socket);
                    }
                    self.items.push((entry, digest));
                    if self.items.len() == BATCH {
                        self.flush(lead)?;
                    }
                }
                Event::Enter(entry) => {
                    self.flush(lead)?;
                    self.enter(entry, lead)?;
                    meter.add_entry();
                }
                Event::Leave => {
                    self.flush(lead)?;
                    self.leave()?;
                    if self.shared.record {
                        lead.pass(Piece { entries: LEAVE.to_vec(), ..Piece::default() })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        let (Some(level), false) = (self.levels.last(), self.items.is_empty()) else { return Ok(()) };
        let source = match &mut self.source {
            Some(source) => Some(source.dir()?),
            None => None,
        };
        let (copy, node) = (self.copy.dir()?, Arc::clone(&level.node));
        lead.submit(Batch { copy, source, node, items: std::mem::replace(&mut self.items, Vec::with_capacity(BATCH)) })
    }

    fn enter(&mut self, mut entry: Entry, lead: &mut Lead<'_, Batch, Piece>) -> Result<()> {
        let mut node = Arc::default();
        if let Some(level) = self.levels.last_mut() {
            level.recorded += 1;
            let up = &level.node;
            if let Some(source) = &mut self.source
                && let Err(error) = source.enter(&entry.name)
            {
                return Err(if is_gone(&error) {
                    Changed { path: up.shown(&entry.name), what: "vanished" }.into()
                } else {
                    anyhow::Error::new(error).context(format!("cannot open `{}`", up.shown(&entry.name)))
                });
            }
            if let Err(error) = self.copy.enter(&entry.name) {
                return Err(if is_gone(&error) {
                    self.shared.differs(up, &entry.name, "is missing")
                } else {
                    anyhow::Error::new(error).context(format!("cannot open `{}`", up.shown(&entry.name)))
                });
            }
            node = Node::below(up, &entry.name);
        }
        let copy = self.copy.dir()?;
        let stat = Stat::of(&*copy)?;
        let source = match &mut self.source {
            Some(source) => Some(Stat::of(&*source.dir()?)?),
            None => None,
        };
        self.shared.folder_is(&entry, &node, (&copy, &stat), source.as_ref(), &mut self.buffers)?;
        self.levels.push(Level { node, recorded: 0, sockets: 0 });
        let mut piece = Piece::default();
        if self.shared.record {
            own(&mut entry, &stat);
            piece.add(&entry, Digest::Missing);
        } else {
            piece.count = 1;
        }
        lead.pass(piece)
    }

    fn leave(&mut self) -> Result<()> {
        let Some(Level { node, recorded, sockets }) = self.levels.pop() else { return Ok(()) };
        if let Some(source) = &mut self.source {
            let dir = source.dir()?;
            if count(&dir)? != recorded {
                let (name, new) = odd(self.catalog, &node, &dir, true)?;
                let what = if new { "is new" } else { "vanished" };
                return Err(Changed { path: node.shown(&name), what }.into());
            }
            source.leave();
        }
        let dir = self.copy.dir()?;
        if !self.shared.busy && count(&dir)? != recorded - sockets {
            let (name, new) = odd(self.catalog, &node, &dir, false)?;
            let what = if new { "was not recorded" } else { "is missing" };
            return Err(self.shared.differs(&node, &name, what));
        }
        self.copy.leave();
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn count(dir: &Dir) -> Result<u64> {
    let mut count = 0;
    dir.each(|_, _| count += 1)?;
    Ok(count)
}

/// What is wrong with the names of the inode `original`. Reads the catalog anew: this is for a message.
pub(super) fn linked_otherwise(catalog: &Catalog, original: u64) -> Result<Differs> {
    let mut reader = Reader::of_entries(catalog)?;
    let mut within: Vec<Arc<Node>> = Vec::new();
    while let Some(event) = reader.next()? {
        match event {
            Event::Enter(entry) => {
                within.push(within.last().map_or_else(Arc::default, |up| Node::below(up, &entry.name)));
            }
            Event::Leave => _ = within.pop(),
            Event::Entry(entry, _) if entry.inode == original => {
                let path = within.last().map_or_else(String::new, |node| node.shown(&entry.name));
                return Ok(Differs { path, what: "is linked otherwise".to_owned() });
            }
            Event::Entry(..) => {}
        }
    }
    bail!("inode {original} is linked otherwise in the copy, and its name is not recorded any more")
}

/// A name in `dir`, which is at `node`, that was not recorded (`true`), or one that was recorded and is not there. Reads
/// the catalog anew: this is for a message.
fn odd(catalog: &Catalog, node: &Node, dir: &Dir, with_sockets: bool) -> Result<(Vec<u8>, bool)> {
    let mut found: HashSet<Vec<u8>> = HashSet::new();
    dir.each(|name, _| _ = found.insert(name.to_vec()))?;
    let way = node.way();
    let mut reader = Reader::open(catalog)?;
    // How many folders the reader is in, the top included, and how many of them are on the way.
    let (mut depth, mut on_way) = (0, 0);
    while let Some(event) = reader.next()? {
        let (entry, folder) = match event {
            Event::Leave => {
                depth -= 1;
                on_way = on_way.min(depth);
                continue;
            }
            Event::Enter(entry) => (entry, true),
            Event::Entry(entry, _) => (entry, false),
        };
        let here = depth == way.len() + 1 && on_way == depth;
        if here && (with_sockets || entry.kind != FileType::Socket) && !found.remove(&entry.name) {
            return Ok((entry.name, false));
        }
        if folder {
            let follows = depth == 0 || on_way == depth && way.get(depth - 1).is_some_and(|name| *name == entry.name);
            on_way += usize::from(follows);
            depth += 1;
        }
    }
    found.into_iter().min().map(|name| (name, true)).context("a folder changed while it was looked at")
}
