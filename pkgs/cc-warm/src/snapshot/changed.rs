//! What is seen of somebody who writes to a tree while it is copied.

use std::io;

use rustix::io::Errno;

use super::meter::Interrupted;
use super::transfer;

/// Somebody still writes to the tree that was to be copied.
#[derive(Debug, Clone, thiserror::Error)]
#[error("something still writes to it: `{path}` {what}")]
pub(super) struct Changed {
    /// Where, escaped.
    pub(super) path: String,
    /// What was seen.
    pub(super) what: &'static str,
}

/// A name was given to something else while it was looked at.
#[derive(Debug, thiserror::Error)]
#[error("it became something else")]
pub(super) struct Other;

/// A folder that one was in is another one now.
#[derive(Debug, thiserror::Error)]
#[error("a folder was exchanged for another one meanwhile")]
pub(super) struct Exchanged;

/// What an error says of somebody who changes the tree, if it does. There is more that only one who runs can do: then
/// `running`.
pub(super) fn change(error: &anyhow::Error, running: bool) -> Option<&'static str> {
    if transfer::is_short(error) {
        return Some("became shorter while it was read");
    }
    if error.downcast_ref::<Other>().is_some() {
        return Some("became something else");
    }
    let own = || error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error);
    match error.downcast_ref::<Errno>().copied().or_else(own) {
        Some(Errno::NOENT | Errno::STALE) => Some("vanished"),
        // No file, no folder, no symlink any more; or one now, or a socket.
        Some(Errno::INVAL | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Some("became something else"),
        // A lease.
        Some(Errno::AGAIN) => Some("is kept from being opened"),
        Some(Errno::NODATA | Errno::RANGE) if running => Some("got other attributes while they were read"),
        // A folder that changes may be listed with a name twice.
        Some(Errno::EXIST) if running => Some("was listed twice"),
        Some(_) => None,
        None => (error.downcast_ref::<io::Error>()?.kind() == io::ErrorKind::InvalidInput)
            .then_some("became something else"),
    }
}

/// Whether an error of a copy that was made while the app runs says nothing of one that is made while it does not: what
/// was copied changed, or it was interrupted. A full disk is none of these: what did not fit then does not fit later.
#[must_use]
pub fn is_passing(error: &anyhow::Error) -> bool {
    let exchanged =
        |error: &io::Error| error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Exchanged>);
    error
        .chain()
        .any(|cause| cause.is::<Changed>() || cause.is::<Interrupted>() || cause.downcast_ref().is_some_and(exchanged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_stopped_app_does_not_do_is_passing() {
        let changed = Changed { path: "a".to_owned(), what: "vanished" };
        for error in [
            anyhow::Error::from(changed).context("volume `data` cannot be copied"),
            anyhow::Error::from(io::Error::other(Exchanged)).context("cannot list the folder `a`"),
            Interrupted.into(),
        ] {
            assert!(is_passing(&error), "{error:#}");
        }
        for errno in [Errno::IO, Errno::MLINK, Errno::ACCESS, Errno::FBIG, Errno::NOSPC, Errno::DQUOT] {
            assert!(!is_passing(&anyhow::Error::from(io::Error::from(errno)).context("cannot copy `a`")), "{errno}");
        }
    }

    #[test]
    fn what_only_one_who_runs_can_do_is_an_error_where_nobody_does() {
        for errno in [Errno::NODATA, Errno::RANGE, Errno::EXIST] {
            assert!(change(&io::Error::from(errno).into(), true).is_some(), "{errno}");
            assert!(change(&io::Error::from(errno).into(), false).is_none(), "{errno}");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::NOSPC, Errno::MLINK] {
            assert!(change(&io::Error::from(errno).into(), true).is_none(), "{errno}");
        }
    }
}
