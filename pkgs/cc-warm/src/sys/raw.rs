//! The one module with `unsafe`: what neither the standard library nor rustix offers safely.
#![expect(unsafe_code, reason = "kept in this one place; each use says why it is sound")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};
use rustix::path::Arg;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Lets no descriptor from `first` on reach a program that this process executes, whoever opened it.
pub fn close_on_exec_from(first: i32) -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if fd < first {
            continue;
        }
        // SAFETY: the descriptor is borrowed for one fcntl that neither closes nor reads it; if it is closed meanwhile
        // (the one that lists the folder), the kernel answers EBADF.
        match fcntl_setfd(unsafe { BorrowedFd::borrow_raw(fd) }, FdFlags::CLOEXEC) {
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Moves this process (or, for a PID namespace, its next children) into new namespaces. `FILES` is not for this.
pub fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    let allowed = UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWUSER;
    if !allowed.contains(namespaces) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: only `FILES` can be unsound, and it was excluded above.
    Ok(unsafe { unshare_unsafe(namespaces) }?)
}

/// `struct fsxattr`: what `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` speak of.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct FsXattr {
    /// `FS_XFLAG_*`.
    pub flags: u32,
    extent_size: u32,
    extents: u32,
    /// The project's id.
    pub project: u32,
    cow_extent_size: u32,
    reserved: [u8; 8],
}

const FS_IOC_FSGETXATTR: Opcode = opcode::read::<FsXattr>(b'X', 31);
const FS_IOC_FSSETXATTR: Opcode = opcode::write::<FsXattr>(b'X', 32);

/// The extended flags and the project of the file or folder open as `fd`.
pub fn get_fs_xattr(fd: impl AsFd) -> rustix::io::Result<FsXattr> {
    // SAFETY: the kernel fills exactly one `struct fsxattr`, which any bits are valid for.
    unsafe { ioctl(fd, Getter::<FS_IOC_FSGETXATTR, FsXattr>::new()) }
}

/// Sets them.
pub fn set_fs_xattr(fd: impl AsFd, value: FsXattr) -> rustix::io::Result<()> {
    // SAFETY: the kernel reads exactly one `struct fsxattr`.
    unsafe { ioctl(fd, Setter::<FS_IOC_FSSETXATTR, FsXattr>::new(value)) }
}

/// The part of `struct btrfs_ioctl_fs_info_args` that is of interest here.
#[repr(C)]
struct BtrfsFsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 1024 - 32],
}

const BTRFS_IOC_FS_INFO: Opcode = opcode::read::<BtrfsFsInfo>(0x94, 31);

/// The id of the btrfs that `fd` is on, the same in all its subvolumes.
pub fn btrfs_id(fd: impl AsFd) -> rustix::io::Result<[u8; 16]> {
    // SAFETY: the kernel fills exactly one `struct btrfs_ioctl_fs_info_args`, of 1024 bytes, which any bits are valid for.
    let info: BtrfsFsInfo = unsafe { ioctl(fd, Getter::<BTRFS_IOC_FS_INFO, BtrfsFsInfo>::new()) }?;
    Ok(info.fsid)
}

/// The number of `listxattrat`, the same on all architectures that cc-warm is built for (Linux 6.13 and newer).
const SYS_LISTXATTRAT: libc::c_long = 465;

/// Names of the extended attributes of `name` in `dir`, which is not followed where it is a symlink.
pub fn listxattrat(dir: impl AsFd, name: &[u8], list: &mut [u8]) -> rustix::io::Result<usize> {
    name.into_with_c_str(|name| {
        let (dir, flags) = (dir.as_fd().as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
        // SAFETY: the name ends with a null and `list` is as long as is said; both outlive the call, which keeps neither.
        let got = unsafe { libc::syscall(SYS_LISTXATTRAT, dir, name.as_ptr(), flags, list.as_mut_ptr(), list.len()) };
        // Below 0 there was an error, which `errno` has.
        usize::try_from(got).map_err(|_| {
            let error = io::Error::last_os_error();
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
        })
    })
}

/// Lets everybody else go first, for the disk as for the processor: for this thread alone, and until it ends.
pub fn make_thread_idle() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // Of a thread, not of its process: so it is on Linux.
    rustix::process::setpriority_process(None, 19)?;
    // SAFETY: it takes numbers only; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The class of this thread's I/O priority.
#[cfg(test)]
fn io_class() -> libc::c_long {
    // SAFETY: it takes numbers only.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) >> 13 }
}

/// The first page of a file, mapped shared and writable: what it takes to try what a database does.
#[cfg(test)]
#[derive(Debug)]
pub struct Mapped(*mut u8);

#[cfg(test)]
impl Mapped {
    const LENGTH: usize = 4096;

    /// Maps the first page of `file`, which is that long.
    pub fn new(file: impl AsFd) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new map at an address that the kernel chooses touches no memory of ours.
        let start = unsafe { mmap(std::ptr::null_mut(), Self::LENGTH, access, MapFlags::SHARED, file, 0) }?;
        Ok(Self(start.cast()))
    }

    /// Stores `byte` at `offset`.
    ///
    /// # Panics
    /// If that lies behind the page.
    pub fn store(&mut self, offset: usize, byte: u8) {
        assert!(offset < Self::LENGTH);
        // SAFETY: within the map, which lives as long as this does; nobody has a reference into it.
        unsafe { self.0.add(offset).write_volatile(byte) };
    }
}

#[cfg(test)]
impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the map is ours alone and is not used after this.
        let _ = unsafe { rustix::mm::munmap(self.0.cast(), Self::LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_made_idle_is_the_only_one() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = (io_class(), nice());
        let idle = std::thread::spawn(move || {
            make_thread_idle().unwrap();
            (io_class(), nice())
        });
        assert_eq!(idle.join().unwrap(), (3, 19));
        assert_eq!((io_class(), nice()), before);
    }

    #[test]
    fn attributes_are_listed_by_name_as_through_a_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        if rustix::fs::fsetxattr(&file, "user.one", b"1", rustix::fs::XattrFlags::empty()).is_err() {
            return;
        }
        let at = fs::File::open(dir.path()).unwrap();
        let list = |name: &[u8]| -> rustix::io::Result<Vec<u8>> {
            let mut list = vec![0; 1 << 16];
            let length = listxattrat(&at, name, &mut list)?;
            list.truncate(length);
            Ok(list)
        };
        match list(b"file") {
            // An older kernel.
            Err(rustix::io::Errno::NOSYS) => return,
            found => {
                let mut expected = vec![0; 1 << 16];
                let length = rustix::fs::flistxattr(&file, &mut expected).unwrap();
                assert_eq!(found.unwrap(), expected[..length]);
            }
        }
        assert!(!list(b"link").unwrap().starts_with(b"user."));
        assert_eq!(list(b"missing"), Err(rustix::io::Errno::NOENT));
    }
}
