//! File flags (`chattr`) and project ids.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, open};
use rustix::io::Errno;

use crate::sys::raw::{get_fs_xattr, set_fs_xattr};

const NO_COMPRESSION: u32 = 0x400;
const DAX: u32 = 0x0200_0000;
const CASEFOLD: u32 = 0x4000_0000;

/// Those that hinder writing, even ours.
const GUARDS: u32 = IFlags::IMMUTABLE.union(IFlags::APPEND).bits();

/// Those that must be there before the data (or the entries) are.
const EARLY: u32 = IFlags::NOCOW.union(IFlags::COMPRESSED).bits() | INHERIT | NO_COMPRESSION | DAX | CASEFOLD;

/// Says that what is made in a folder belongs to the folder's project.
const INHERIT: u32 = IFlags::PROJECT_INHERIT.bits();

/// Those that are kept; the others say how a file system stores something.
const KEPT: u32 = GUARDS
    | EARLY
    | IFlags::DIRSYNC
        .union(IFlags::JOURNALING)
        .union(IFlags::NOATIME)
        .union(IFlags::NODUMP)
        .union(IFlags::NOTAIL)
        .union(IFlags::SECURE_REMOVAL)
        .union(IFlags::SYNC)
        .union(IFlags::TOPDIR)
        .union(IFlags::UNRM)
        .bits();

/// Whether a file system has flags, and projects: asked for until it says no.
#[derive(Debug)]
pub struct Ability {
    flags: AtomicBool,
    projects: AtomicBool,
}

impl Default for Ability {
    fn default() -> Self {
        Self { flags: AtomicBool::new(true), projects: AtomicBool::new(true) }
    }
}

/// Whether flags `flags` keep even us from changing or deleting what has them.
#[must_use]
pub fn guard(flags: u32) -> bool {
    flags & GUARDS != 0
}

/// The kept flags and the project of what is open as `fd`, a file or a folder.
pub fn read(fd: impl AsFd, ability: &Ability) -> io::Result<(u32, u32)> {
    let mut found = (0, 0);
    if ability.flags.load(Ordering::Relaxed) {
        match ioctl_getflags(&fd) {
            Ok(flags) => found.0 = flags.bits() & KEPT,
            Err(e) if is_lack(e) => ability.flags.store(false, Ordering::Relaxed),
            Err(e) => return Err(e.into()),
        }
    }
    if ability.projects.load(Ordering::Relaxed) {
        match get_fs_xattr(&fd) {
            Ok(value) => found.1 = value.project,
            Err(e) if is_lack(e) => ability.projects.store(false, Ordering::Relaxed),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(found)
}

/// Why the folder `data` could not change places with one that is built beside it, if it could not: where a folder hands its
/// project down, nothing of another project is moved in it.
#[must_use]
pub fn pins(data: &Path) -> Option<String> {
    let of = |path: &Path| {
        let folder = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        read(folder.ok()?, &Ability::default()).ok()
    };
    let ((flags, above), (_, own)) = (of(data.parent()?)?, of(data)?);
    (flags & INHERIT != 0 && above != own).then(|| {
        format!(
            "`{}` is in project {own}, and its folder hands down project {above}: restored data could not take its place \
             (`lsattr -p`, `chattr -p`)",
            data.display()
        )
    })
}

/// Flags `flags` without the one that concerns projects.
#[must_use]
pub fn without_project(flags: u32) -> u32 {
    flags & !INHERIT
}

/// Gives what is open as `fd`, empty still, the project and those of `flags` that must be there before its content. `None`:
/// it stays in the project of the folder that it was made in. `false` if the file system cannot have some of it.
pub fn apply_early(fd: impl AsFd, flags: u32, project: Option<u32>, ability: &Ability) -> io::Result<bool> {
    let Some(project) = project else { return set(fd, without_project(EARLY), flags, ability) };
    let mut all = set(&fd, EARLY, flags, ability)?;
    if ability.projects.load(Ordering::Relaxed) {
        match get_fs_xattr(&fd) {
            Ok(value) if value.project == project => {}
            Ok(mut value) => {
                value.project = project;
                match set_fs_xattr(&fd, value) {
                    Ok(()) => {}
                    Err(e) if is_lack(e) || e == Errno::INVAL => all = false,
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) if is_lack(e) => ability.projects.store(false, Ordering::Relaxed),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(all && (project == 0 || ability.projects.load(Ordering::Relaxed)))
}

/// Gives what is open as `fd` the rest of `flags`, immutable and append-only among them. `false` if the file system
/// cannot have some of them.
pub fn apply_late(fd: impl AsFd, flags: u32, ability: &Ability) -> io::Result<bool> {
    set(fd, KEPT & !EARLY, flags, ability)
}

/// Takes away what keeps even us from changing or deleting what is open as `fd`; whether there was any.
pub fn clear_guards(fd: impl AsFd) -> io::Result<bool> {
    match ioctl_getflags(&fd) {
        Ok(flags) if guard(flags.bits()) => {
            ioctl_setflags(&fd, IFlags::from_bits_retain(flags.bits() & !GUARDS))?;
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(e) if is_lack(e) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Makes the flags within `mask` be those of `flags`.
fn set(fd: impl AsFd, mask: u32, flags: u32, ability: &Ability) -> io::Result<bool> {
    let wanted = flags & mask;
    if !ability.flags.load(Ordering::Relaxed) {
        return Ok(wanted == 0);
    }
    let have = match ioctl_getflags(&fd) {
        Ok(have) => have.bits(),
        Err(e) if is_lack(e) => {
            ability.flags.store(false, Ordering::Relaxed);
            return Ok(wanted == 0);
        }
        Err(e) => return Err(e.into()),
    };
    if have & mask == wanted {
        return Ok(true);
    }
    match ioctl_setflags(&fd, IFlags::from_bits_retain(have & !mask | wanted)) {
        Ok(()) => Ok(true),
        Err(e) if is_lack(e) || e == Errno::INVAL => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn is_lack(error: Errno) -> bool {
    matches!(error, Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS)
}
