//! The ends of a child's pipes that are ours: none of them is waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// What a child writes, until it ends: as much of it as is kept.
pub(super) struct Drain {
    pub(super) file: Option<File>,
    pub(super) bytes: Vec<u8>,
    cap: usize,
}

impl Drain {
    /// Of `fd`; at most `cap` bytes are kept.
    pub(super) fn new(fd: Option<OwnedFd>, cap: usize) -> io::Result<Self> {
        Ok(Self { file: nonblocking(fd)?, bytes: Vec::new(), cap })
    }

    /// Reads what is there now.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(n) => {
                    let room = self.cap.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What a child is given to read.
pub(super) struct Feed {
    pub(super) file: Option<File>,
    bytes: Vec<u8>,
    written: usize,
}

impl Feed {
    /// Gives `bytes` to `fd`.
    pub(super) fn new(fd: Option<OwnedFd>, bytes: Vec<u8>) -> io::Result<Self> {
        Ok(Self { file: nonblocking(fd)?, bytes, written: 0 })
    }

    /// Writes what it takes now.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while let Some(file) = &mut self.file {
            if self.written == self.bytes.len() {
                self.file = None;
                break;
            }
            match file.write(&self.bytes[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // It does not want to hear the rest.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.file = None,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn nonblocking(fd: Option<OwnedFd>) -> io::Result<Option<File>> {
    let Some(fd) = fd else { return Ok(None) };
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(Some(File::from(fd)))
}
