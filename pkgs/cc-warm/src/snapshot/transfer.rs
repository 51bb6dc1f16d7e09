//! Reading and writing all of a buffer.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Result;
use rustix::io::{Errno, pread, pwrite};

use super::content::BLOCK;

/// Bytes that are written at once: of longer writes the page cache makes larger folios, whose memory is seldom at hand (1 GB:
/// half as long again).
const PIECE: usize = BLOCK;

/// The file ended before its length: somebody shrinks it.
#[must_use]
pub(super) fn is_short(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Short>().is_some()
}

/// See [`is_short`].
#[derive(Debug, thiserror::Error)]
#[error("it is shorter than it was a moment ago")]
pub(super) struct Short;

/// Fills `buffer` from `offset` on.
pub(super) fn read_all(from: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match pread(from, &mut buffer[done..], offset + done as u64) {
            Ok(0) => return Err(Short.into()),
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Ok(())
}

/// Writes all of `buffer` at `offset`.
pub(super) fn write_all(to: BorrowedFd<'_>, buffer: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match pwrite(to, &buffer[done..buffer.len().min(done + PIECE)], offset + done as u64) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(put) => done += put,
            Err(Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Ok(())
}
