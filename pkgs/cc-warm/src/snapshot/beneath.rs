//! Access to a tree that others write to, from a pinned folder down.
//!
//! Every open goes through `openat2` with `RESOLVE_BENEATH`, `NO_MAGICLINKS`, `NO_XDEV` and `NO_SYMLINKS`, and never
//! blocks. `NO_XDEV` stops at mounts; a btrfs subvolume is no mount, so the device of each folder is compared as well,
//! and the mount id of everything. Where the kernel has no `openat2`, that is an error: there is no weaker way.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, openat2, seek};
use rustix::io::Errno;

use super::names::Names;
use super::stat::Stat;

/// How an entry's name may be resolved: as itself, in the folder that is given.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS);

/// How often in a tree one waits for somebody to give a lease up, and for how long. The kernel gives them 45 s for each
/// file, which the owner of many could make hours.
const WAITS: u32 = 200;
const MOMENT: Duration = Duration::from_millis(10);

/// Bytes of a path that one system call takes.
const PATH_CAP: usize = 4000;

/// An open folder below (or at) a [`Root`].
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Dir {
    /// All names in it, sorted by their bytes.
    pub fn names(&self) -> io::Result<Names> {
        let mut names = Names::default();
        let mut pushed = Ok(());
        self.each(|name, _| {
            if pushed.is_ok() {
                pushed = names.push(name);
            }
        })?;
        pushed?;
        names.sort();
        Ok(names)
    }

    /// Calls `found` with each name, in the file system's order, and with its kind as the listing has it (which may be
    /// [`FileType::Unknown`], and is a hint in any case).
    pub fn each(&self, mut found: impl FnMut(&[u8], FileType)) -> io::Result<()> {
        seek(&self.0, SeekFrom::Start(0))?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut listing = RawDir::new(&self.0, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            let name = name.to_bytes();
            if name != b"." && name != b".." {
                found(single(name)?, entry.file_type());
            }
        }
        Ok(())
    }
}

/// A tree's folder at the top, pinned: its device and its mount are what everything below is compared with.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    stat: Stat,
    path: PathBuf,
    waits: AtomicU32,
}

impl Root {
    /// Opens `path`, whose parents are ours. A symlink in its last part is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = Dir(rustix::fs::open(path, flags, Mode::empty())?);
        let stat = Stat::of(&dir)?;
        let root = Self { dir, stat, path: path.to_owned(), waits: AtomicU32::new(WAITS) };
        // Asked once, so that no tree is half done when it turns out that the kernel lacks it.
        root.openat2(&root.dir, b".", OFlags::PATH)?;
        Ok(root)
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The path that it was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `name` in `dir` is, not following it.
    pub fn stat_at(&self, dir: &Dir, name: &[u8]) -> io::Result<Stat> {
        let stat = Stat::ask(dir.as_fd(), single(name)?, AtFlags::empty())?;
        self.same_mount(&stat, name)?;
        Ok(stat)
    }

    /// Opens the folder `name` in `dir`.
    pub fn open_dir(&self, dir: &Dir, name: &[u8]) -> io::Result<(Dir, Stat)> {
        let fd = self.open_to_read(dir, single(name)?, OFlags::DIRECTORY)?;
        self.checked_dir(fd, name)
    }

    /// Opens the folder that `names` lead to from `dir`, in as few system calls as paths' lengths allow.
    pub fn open_far<'n>(&self, dir: &Dir, names: impl IntoIterator<Item = &'n [u8]>) -> io::Result<(Dir, Stat)> {
        let mut at: Option<Dir> = None;
        let mut path: Vec<u8> = Vec::with_capacity(PATH_CAP);
        for name in names {
            if path.len() + name.len() + 1 > PATH_CAP {
                let fd = self.open_to_read(at.as_ref().unwrap_or(dir), &path, OFlags::DIRECTORY)?;
                at = Some(self.checked_dir(fd, &path)?.0);
                path.clear();
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(single(name)?);
        }
        if path.is_empty() {
            path.push(b'.');
        }
        let fd = self.open_to_read(at.as_ref().unwrap_or(dir), &path, OFlags::DIRECTORY)?;
        self.checked_dir(fd, &path)
    }

    /// Opens the regular file `name` in `dir` for reading. Never blocks; what is no regular file is
    /// [`io::ErrorKind::InvalidInput`].
    pub fn open_file(&self, dir: &Dir, name: &[u8]) -> io::Result<(OwnedFd, Stat)> {
        // Opening a device can do something, so what it is must be known first. What comes in between it and the open
        // can only be another entry of this folder; O_NONBLOCK keeps a FIFO from blocking.
        self.must_be_regular(&self.stat_at(dir, name)?, name)?;
        self.open_known_file(dir, name)
    }

    /// [`Root::open_file`] where a fresh `stat_at`, or the listing of a tree that nobody writes to, said that `name` is a
    /// regular file.
    pub(super) fn open_known_file(&self, dir: &Dir, name: &[u8]) -> io::Result<(OwnedFd, Stat)> {
        let fd = self.open_to_read(dir, single(name)?, OFlags::NOCTTY)?;
        let stat = Stat::of(&fd)?;
        self.same_mount(&stat, name)?;
        self.must_be_regular(&stat, name)?;
        Ok((fd, stat))
    }

    /// Makes the regular file `name` in `dir` and opens it for reading and writing; one that is there is an error.
    pub fn create_file(&self, dir: &Dir, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat2(dir, single(name)?, flags, Mode::from_raw_mode(mode), RESOLVE)?)
    }

    /// Opens the regular file `name` in `dir`, which this program wrote, to change its metadata or its content.
    pub fn open_own_file(&self, dir: &Dir, name: &[u8]) -> io::Result<OwnedFd> {
        self.openat2(dir, single(name)?, OFlags::RDWR | OFlags::NOCTTY)
    }

    /// A handle on `name` in `dir`, whatever it is; it opens nothing.
    pub fn open_path(&self, dir: &Dir, name: &[u8]) -> io::Result<(OwnedFd, Stat)> {
        // `NO_SYMLINKS` would refuse a symlink as the last part; O_NOFOLLOW with O_PATH gives the link itself, and a
        // single name has no other part.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = RESOLVE.difference(ResolveFlags::NO_SYMLINKS);
        let fd = openat2(dir, single(name)?, flags, Mode::empty(), resolve).map_err(|e| explain(e, name))?;
        let stat = Stat::of(&fd)?;
        self.same_mount(&stat, name)?;
        Ok((fd, stat))
    }

    /// Opens what is going to be read, so that this does not show in its time of access: it is not ours to move, and each
    /// that moves is written to the disk.
    fn open_to_read(&self, dir: &Dir, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | flags;
        match self.openat2(dir, path, flags | OFlags::NOATIME) {
            // What is somebody else's may only be opened so by root.
            Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => self.openat2(dir, path, flags),
            other => other,
        }
    }

    fn openat2(&self, dir: &Dir, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags = if flags.contains(OFlags::PATH) { flags.difference(OFlags::NONBLOCK) } else { flags };
        loop {
            match openat2(dir, path, flags, Mode::empty(), RESOLVE) {
                // Somebody has a lease of it, which this breaks. (Or the kernel could not rule out that a rename elsewhere
                // let the path escape.)
                Err(Errno::AGAIN) if self.waits() => {}
                other => return other.map_err(|e| explain(e, path)),
            }
        }
    }

    /// Waits a moment; `false` if that was done for as long as a whole tree may take.
    fn waits(&self) -> bool {
        let is_left = self.waits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_left {
            std::thread::sleep(MOMENT);
        }
        is_left
    }

    fn checked_dir(&self, fd: OwnedFd, name: &[u8]) -> io::Result<(Dir, Stat)> {
        let stat = Stat::of(&fd)?;
        self.same_mount(&stat, name)?;
        if stat.file_system() != self.stat.file_system() {
            let text = format!("`{}` is a subvolume or another file system inside the volume", Shown(name));
            return Err(io::Error::new(io::ErrorKind::CrossesDevices, text));
        }
        Ok((Dir(fd), stat))
    }

    fn same_mount(&self, stat: &Stat, name: &[u8]) -> io::Result<()> {
        if stat.mount() == self.stat.mount() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::CrossesDevices, format!("`{}` is a mount inside the volume", Shown(name))))
    }

    #[expect(clippy::unused_self, reason = "reads as one family")]
    fn must_be_regular(&self, stat: &Stat, name: &[u8]) -> io::Result<()> {
        if stat.kind() == FileType::RegularFile {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is no regular file", Shown(name))))
    }
}

/// `name` if it is the name of one entry, and no way to somewhere else.
fn single(name: &[u8]) -> io::Result<&[u8]> {
    if name.is_empty() || name == b".." || name == b"." || name.iter().any(|&b| b == b'/' || b == 0) {
        let text = format!("`{}` is no name of an entry", Shown(name));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(name)
}

fn explain(error: Errno, name: &[u8]) -> io::Error {
    match error {
        Errno::NOSYS => unsupported("the kernel has no openat2 (Linux 5.6 and newer have it, some sandboxes block it)"),
        Errno::XDEV => {
            io::Error::new(io::ErrorKind::CrossesDevices, format!("`{}` is a mount inside the volume", Shown(name)))
        }
        other => other.into(),
    }
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Foreign bytes as a person may see them: what is not printable ASCII is escaped.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
