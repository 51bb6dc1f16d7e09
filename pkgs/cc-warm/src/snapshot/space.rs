//! How much room there is, and errors that come of there being none.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::io::Errno;

/// Bytes that anybody may still write to the file system that `path` is on.
pub fn free(path: &Path) -> rustix::io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether it failed because a disk, or a quota, is full.
#[must_use]
pub fn is_no_space(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let by_std = cause.downcast_ref::<std::io::Error>();
        // One that was given words of its own has no number any more.
        by_std.is_some_and(|e| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
            || cause.downcast_ref::<Errno>().is_some_and(|e| [Errno::NOSPC, Errno::DQUOT].contains(e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_known_however_they_are_told() {
        let worded = |errno: Errno| {
            let error = std::io::Error::from(errno);
            anyhow::Error::new(std::io::Error::new(error.kind(), "its attribute cannot be set")).context("a file")
        };
        for (errno, expected) in [(Errno::NOSPC, true), (Errno::DQUOT, true), (Errno::IO, false), (Errno::ROFS, false)]
        {
            for error in [
                anyhow::Error::new(errno).context("a file"),
                anyhow::Error::new(std::io::Error::from(errno)).context("a file"),
                worded(errno),
            ] {
                assert_eq!(is_no_space(&error), expected, "{error:#}");
            }
        }
    }
}
