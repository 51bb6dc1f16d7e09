//! Making one entry of a copy: create → flags and project while empty → data → owner → mode → attributes → times →
//! immutable and append-only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens, linkat,
    makedev, mknodat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::beneath::{Dir, Root};
use super::changed::OfCopy;
use super::crew::{Crew, Tools};
use super::data::{self, Means, Order};
use super::entry::Entry;
use super::links::{self, Linked, Links, Node};
use super::meter::Meter;
use super::predecessor::Takeover;
use super::stat::{Stat, Time};
use super::tree::Copied;
use super::xattrs::{Wanted, Way};
use super::{flags, xattrs};
use crate::sys::{fault, raw};

/// What each thread has of its own.
#[derive(Debug, Default)]
pub(super) struct Kit {
    data: Vec<u8>,
    /// For extended attributes.
    pub(super) xattrs: xattrs::Buffers,
    is_idle: bool,
}

impl Kit {
    /// From now on this thread gives way to everybody: for the disk as for the processor.
    pub(super) fn be_idle(&mut self) {
        if !std::mem::replace(&mut self.is_idle, true)
            && let Err(error) = raw::make_thread_idle()
        {
            tracing::debug!("a thread keeps its priority: {error}");
        }
    }

    /// For data.
    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }
}

impl Tools for Kit {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }
}

/// Counts of what was made.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Files whose extents are shared with the source's.
    pub(super) reflinked: AtomicU64,
    /// Files taken over from a predecessor.
    pub(super) taken_over: AtomicU64,
    /// Sockets left out.
    pub(super) sockets: AtomicU64,
    /// Files with holes.
    pub(super) sparse: AtomicU64,
    /// Entries of which the target's file system cannot have all flags (or the like).
    pub(super) lessened: AtomicU64,
    /// Bytes that were written.
    pub(super) written: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// As they are; the rest of what a copy came to is unset.
    #[must_use]
    pub(super) fn read(&self) -> Copied {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Copied {
            entries: 0,
            bytes: 0,
            written: read(&self.written),
            reflinked: read(&self.reflinked),
            taken_over: read(&self.taken_over),
            sockets: read(&self.sockets),
            sparse: read(&self.sparse),
            lessened: read(&self.lessened),
            digested: false,
            takeover: Takeover::None,
            sum: String::new(),
        }
    }
}

/// A folder whose content is complete, and that gets its metadata now.
#[derive(Debug)]
pub(super) struct Finish {
    /// What it gets.
    pub(super) entry: Entry,
    /// Where it is.
    pub(super) node: Arc<Node>,
    /// What it is a copy of.
    pub(super) from: Arc<Dir>,
    /// The copy.
    pub(super) to: Arc<Dir>,
}

/// A folder of the copy in the making, and the one that it is a copy of.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// The one that is copied.
    pub(super) source: Arc<Dir>,
    /// The copy.
    pub(super) target: Arc<Dir>,
    /// Where it is.
    pub(super) node: Arc<Node>,
    /// Whether what is made in it gets flags or a project from it.
    pub(super) inherits: bool,
    /// The predecessor's, where there is one.
    pub(super) predecessor: Option<Arc<Dir>>,
}

/// A file whose flags wait until it has all its names.
#[derive(Debug)]
struct Guarded {
    node: Arc<Node>,
    name: Box<[u8]>,
    flags: u32,
}

/// What makes entries; shared by all threads.
#[derive(Debug)]
pub(super) struct Maker {
    /// The tree that is copied.
    pub(super) source: Root,
    /// The copy.
    pub(super) target: Root,
    /// What is counted.
    pub(super) counts: Counts,
    /// How far it is.
    pub(super) meter: Arc<Meter>,
    means: Arc<Means>,
    /// Whether what is made becomes live data. Only that gets the projects that were recorded: a copy that had them would
    /// be charged to the app's quota.
    pub(super) live: bool,
    /// What the source's file system has.
    pub(super) source_flags: flags::Ability,
    /// What the target's file system has.
    pub(super) target_flags: flags::Ability,
    links: Links,
    /// Immutable and append-only files that get further names later.
    guarded: Mutex<Vec<Guarded>>,
    us: (u32, u32),
    umask: u32,
}

impl Maker {
    /// From `source` to `target`, which is open, empty, and alone in the folder `above`. A copy, unless `live` is set.
    pub(super) fn new(source: Root, (target, above): (Root, &Path), reflink: bool, meter: Arc<Meter>) -> Result<Self> {
        Ok(Self {
            source,
            target,
            counts: Counts::default(),
            meter,
            means: Arc::new(Means::new(reflink)),
            live: false,
            source_flags: flags::Ability::default(),
            target_flags: flags::Ability::default(),
            links: Links::new(above),
            guarded: Mutex::default(),
            us: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            umask: umask()?,
        })
    }

    fn lessen(&self, whole: bool) {
        if !whole {
            count(&self.counts.lessened);
        }
    }

    fn apply_early(&self, to: impl AsFd, entry: &Entry) -> io::Result<bool> {
        flags::apply_early(to, entry.flags, self.live.then_some(entry.project), &self.target_flags)
    }

    fn wanted(&self, entry: &Entry) -> Wanted {
        if self.live { Wanted::Recorded(entry.xattrs) } else { Wanted::All }
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        (entry.uid, entry.gid) == self.us
    }

    /// Makes a name in `folder` by `make`, or links it to the first name of the same file.
    pub(super) fn link<T>(
        &self,
        folder: &Folder,
        entry: &Entry,
        make: impl FnOnce() -> io::Result<T>,
    ) -> Result<Linked<T>> {
        let place = (&self.target, &folder.node, &*folder.target);
        let mut is_of_copy = false;
        // A name that is there already was listed twice. A name that is linked to is gone if what it was of changed.
        let make = || make().inspect_err(|error| is_of_copy = error.kind() != io::ErrorKind::AlreadyExists);
        self.links.link((entry.inode, entry.links), place, &entry.name, make).map_err(|error| {
            let error = anyhow::Error::from(error);
            if is_of_copy { error.context(OfCopy("it cannot be made in the copy")) } else { error }
        })
    }

    /// Creates the regular file of `entry`, empty.
    pub(super) fn create(&self, folder: &Folder, entry: &Entry) -> io::Result<OwnedFd> {
        fault::point("snapshot.copy.create")?;
        // What the umask leaves whole need not be set again. Nobody else gets into the tree before its top has its mode.
        let mode = if entry.mode & (0o7000 | self.umask) == 0 { entry.mode } else { 0o600 };
        self.target.create_file(&folder.target, &entry.name, mode)
    }

    /// Fills the new file `to` with the data and the metadata of `from`: those of `entry`, and the attributes, whose
    /// digest `entry` gets. Gives the digest of the data.
    pub(super) fn fill(
        &self,
        folder: &Folder,
        entry: &mut Entry,
        (from, stat): (&Arc<OwnedFd>, &Stat),
        to: OwnedFd,
        digest: bool,
        (kit, crew): (&mut Kit, Crew<'_>),
    ) -> Result<Option<[u8; 32]>> {
        if folder.inherits || entry.flags != 0 || entry.project != 0 {
            self.lessen(self.apply_early(&to, entry)?);
        }
        fault::point("snapshot.copy.data")?;
        let to = Arc::new(to);
        let order = Order { size: entry.size, ..Order::of(stat, digest) };
        let done = data::copy(from, &to, order, &self.means, &crew, &mut kit.data, &self.meter)?;
        self.counts.written.fetch_add(done.written, Ordering::Relaxed);
        if done.reflinked {
            count(&self.counts.reflinked);
        }
        if order.sparse() {
            count(&self.counts.sparse);
        }
        fault::point("snapshot.copy.metadata")?;
        let chowned = !self.is_ours(entry);
        if chowned {
            fchown(&*to, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .context(OfCopy("its owner"))?;
        }
        if entry.mode & (0o7000 | self.umask) != 0 {
            fchmod(&*to, Mode::from_raw_mode(entry.mode)).context(OfCopy("its mode"))?;
        }
        let copied = xattrs::copy(&Way::open(from), &Way::open(&*to), self.wanted(entry), &mut kit.xattrs)?;
        self.lessen(copied.whole);
        entry.xattrs = copied.sum;
        futimens(&*to, &times(stat.atime(), entry.mtime)).context(OfCopy("its times"))?;
        self.guard(folder, entry, &*to)?;
        Ok(done.digest)
    }

    /// The digest of the content of `from`.
    pub(super) fn digest(
        &self,
        from: &Arc<OwnedFd>,
        stat: &Stat,
        (kit, crew): (&mut Kit, Crew<'_>),
    ) -> Result<[u8; 32]> {
        data::digest(from, stat, &crew, &mut kit.data, &self.meter)
    }

    /// Gives `to` the flags that come last, or notes them where more names come.
    fn guard(&self, folder: &Folder, entry: &Entry, to: impl AsFd) -> Result<()> {
        if entry.flags == 0 {
            return Ok(());
        }
        if flags::guard(entry.flags) && entry.links > 1 {
            let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
            let (node, name) = (Arc::clone(&folder.node), entry.name.as_slice().into());
            guarded.push(Guarded { node, name, flags: entry.flags });
            return Ok(());
        }
        self.lessen(flags::apply_late(to, entry.flags, &self.target_flags).context(OfCopy("its flags"))?);
        Ok(())
    }

    /// Removes the names that only the making needed, and sets the flags that had to wait for all names.
    pub(super) fn finish(&self) -> Result<()> {
        self.links.finish()?;
        for Guarded { node, name, flags } in self.guarded.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let set = || -> Result<()> {
                let (dir, _) = self.target.open_far(self.target.dir(), node.way())?;
                let file = self.target.open_own_file(&dir, &name)?;
                self.lessen(flags::apply_late(&file, flags, &self.target_flags)?);
                Ok(())
            };
            set().with_context(|| format!("the flags of `{}` cannot be set", node.shown(&name)))?;
        }
        Ok(())
    }

    /// Makes a symlink, FIFO or device node, without its metadata.
    #[expect(clippy::unused_self, reason = "reads as one family")]
    pub(super) fn create_special(&self, folder: &Folder, entry: &Entry) -> io::Result<()> {
        fault::point("snapshot.copy.create")?;
        let name = &*entry.name;
        if entry.kind == FileType::Symlink {
            return Ok(symlinkat(&*entry.target, &*folder.target, name)?);
        }
        let device = makedev(entry.device.0, entry.device.1);
        Ok(mknodat(&*folder.target, name, entry.kind, Mode::from_raw_mode(0o600), device)?)
    }

    /// Gives a symlink, FIFO or device node the metadata of `entry` and the attributes of the source's `name`.
    pub(super) fn dress_special(&self, folder: &Folder, entry: &mut Entry, stat: &Stat, kit: &mut Kit) -> Result<()> {
        fault::point("snapshot.copy.metadata")?;
        let (target, name) = (&*folder.target, entry.name.clone());
        if !self.is_ours(entry) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(target, &*name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(OfCopy("its owner"))?;
        }
        if entry.kind != FileType::Symlink {
            chmodat(target, &*name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).context(OfCopy("its mode"))?;
        }
        let (from, to) = (Way::to(&folder.source, &name), Way::to(target, &name));
        let copied = xattrs::copy(&from, &to, self.wanted(entry), &mut kit.xattrs)?;
        self.lessen(copied.whole);
        entry.xattrs = copied.sum;
        let times = times(stat.atime(), entry.mtime);
        utimensat(target, &*name, &times, AtFlags::SYMLINK_NOFOLLOW).context(OfCopy("its times"))?;
        Ok(())
    }

    /// Readies the new, empty folder `to`.
    pub(super) fn begin_folder(&self, entry: &Entry, to: &Dir, inherits: bool) -> Result<()> {
        if inherits || entry.flags != 0 || entry.project != 0 {
            self.lessen(self.apply_early(to, entry)?);
        }
        Ok(())
    }

    /// Gives a folder its metadata and the attributes of the one that it is a copy of.
    pub(super) fn finish_folder(&self, folder: &Finish, buffers: &mut xattrs::Buffers) -> Result<()> {
        let Finish { entry, node, from, to } = folder;
        let mut finish = || -> Result<()> {
            fault::point("snapshot.copy.folder")?;
            if !self.is_ours(entry) {
                fchown(&**to, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                    .context(OfCopy("its owner"))?;
            }
            fchmod(&**to, Mode::from_raw_mode(entry.mode)).context(OfCopy("its mode"))?;
            if entry.xattrs.is_some() {
                let (from, to) = (Way::open(&**from), Way::open(&**to));
                self.lessen(xattrs::copy(&from, &to, Wanted::Recorded(entry.xattrs), buffers)?.whole);
            }
            futimens(&**to, &times(Stat::of(&**from)?.atime(), entry.mtime)).context(OfCopy("its times"))?;
            if entry.flags != 0 {
                self.lessen(flags::apply_late(&**to, entry.flags, &self.target_flags).context(OfCopy("its flags"))?);
            }
            Ok(())
        };
        finish().with_context(|| format!("cannot finish the folder `{}`", node.shown(b".")))
    }

    /// Gives the file of `entry` that lies in `dir` of another tree, where it is `old`, a second name in `folder`. `None`
    /// where that cannot be: it has too many names, it is on another file system, a project forbids it.
    pub(super) fn link_old(
        &self,
        (dir, old): (&Dir, &Stat),
        folder: &Folder,
        entry: &Entry,
    ) -> Result<Option<Linked<()>>> {
        let name = &*entry.name;
        // Asked for the first of a file's names alone, for all of them.
        let link = || {
            fault::point("snapshot.copy.link")?;
            if !links::fit(old.links(), entry.links) {
                return Err(Errno::MLINK.into());
            }
            Ok(linkat(dir, name, &*folder.target, name, AtFlags::empty())?)
        };
        match self.link(folder, entry, link) {
            Ok(linked) => {
                if matches!(linked, Linked::First(())) {
                    count(&self.counts.taken_over);
                    self.meter.add_bytes(old.occupied());
                }
                Ok(Some(linked))
            }
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_no_link) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_no_link(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOENT))
}

/// As a call takes them.
pub(super) fn times(atime: Time, mtime: Time) -> Timestamps {
    let spec = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}

/// This process's umask. Only setting one tells it otherwise, for all threads.
fn umask() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read `/proc/self/status`")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).context("the kernel tells no umask")?;
    Ok(u32::from_str_radix(line.trim(), 8)?)
}
