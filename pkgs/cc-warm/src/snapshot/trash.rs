//! Deleting trees that an app has written: iteratively, with a bounded number of descriptors, never following a link, never
//! crossing a mount, whatever the depth, the modes and the flags.
//!
//! A tree is first renamed to a name that says what it is, so that half of one is never taken for anything else.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{
    AtFlags, CWD, IFlags, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Statx, StatxAttributes, StatxFlags,
    ioctl_getflags, ioctl_setflags, openat, openat2, seek, statx, unlinkat,
};
use rustix::io::Errno;

use super::garbage::TRASH;
use crate::sys::{durable, random};

/// So many levels of a tree have a descriptor; those above are reached again through `..`.
const OPEN_LEVELS: usize = 32;
/// So many names of a folder are held at once.
const BATCH: usize = 128;
/// What forbids to rename or remove.
const LOCKED: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);
const TO_ASK: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Gives the tree or file `path` a name in `trash`, or (the rename would leave its mount) beside itself. Where it is now.
///
/// Its name in `trash` begins with `owner`, who deletes it.
pub(super) fn set_apart(path: &Path, trash: &Path, owner: &str) -> Result<PathBuf> {
    unlock(path)?;
    let problem = || format!("cannot set `{}` apart to delete it", path.display());
    durable::make_dir(trash)?;
    let id = random::id()?;
    let there = trash.join(format!("{owner}.{id}"));
    match fs::rename(path, &there) {
        Ok(()) => return Ok(there),
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {}
        Err(e) => return Err(e).with_context(problem),
    }
    let beside = path.with_file_name(format!("{TRASH}{id}"));
    fs::rename(path, &beside).with_context(problem)?;
    Ok(beside)
}

/// Takes the immutable and append-only flags off `path`, which is not followed. Which it had.
pub(super) fn unlock(path: &Path) -> Result<u32> {
    let problem = || format!("cannot clear the flags of `{}`", path.display());
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).with_context(problem)?;
    if !is_locked(&found) {
        return Ok(0);
    }
    let file = openat(CWD, path, TO_ASK, Mode::empty()).with_context(problem)?;
    let had = ioctl_getflags(&file).with_context(problem)?.intersection(LOCKED);
    unlock_open(file.as_fd()).with_context(problem)?;
    Ok(had.bits())
}

/// Sets flags that [`unlock`] took off.
pub(super) fn lock(path: &Path, flags: u32) -> Result<()> {
    let wanted = IFlags::from_bits_truncate(flags).intersection(LOCKED);
    if wanted.is_empty() {
        return Ok(());
    }
    let set = || -> rustix::io::Result<()> {
        let file = openat(CWD, path, TO_ASK, Mode::empty())?;
        ioctl_setflags(&file, ioctl_getflags(&file)?.union(wanted))
    };
    set().with_context(|| format!("cannot set the flags of `{}`", path.display()))
}

fn is_locked(found: &Statx) -> bool {
    found.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND)
}

fn unlock_open(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = ioctl_getflags(file)?;
    if flags.intersects(LOCKED) { ioctl_setflags(file, flags.difference(LOCKED)) } else { Ok(()) }
}

/// Deletes the tree or file `path`. One that is not there is deleted.
pub fn delete(path: &Path) -> Result<()> {
    delete_while(path, &mut || Ok(()))
}

/// As [`delete`], for as long as `go_on` gives no error; it is asked before each name.
pub(super) fn delete_while(path: &Path, go_on: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let name = CString::new(path.file_name().context("a path without a name")?.as_bytes())?;
    let up = path.parent().context("a path without a folder")?;
    let parent = match openat(CWD, up, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("cannot open `{}`", up.display())),
    };
    let mut walk = Walk { mount: mount_of(&parent)?, levels: Vec::new(), root: up.to_owned(), go_on };
    let deleted = walk.delete(parent.as_fd(), name);
    deleted.with_context(|| format!("`{}` cannot be deleted whole", path.display()))
}

/// Deletes what is in the folder `path`; the folder itself stays.
pub(super) fn empty(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| format!("cannot look at `{}`", path.display()))?;
    ensure!(found.is_dir(), "`{}` is not a folder", path.display());
    unlock(path)?;
    let entries = fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
    for entry in entries {
        delete(&entry?.path())?;
    }
    durable::sync_dir(path)
}

/// A file system as it is mounted: what a walk never leaves.
type Mount = (u64, u32, u32);

fn mount_of(dir: &OwnedFd) -> Result<Mount> {
    Ok(mount_in(&look(dir.as_fd(), c"")?))
}

fn mount_in(found: &Statx) -> Mount {
    (found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor)
}

fn look(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID)
}

/// A folder under deletion.
struct Level {
    /// `None`: reached again through its child's `..`.
    dir: Option<OwnedFd>,
    inode: u64,
    name: CString,
    /// Folders in it that are not empty.
    inside: Vec<CString>,
    /// What it listed first when nothing of what it listed was there.
    missed: Option<CString>,
}

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Done,
    /// It was not there.
    Missed,
    /// It is a folder that has to be entered first.
    Enter,
}

struct Walk<'a> {
    mount: Mount,
    levels: Vec<Level>,
    /// For messages.
    root: PathBuf,
    go_on: &'a mut dyn FnMut() -> Result<()>,
}

impl Walk<'_> {
    fn delete(&mut self, parent: BorrowedFd<'_>, name: CString) -> Result<()> {
        if self.remove(parent, &name)? != Removal::Enter {
            return Ok(());
        }
        self.enter(parent, name)?;
        while let Some(level) = self.levels.last_mut() {
            let dir = level.dir.as_ref().context("the innermost folder is open")?;
            if let Some(name) = level.inside.pop() {
                let dir = dir.try_clone()?;
                self.enter(dir.as_fd(), name)?;
                continue;
            }
            let dir = dir.try_clone()?;
            if !self.empty(dir.as_fd())? {
                continue;
            }
            let Some(done) = self.levels.pop() else { break };
            match self.back_from(&dir)? {
                Some(up) => self.remove_empty(up.as_fd(), &done.name)?,
                None => self.remove_empty(parent, &done.name)?,
            }
        }
        Ok(())
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CString) -> Result<Removal> {
        (self.go_on)()?;
        let found = match look(dir, name) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Removal::Missed),
            Err(e) => return Err(e).with_context(|| format!("cannot look at `{}`", self.path(name))),
        };
        let kind = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
        let is_folder = kind == rustix::fs::FileType::Directory;
        // Of what is no folder the mount alone: overlayfs gives each file the device of its layer.
        if found.stx_mnt_id != self.mount.0 || is_folder && mount_in(&found) != self.mount {
            bail!("`{}` is a mount or a file system of its own", self.path(name));
        }
        if is_folder {
            return match unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(Removal::Done),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::PERM | Errno::ACCESS) => Ok(Removal::Enter),
                Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", self.path(name))),
            };
        }
        let mut removed = unlinkat(dir, name, AtFlags::empty());
        if removed == Err(Errno::PERM) && kind == rustix::fs::FileType::RegularFile && is_locked(&found) {
            let file = self.open(dir, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
            unlock_open(file.as_fd()).with_context(|| format!("cannot clear the flags of `{}`", self.path(name)))?;
            removed = unlinkat(dir, name, AtFlags::empty());
        }
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(Removal::Done),
            Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", self.path(name))),
        }
    }

    fn remove_empty(&self, dir: BorrowedFd<'_>, name: &CString) -> Result<()> {
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", self.path(name))),
        }
    }

    /// Goes down into `name` of `dir`.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: CString) -> Result<()> {
        let entered = match self.open(dir, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.downcast_ref() == Some(&Errno::ACCESS) => {
                // Not root, and the app took its own rights away. Through `/proc`, so that no link is followed.
                let found = self.open(dir, &name, OFlags::PATH | OFlags::DIRECTORY)?;
                allow(&found)?;
                self.open(dir, &name, OFlags::RDONLY | OFlags::DIRECTORY)?
            }
            other => other?,
        };
        let found = look(entered.as_fd(), c"")?;
        if mount_in(&found) != self.mount {
            bail!("`{}` is a mount or a file system of its own", self.path(&name));
        }
        if is_locked(&found) {
            unlock_open(entered.as_fd())
                .with_context(|| format!("cannot clear the flags of `{}`", self.path(&name)))?;
        }
        if !rustix::process::geteuid().is_root() {
            allow(&entered)?;
        }
        self.levels.push(Level { dir: Some(entered), inode: found.stx_ino, name, inside: Vec::new(), missed: None });
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[above].dir = None;
        }
        Ok(())
    }

    fn open(&self, dir: BorrowedFd<'_>, name: &CString, flags: OFlags) -> Result<OwnedFd> {
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), within)
            .map_err(|e| anyhow::Error::new(e).context(format!("cannot open `{}`", self.path(name))))
    }

    /// Removes a batch of what is in `dir`, the innermost level; true: nothing is left in it.
    fn empty(&mut self, dir: BorrowedFd<'_>) -> Result<bool> {
        seek(dir, SeekFrom::Start(0))?;
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.with_context(|| format!("cannot list `{}`", self.path(c"")))?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name().to_owned());
            }
            if names.len() == BATCH {
                break;
            }
        }
        let (mut inside, mut missed) = (Vec::new(), None);
        let none = names.is_empty();
        let mut fruitless = !none;
        for name in names {
            let removal = self.remove(dir, &name)?;
            fruitless &= removal == Removal::Missed;
            match removal {
                Removal::Enter => inside.push(name),
                Removal::Missed => missed = missed.or(Some(name)),
                Removal::Done => {}
            }
        }
        let missed = missed.filter(|_| fruitless);
        // Who else deletes here makes the next listing begin with something else.
        if let Some(name) = &missed
            && self.levels.last().is_some_and(|level| level.missed.as_ref() == Some(name))
        {
            bail!("`{}` is listed and is not there: the file system is damaged", self.path(name));
        }
        if let Some(level) = self.levels.last_mut() {
            (level.inside, level.missed) = (inside, missed);
        }
        Ok(none)
    }

    /// The folder above `dir`, whose level is gone already; `None`: that is where the walk began.
    fn back_from(&mut self, dir: &OwnedFd) -> Result<Option<OwnedFd>> {
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        if let Some(open) = &level.dir {
            return Ok(Some(open.try_clone()?));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let up = openat(dir, c"..", flags, Mode::empty())?;
        let found = look(up.as_fd(), c"")?;
        if found.stx_ino != level.inode || mount_in(&found) != self.mount {
            return Err(anyhow!("a folder of it was moved away while it was deleted"));
        }
        level.dir = Some(up.try_clone()?);
        Ok(Some(up))
    }

    /// Where `name` is, for a message: the beginning and the end of a long path.
    fn path(&self, name: &std::ffi::CStr) -> String {
        let mut path = self.root.clone();
        for level in self.levels.iter().take(8) {
            path.push(OsStr::from_bytes(level.name.to_bytes()));
        }
        if self.levels.len() > 8 {
            path.push("…");
        }
        path.push(OsStr::from_bytes(name.to_bytes()));
        path.display().to_string().escape_debug().to_string()
    }
}

fn allow(dir: &OwnedFd) -> Result<()> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    rustix::fs::chmod(path, Mode::RWXU).context("cannot get access to a folder")
}

#[cfg(test)]
#[path = "trash_tests.rs"]
mod tests;
