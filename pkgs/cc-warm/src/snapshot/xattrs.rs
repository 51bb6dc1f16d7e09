//! Extended attributes of all kinds: `user`, `trusted`, `security` (capabilities, labels), `system` (POSIX ACLs).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr, lsetxattr};
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

/// The digest of the attributes of what lies at `way`; each is handed to `each` before. `ignore` leaves attributes out.
fn digest(
    way: &Way<'_>,
    buffers: &mut Buffers,
    ignore: impl Fn(&[u8]) -> bool,
    mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<Option<XattrSum>> {
    let length = match way.list(&mut buffers.list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(Errno::RANGE | Errno::TOOBIG) => {
            return Err(io::Error::other("it has more extended attributes than the kernel lists"));
        }
        Err(e) => return Err(e.into()),
    };
    if length == 0 {
        return Ok(None);
    }
    let mut names: Vec<&[u8]> =
        buffers.list[..length].split(|&b| b == 0).filter(|name| !name.is_empty() && !ignore(name)).collect();
    names.sort_unstable();
    let mut sum = blake3::Hasher::new();
    let mut counted = false;
    for name in names {
        let length = way.get(name, &mut buffers.value)?;
        let value = &buffers.value[..length];
        each(name, value)?;
        if is_private(name) {
            continue;
        }
        counted = true;
        for part in [name, value] {
            sum.update(&(part.len() as u64).to_le_bytes());
            sum.update(part);
        }
    }
    let mut short = XattrSum::default();
    sum.finalize_xof().fill(&mut short);
    Ok(counted.then_some(short))
}

/// The digest of the attributes of what lies at `way`; `None` if it has none.
pub(super) fn read(way: &Way<'_>, buffers: &mut Buffers) -> io::Result<Option<XattrSum>> {
    digest(way, buffers, |_| false, |_, _| Ok(()))
}

/// Whether what lies at `way` has the attributes that were recorded as `sum`.
pub(super) fn are(way: &Way<'_>, sum: Option<XattrSum>, buffers: &mut Buffers) -> io::Result<bool> {
    // A label that was given does not count where none was recorded.
    Ok(read(way, buffers)? == sum || digest(way, buffers, is_given, |_, _| Ok(()))? == sum)
}

/// What came of copying attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    /// The digest of the source's.
    pub(super) sum: Option<XattrSum>,
    /// Whether the target's file system could have all of them.
    pub(super) whole: bool,
}

/// Gives what lies at `to` the attributes of what lies at `from`.
pub(super) fn copy(from: &Way<'_>, to: &Way<'_>, buffers: &mut Buffers) -> io::Result<Copied> {
    let mut whole = true;
    let sum = digest(
        from,
        buffers,
        |_| false,
        |name, value| match to.set(name, value) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::INVAL) if is_private(name) => {
                whole = false;
                Ok(())
            }
            Err(e) => {
                let text = format!("its attribute `{}` cannot be set: {}", Shown(name), io::Error::from(e));
                Err(io::Error::new(io::Error::from(e).kind(), text))
            }
        },
    )?;
    Ok(Copied { sum, whole })
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
