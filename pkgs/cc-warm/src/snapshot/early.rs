//! Writing back while it is still being copied, so that little is left for the one `syncfs` at the end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::beneath::Dir;

/// Bytes or entries after which it is time again: enough for the file system to write them in long runs, and for those
/// who make files not to wait for its journal all the time.
const BYTES: u64 = 128 << 20;
const ENTRIES: u64 = 16 << 10;

/// A thread that syncs a file system from time to time. What it is told of errors is of no interest: whoever holds a
/// [`super::tree::Flush`] is told as well.
#[derive(Debug)]
pub(super) struct Early {
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    last: (u64, u64),
}

impl Early {
    /// For the file system of `dir`. Without a thread, where there cannot be one.
    pub(super) fn start(dir: &Dir) -> Self {
        let (due, wanted) = sync_channel(1);
        let own: std::io::Result<OwnedFd> = dir.as_fd().try_clone_to_owned();
        let thread = own.and_then(|fd| {
            std::thread::Builder::new().name("write-back".to_owned()).spawn(move || {
                while wanted.recv().is_ok() {
                    let _ = rustix::fs::syncfs(&fd);
                }
            })
        });
        Self { due: Some(due), thread: thread.ok(), last: (0, 0) }
    }

    /// Told how far the copy is; it is written back when enough came together.
    pub(super) fn reached(&mut self, (entries, bytes): (u64, u64)) {
        if bytes - self.last.1 >= BYTES || entries - self.last.0 >= ENTRIES {
            self.last = (entries, bytes);
            self.now();
        }
    }

    /// It is time, unless the last time is not over.
    pub(super) fn now(&self) {
        if let Some(due) = &self.due {
            let _ = due.try_send(());
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
