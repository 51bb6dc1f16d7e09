//! Extended attributes of all kinds: `user`, `trusted`, `security` (capabilities, labels), `system` (POSIX ACLs).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr,
};
use rustix::io::Errno;

use super::beneath::{Dir, Shown};
use super::entry::XattrSum;
use crate::sys::raw::listxattrat;

/// The most that the kernel gives of a list or a value.
const MOST: usize = 64 << 10;
/// As much as the names of what an entry usually has.
const FEW: usize = 256;

/// A way to one entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    /// It is open, and not with `O_PATH`, which these system calls do not take.
    Open(BorrowedFd<'a>),
    /// By its name in a folder, and no symlink is followed.
    Named(&'a Dir, &'a [u8]),
}

/// `name` in `dir`, through our own descriptor of the folder: most of these system calls take no descriptor of one.
fn through(dir: &Dir, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Whether the kernel lists attributes by folder and name (Linux 6.13 does): that spares it the way through `/proc`.
static LISTS_AT: AtomicBool = AtomicBool::new(true);

fn list_at(dir: &Dir, name: &[u8], list: &mut [u8]) -> rustix::io::Result<usize> {
    if LISTS_AT.load(Ordering::Relaxed) {
        match listxattrat(dir, name, list) {
            // A sandbox that does not know the call may answer with the latter.
            Err(Errno::NOSYS | Errno::PERM) => LISTS_AT.store(false, Ordering::Relaxed),
            other => return other,
        }
    }
    llistxattr(through(dir, name), list)
}

impl<'a> Way<'a> {
    /// To what is open as `fd`.
    #[must_use]
    pub(super) fn open(fd: &'a impl AsFd) -> Self {
        Self::Open(fd.as_fd())
    }

    /// To `name` in `dir`.
    #[must_use]
    pub(super) fn to(dir: &'a Dir, name: &'a [u8]) -> Self {
        Self::Named(dir, name)
    }

    fn list(&self, list: &mut [u8]) -> rustix::io::Result<usize> {
        // The kernel makes room for as much as it is offered, each time, and most entries have none.
        match self.list_into(&mut list[..FEW]) {
            Err(Errno::RANGE) => self.list_into(list),
            other => other,
        }
    }

    fn list_into(&self, list: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => flistxattr(fd, list),
            Self::Named(dir, name) => list_at(dir, name, list),
        }
    }

    fn get(&self, name: &[u8], value: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, value),
            Self::Named(dir, entry) => lgetxattr(through(dir, entry), name, value),
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(dir, entry) => lsetxattr(through(dir, entry), name, value, XattrFlags::empty()),
        }
    }

    /// Whether there is room on its file system, by what that says. btrfs, whose records have a room of their own, says
    /// nothing of that.
    fn has_room(&self) -> bool {
        let dir = match self {
            Self::Open(fd) => *fd,
            Self::Named(dir, _) => dir.as_fd(),
        };
        let is_btrfs = super::tree::file_system(dir).is_ok_and(|kind| kind == "btrfs");
        let room = |found: rustix::fs::StatVfs| {
            found.f_bavail.saturating_mul(found.f_frsize) > 1 << 20 && (found.f_files == 0 || found.f_favail > 0)
        };
        !is_btrfs && rustix::fs::fstatvfs(dir).is_ok_and(room)
    }

    fn remove(&self, name: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Named(dir, entry) => lremovexattr(through(dir, entry), name),
        }
    }
}

/// Buffers that are used again and again.
#[derive(Debug)]
pub(super) struct Buffers {
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { list: vec![0; MOST], value: vec![0; MOST] }
    }
}

/// Attributes that say how one kind of file system stores something: copied where that can be, and no part of a digest.
fn is_private(name: &[u8]) -> bool {
    name.starts_with(b"btrfs.")
}

/// Labels that a security module gives by itself: compared only where the record has them.
fn is_given(name: &[u8]) -> bool {
    name == b"security.selinux"
}

/// xfs shows each ACL a second time, as it stores it: the attribute that the one called `name` repeats.
fn repeats(name: &[u8]) -> Option<&'static [u8]> {
    match name {
        b"trusted.SGI_ACL_FILE" => Some(b"system.posix_acl_access"),
        b"trusted.SGI_ACL_DEFAULT" => Some(b"system.posix_acl_default"),
        _ => None,
    }
}

/// Which attributes do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Without {
    /// Labels that were given.
    given: bool,
    /// What repeats another one.
    repeated: bool,
}

/// The names of the attributes of what lies at `way`, in the file system's order, `without` some.
fn names<'l>(way: &Way<'_>, list: &'l mut [u8], without: Without) -> io::Result<Vec<&'l [u8]>> {
    let length = match way.list(list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(Errno::RANGE | Errno::TOOBIG) => {
            return Err(io::Error::other("it has more extended attributes than the kernel lists"));
        }
        Err(e) => return Err(e.into()),
    };
    let list: &'l [u8] = list;
    let all = || list[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let is_repeated = |name: &[u8]| repeats(name).is_some_and(|other| all().any(|name| name == other));
    let counts = |name: &&[u8]| !(without.given && is_given(name) || without.repeated && is_repeated(name));
    Ok(all().filter(counts).collect())
}

/// The digest of the attributes called `names` of what lies at `way`, whatever their order.
fn digest(way: &Way<'_>, names: &[&[u8]], value: &mut [u8]) -> io::Result<Option<XattrSum>> {
    let mut names: Vec<&[u8]> = names.iter().copied().filter(|name| !is_private(name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_unstable();
    let mut sum = blake3::Hasher::new();
    for name in &names {
        let length = way.get(name, value)?;
        for part in [name, &value[..length]] {
            sum.update(&(part.len() as u64).to_le_bytes());
            sum.update(part);
        }
    }
    let mut short = XattrSum::default();
    sum.finalize_xof().fill(&mut short);
    Ok(Some(short))
}

fn read_without(way: &Way<'_>, without: Without, buffers: &mut Buffers) -> io::Result<Option<XattrSum>> {
    let names = names(way, &mut buffers.list, without)?;
    digest(way, &names, &mut buffers.value)
}

/// The digest of the attributes of what lies at `way`; `None` if it has none.
pub(super) fn read(way: &Way<'_>, buffers: &mut Buffers) -> io::Result<Option<XattrSum>> {
    read_without(way, Without::default(), buffers)
}

/// Whether what lies at `way` has the attributes that were recorded as `sum`. A label that was given, and what only
/// repeats another attribute, do not count where none was recorded.
pub(super) fn are(way: &Way<'_>, sum: Option<XattrSum>, buffers: &mut Buffers) -> io::Result<bool> {
    for (given, repeated) in [(false, false), (true, false), (false, true), (true, true)] {
        if read_without(way, Without { given, repeated }, buffers)? == sum {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What came of copying attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    /// The digest of those that were copied.
    pub(super) sum: Option<XattrSum>,
    /// Whether the target's file system could have all of them.
    pub(super) whole: bool,
}

/// Which attributes are copied.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Those of which this is the digest: what only repeats another one is left out where it is not among them, for then
    /// what was recorded lay on another kind of file system.
    Recorded(Option<XattrSum>),
}

/// So many orders are tried.
const ORDERS: usize = 16;

/// Gives what lies at `to` those attributes of what lies at `from` that are `wanted`.
pub(super) fn copy(from: &Way<'_>, to: &Way<'_>, wanted: Wanted, buffers: &mut Buffers) -> io::Result<Copied> {
    let Buffers { list, value } = buffers;
    let mut order = names(from, list, Without::default())?;
    if order.iter().any(|name| repeats(name).is_some())
        && let Wanted::Recorded(recorded) = wanted
        && digest(from, &order, value)? != recorded
    {
        order = names(from, list, Without { repeated: true, given: false })?;
    }
    let mut whole = true;
    let mut tries = ORDERS.min(order.len());
    while let Some((at, error)) = set_all(from, to, &order, value, &mut whole)? {
        tries = tries.saturating_sub(1);
        if error.kind() != io::ErrorKind::StorageFull {
            return Err(error);
        }
        if tries == 0 {
            // It is the room beside this inode that is used up: deleting data helps nobody.
            return Err(if to.has_room() { io::Error::other(error) } else { error });
        }
        // Which of them fit together depends on their order where there is more than one place for them (on ext4 the inode
        // and one block), and each file system lists them in one of its own.
        for name in &order[..at] {
            // What cannot be removed (a label) is replaced.
            let _ = to.remove(name);
        }
        order[..=at].rotate_right(1);
    }
    Ok(Copied { sum: digest(from, &order, value)?, whole })
}

/// Sets the attributes called `names`, in that order; the first that cannot be set, and why.
fn set_all(
    from: &Way<'_>,
    to: &Way<'_>,
    names: &[&[u8]],
    value: &mut [u8],
    whole: &mut bool,
) -> io::Result<Option<(usize, io::Error)>> {
    for (at, name) in names.iter().enumerate() {
        let length = from.get(name, value)?;
        match to.set(name, &value[..length]) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::INVAL) if is_private(name) => *whole = false,
            Err(e) => {
                let text = format!("its attribute `{}` cannot be set: {}", Shown(name), io::Error::from(e));
                // Of the other kinds one would be taken for what somebody did to the source.
                let kind = match io::Error::from(e).kind() {
                    kind @ (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => kind,
                    _ => io::ErrorKind::Other,
                };
                return Ok(Some((at, io::Error::new(kind, text))));
            }
        }
    }
    Ok(None)
}

/// Takes away the ACLs that the new folder `dir` got from the one that it was made in.
pub(super) fn clear_inherited(dir: &Dir) -> io::Result<()> {
    for name in [&b"system.posix_acl_default"[..], b"system.posix_acl_access"] {
        match fremovexattr(dir, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
