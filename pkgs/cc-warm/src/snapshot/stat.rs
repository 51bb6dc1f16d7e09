//! What is known of an entry without opening it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, statx};

/// A moment as file systems keep it: seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    /// Within the second.
    pub nanos: u32,
}

/// What makes an inode the same one later: its number, and when it was born (a number is given to another file once
/// the first is gone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeId {
    /// Its number.
    pub inode: u64,
    /// Its birth, where the file system keeps one.
    pub birth: Option<Time>,
}

/// What `statx` says of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Stat(Statx);

impl Stat {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(u32::from(self.0.stx_mode))
    }

    /// Permission bits, with set-user-id, set-group-id and sticky.
    #[must_use]
    pub fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode) & 0o7777
    }

    /// Its owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }

    /// Its group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.stx_size
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.0.stx_blocks.saturating_mul(512)
    }

    /// Its inode's number.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.0.stx_ino
    }

    /// How many names its inode has.
    #[must_use]
    pub fn links(&self) -> u32 {
        self.0.stx_nlink
    }

    /// Bytes of content, holes left out.
    #[must_use]
    pub fn occupied(&self) -> u64 {
        self.allocated().min(self.size())
    }

    /// When its content changed.
    #[must_use]
    pub fn mtime(&self) -> Time {
        Time { seconds: self.0.stx_mtime.tv_sec, nanos: self.0.stx_mtime.tv_nsec }
    }

    /// When its inode changed.
    #[must_use]
    pub fn ctime(&self) -> Time {
        Time { seconds: self.0.stx_ctime.tv_sec, nanos: self.0.stx_ctime.tv_nsec }
    }

    /// When it was read.
    #[must_use]
    pub fn atime(&self) -> Time {
        Time { seconds: self.0.stx_atime.tv_sec, nanos: self.0.stx_atime.tv_nsec }
    }

    /// A device node's numbers.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        (self.0.stx_rdev_major, self.0.stx_rdev_minor)
    }

    /// The device of the file system that it is on.
    #[must_use]
    pub fn file_system(&self) -> (u32, u32) {
        (self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// The mount that it was reached through.
    #[must_use]
    pub fn mount(&self) -> u64 {
        self.0.stx_mnt_id
    }

    /// Which inode it is.
    #[must_use]
    pub fn identity(&self) -> InodeId {
        let known = self.0.stx_mask & StatxFlags::BTIME.bits() != 0;
        let birth = Time { seconds: self.0.stx_btime.tv_sec, nanos: self.0.stx_btime.tv_nsec };
        InodeId { inode: self.inode(), birth: known.then_some(birth) }
    }

    /// Immutable, append-only, encrypted and the like.
    #[must_use]
    pub fn attributes(&self) -> StatxAttributes {
        self.0.stx_attributes
    }

    /// What `name` in `dir` is, which is not followed.
    pub(super) fn ask(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let stat = statx(dir, name, flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, mask)?;
        if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            let why = "statx does not tell mounts apart (Linux 5.8 does)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(Self(stat))
    }

    /// What is open as `fd`.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::ask(fd.as_fd(), b"", AtFlags::EMPTY_PATH)
    }
}
