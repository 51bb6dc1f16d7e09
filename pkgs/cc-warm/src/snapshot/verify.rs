//! Verifying the structure of a copy: every entry, its size, metadata and links, against what was recorded, and what was
//! recorded against the tree that it was recorded of.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{FileType, readlinkat};

use super::beneath::{Dir, Root};
use super::catalog::{Catalog, Digest, Header, Lines, Reader};
use super::changed::Changed;
use super::crew;
use super::entry::Entry;
use super::flush::Flush;
use super::links::Node;
use super::make::Kit;
use super::meter::{Meter, Progress};
use super::moment::Moment;
use super::pairs::Pairs;
use super::stat::Stat;
use super::take_entry::Piece;
use super::tree::{file_system, threads};
use super::verify_walk::{Walk, linked_otherwise};
use super::xattrs::Way;
use super::{flags, xattrs};
use crate::sys::signals::Interrupt;

/// What is to be verified.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The copy.
    pub copy: &'a Path,
    /// What it must be.
    pub catalog: &'a Catalog,
    /// The live tree that the catalog was made of, if it must still be as it was.
    pub source: Option<&'a Path>,
    /// Where the copy was just made: it is written back meanwhile. This only reads, and what it reads is in memory.
    pub flush: Option<&'a Flush>,
    /// Whether flags count. Not where [`super::tree::Copied::lessened`] says that the file system cannot
    /// have them.
    pub flags: bool,
    /// Whether it became live data, which has the projects of what was recorded. A copy of live data has none of them, or,
    /// from older programs, all.
    pub live: bool,
    /// Whether it was made while an app wrote to what it is a copy of. Then only what the copy's file system did not keep
    /// counts, and not what the app can have done meanwhile: to sizes, to which names there are, to files of several names.
    pub busy: bool,
    /// Where a record of the copy itself is written, of its own inodes and times: by it, a restored tree is a
    /// predecessor. Made last, once nothing of ours touches the tree any more.
    pub record: Option<&'a Catalog>,
}

impl<'a> Check<'a> {
    /// Of a copy alone, which was made earlier, flags and all.
    #[must_use]
    pub fn of(copy: &'a Path, catalog: &'a Catalog) -> Self {
        Self { copy, catalog, source: None, flush: None, flags: true, live: false, busy: false, record: None }
    }
}

/// A copy is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the copy is not what was recorded: `{path}` {what}")]
pub struct Differs {
    /// Where, escaped.
    pub path: String,
    /// What was seen.
    pub what: String,
}

/// What of a copy is not what it must be, if an error says that.
#[must_use]
pub fn differs(error: &anyhow::Error) -> Option<&Differs> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// A job: some of what is in a folder.
pub(super) struct Batch {
    pub(super) copy: Arc<Dir>,
    pub(super) source: Option<Arc<Dir>>,
    pub(super) node: Arc<Node>,
    pub(super) items: Vec<(Entry, Digest)>,
}

/// Verifies it; the number of entries. [`Differs`] and [`Changed`] say which tree is at fault.
pub fn verify(check: &Check<'_>, progress: &dyn Progress, interrupt: &Interrupt) -> Result<u64> {
    let open = |path: &Path| Root::open(path).with_context(|| format!("cannot open `{}`", path.display()));
    let copy = open(check.copy)?;
    let source = check.source.map(open).transpose()?;
    let reader = match check.record {
        Some(_) => Reader::open(check.catalog)?,
        None => Reader::of_entries(check.catalog)?,
    };
    let kind = file_system(copy.dir())?;
    let began = Moment::now()?;
    let meter = Meter::new(interrupt, None);
    let shared = Shared {
        live: check.live,
        busy: check.busy,
        flags: check.flags && kind == reader.header().file_system,
        copy,
        source,
        ability: flags::Ability::default(),
        record: check.record.is_some(),
        pairs: Pairs::default(),
    };
    let mut record = check.record.and_then(|to| kept(to, Record::create(to, reader.is_digested())));
    let mut total = 0;
    let mut write_back = check.flush;
    crew::run(
        threads(),
        |batch: Batch, kit: &mut Kit, _, _| shared.batch(batch, kit, &meter),
        |piece: Piece| {
            if write_back.is_some_and(Flush::begin_all) {
                write_back = None;
            }
            total += piece.count;
            if let (Some(to), Some(mut one)) = (check.record, record.take()) {
                record = kept(to, one.add(&piece).map(|()| one));
            }
            Ok(())
        },
        || {
            let (entries, bytes) = meter.read();
            progress.done(entries, bytes);
            Ok(meter.check()?)
        },
        |lead| Walk::new(&shared, check.catalog)?.run(reader, &meter, lead),
    )?;
    if let Some(original) = shared.pairs.odd() {
        return Err(linked_otherwise(check.catalog, original)?.into());
    }
    if let (Some(to), Some(one)) = (check.record, record) {
        kept(to, one.finish(began, &kind));
    }
    progress.done(meter.read().0, 0);
    Ok(total)
}

/// What came of writing the record `to`. Without it, the next snapshot copies everything: no verification fails for that.
fn kept<T>(to: &Catalog, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            tracing::warn!("nothing will be taken over from what was restored: {error:#}");
            for path in [&to.entries, &to.digests] {
                let _ = std::fs::remove_file(path);
            }
        })
        .ok()
}

struct Record {
    entries: Lines,
    digests: Option<Lines>,
    count: u64,
}

impl Record {
    fn create(catalog: &Catalog, digested: bool) -> Result<Self> {
        let digests = if digested { Some(Lines::create(&catalog.digests)?) } else { None };
        Ok(Self { entries: Lines::create(&catalog.entries)?, digests, count: 0 })
    }

    fn add(&mut self, piece: &Piece) -> Result<()> {
        self.count += piece.count;
        self.entries.write(&piece.entries)?;
        self.digests.as_mut().map_or(Ok(()), |digests| digests.write(&piece.digests))
    }

    fn finish(self, began: Moment, kind: &str) -> Result<Header> {
        let header = self.entries.finish_entries(began, false, kind, self.count)?;
        if let Some(digests) = self.digests {
            digests.finish_digests(&header.sum, 0)?;
        }
        Ok(header)
    }
}

/// What is wrong with an entry of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("is missing")]
    Missing,
    #[error("has another {0}")]
    Another(&'static str),
    #[error("{0}")]
    Else(&'static str),
}

impl Wrong {
    /// Whether it comes of what an app did to the entry while it was copied.
    fn is_of_the_app(self, entry: &Entry) -> bool {
        entry.links > 1 || matches!(self, Self::Missing | Self::Another("kind" | "size"))
    }
}

/// What verifies entries; shared by all threads.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct Shared {
    pub(super) copy: Root,
    pub(super) source: Option<Root>,
    flags: bool,
    live: bool,
    pub(super) busy: bool,
    ability: flags::Ability,
    pub(super) record: bool,
    /// Not of a copy of a busy tree.
    pairs: Pairs,
}

impl Shared {
    fn batch(&self, batch: Batch, kit: &mut Kit, meter: &Meter) -> Result<Piece> {
        let mut piece = Piece::default();
        for (mut entry, digest) in batch.items {
            meter.check()?;
            self.source_is(batch.source.as_deref(), &batch.node, &entry)?;
            if entry.kind != FileType::Socket {
                let found = self.copy_is(&batch.copy, &entry, kit);
                if self.busy && matches!(found, Ok(Err(wrong)) if wrong.is_of_the_app(&entry)) {
                    continue;
                }
                let stat = found
                    .and_then(|found| found.map_err(|wrong| self.differs(&batch.node, &entry.name, wrong.to_string())))
                    .with_context(|| format!("cannot verify `{}`", batch.node.shown(&entry.name)))?;
                if self.record {
                    own(&mut entry, &stat);
                }
            }
            if !self.record {
                piece.count += 1;
            } else if entry.kind != FileType::Socket {
                // A socket is not in the copy, and neither in its record.
                piece.add(&entry, digest);
            }
            meter.add_entry();
        }
        Ok(piece)
    }

    #[expect(clippy::unused_self, reason = "reads as one family")]
    pub(super) fn differs(&self, node: &Node, name: &[u8], what: impl Into<String>) -> anyhow::Error {
        Differs { path: node.shown(name), what: what.into() }.into()
    }

    /// The live tree's entry must be the one that was recorded.
    fn source_is(&self, dir: Option<&Dir>, node: &Node, entry: &Entry) -> Result<()> {
        let (Some(root), Some(dir)) = (&self.source, dir) else { return Ok(()) };
        let what = match root.stat_at(dir, &entry.name) {
            Ok(stat) => changed(entry, &stat),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some("vanished"),
            Err(e) => return Err(e).with_context(|| format!("cannot look at `{}`", node.shown(&entry.name))),
        };
        match what {
            Some(what) => Err(Changed { path: node.shown(&entry.name), what }.into()),
            None => Ok(()),
        }
    }

    /// What the copy's entry is, or what is wrong with it.
    fn copy_is(&self, dir: &Dir, entry: &Entry, kit: &mut Kit) -> Result<Result<Stat, Wrong>> {
        let name = &*entry.name;
        let stat = match self.copy.stat_at(dir, name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Err(Wrong::Missing)),
            Err(e) => return Err(e.into()),
        };
        if let Some(what) = entry.differs(&stat) {
            return Ok(Err(Wrong::Another(what)));
        }
        if entry.links > 1 && !self.busy {
            self.pairs.add(entry.inode, stat.inode());
        }
        if entry.kind == FileType::Symlink && readlinkat(dir, name, Vec::new())?.as_bytes() != entry.target {
            return Ok(Err(Wrong::Else("leads elsewhere")));
        }
        if !xattrs::are(&Way::to(dir, name), entry.xattrs, &mut kit.xattrs)? {
            return Ok(Err(Wrong::Else("has other extended attributes")));
        }
        if self.flags && entry.kind == FileType::RegularFile && (entry.flags != 0 || entry.project != 0) {
            let (file, _) = self.copy.open_known_file(dir, name)?;
            if !self.has_flags(&file, entry)? {
                return Ok(Err(Wrong::Else("has other flags or another project")));
            }
        }
        Ok(Ok(stat))
    }

    fn has_flags(&self, copy: impl AsFd, entry: &Entry) -> std::io::Result<bool> {
        let (flags, project) = flags::read(copy, &self.ability)?;
        let of_copy = flags::without_project;
        Ok(if self.live {
            (flags, project) == (entry.flags, entry.project)
        } else {
            of_copy(flags) == of_copy(entry.flags)
        })
    }

    /// As [`Shared::copy_is`] and [`Shared::source_is`], for the folders themselves.
    pub(super) fn folder_is(
        &self,
        entry: &Entry,
        node: &Node,
        copy: (&Dir, &Stat),
        source: Option<&Stat>,
        buffers: &mut xattrs::Buffers,
    ) -> Result<()> {
        if let Some(what) = source.and_then(|stat| changed(entry, stat)) {
            return Err(Changed { path: node.shown(b"."), what }.into());
        }
        if let Some(what) = entry.differs(copy.1) {
            return Err(self.differs(node, b".", Wrong::Another(what).to_string()));
        }
        if !xattrs::are(&Way::open(copy.0), entry.xattrs, buffers)? {
            return Err(self.differs(node, b".", "has other extended attributes"));
        }
        if self.flags && !self.has_flags(copy.0, entry)? {
            return Err(self.differs(node, b".", "has other flags or another project"));
        }
        Ok(())
    }
}

/// What of the live tree's entry is not as it was recorded.
fn changed(entry: &Entry, stat: &Stat) -> Option<&'static str> {
    let found = Entry::of(stat, &[]);
    let all = |entry: &Entry| (entry.kind, entry.record(), entry.mode, entry.uid, entry.gid, entry.links);
    (all(&found) != all(entry)).then_some("changed since it was copied")
}

/// Makes the record of an entry that of the tree which `stat` is of.
pub(super) fn own(entry: &mut Entry, stat: &Stat) {
    let found = Entry::of(stat, &[]);
    (entry.inode, entry.links, entry.ctime) = (found.inode, found.links, found.ctime);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::super::test_tree::Place;
    use super::*;

    #[test]
    fn of_a_copy_of_a_busy_tree_only_what_was_not_kept_counts() {
        let place = Place::new();
        place.file("grows", "abc");
        place.file("kept", "abc");
        place.take("copy");
        let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
        let mut grown = fs::File::options().append(true).open(copy.join("grows")).unwrap();
        grown.write_all(b"def").unwrap();
        let strict = Check::of(&copy, &catalog);
        let busy = Check { busy: true, ..strict };
        let wrong = |check: &Check<'_>| {
            let error = verify(check, &(), &Interrupt::never()).err()?;
            differs(&error).map(|what| what.path.clone())
        };
        assert_eq!((wrong(&strict).as_deref(), wrong(&busy)), (Some("grows"), None));
        fs::set_permissions(copy.join("kept"), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(wrong(&busy).as_deref(), Some("kept"));
    }
}
