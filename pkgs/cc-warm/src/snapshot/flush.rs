//! Making what was written durable: one `syncfs` at the end, and others meanwhile, so that little is left for it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;

/// Bytes or entries after which it is time to write back: enough for the file system to write them in long runs, and so
/// little that not much is left when the copy is complete.
const BYTES: u64 = 128 << 20;
const ENTRIES: u64 = 4 << 10;
/// How many write back many small files: while the disk commits what one of them wrote, the other has the next written.
/// What a few large ones are made of, two would only write in each other's way.
const WRITERS: usize = 2;

/// A file system that is going to be written to. Opened before the first byte, so that an error of the disk from then
/// on is told to it: the kernel tells each descriptor once, and what could not be written is gone.
#[derive(Debug)]
pub struct Flush {
    file: File,
    path: PathBuf,
    early: Mutex<Option<Early>>,
    /// What writing back early was told: some errors are told to whoever asks first.
    failed: Arc<OnceLock<Errno>>,
}

impl Flush {
    /// The one that the folder `path` is on.
    pub fn hold(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        Ok(Self { file, path: path.to_owned(), early: Mutex::default(), failed: Arc::default() })
    }

    /// Waits until all is durable that was written since; how long that took. After an error, what was written since
    /// must be thrown away: asked again, the kernel would say that all is well.
    pub fn finish(&self) -> Result<Duration> {
        let begin = Instant::now();
        // Two at a time would be in each other's way.
        self.pause();
        let synced = rustix::fs::syncfs(&self.file);
        self.failed
            .get()
            .map_or(synced, |&errno| Err(errno))
            .with_context(|| format!("what was written to `{}` did not reach the disk", self.path.display()))?;
        Ok(begin.elapsed())
    }

    /// Waits until nothing is written back early any more.
    pub(super) fn pause(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to write back, on another thread. `false` where `writers` are at it still.
    fn begin(&self, writers: usize) -> bool {
        let mut early = self.lock();
        if early.is_none() {
            *early = Early::start(&self.path, &self.failed);
        }
        early.as_ref().is_none_or(|early| early.begin(writers))
    }

    /// Begins to write back all that there is.
    pub(super) fn begin_all(&self) -> bool {
        self.begin(WRITERS)
    }
}

/// Threads that sync a file system when they are told to, by descriptors of their own: most errors are then told to that
/// of [`Flush`] as well.
#[derive(Debug)]
struct Early {
    due: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
    busy: Arc<AtomicUsize>,
}

impl Early {
    /// `None` where there cannot be one: then all is written at the end.
    fn start(path: &Path, failed: &Arc<OnceLock<Errno>>) -> Option<Self> {
        let (due, wanted) = sync_channel(0);
        let wanted = Arc::new(Mutex::new(wanted));
        let mut early = Self { due: Some(due), threads: Vec::new(), busy: Arc::default() };
        for _ in 0..WRITERS {
            let (own, wanted, failed) = (File::open(path).ok()?, Arc::clone(&wanted), Arc::clone(failed));
            let busy = Arc::clone(&early.busy);
            let sync = move || {
                while is_due(&wanted) {
                    if let Err(errno) = rustix::fs::syncfs(&own) {
                        let _ = failed.set(errno);
                    }
                    busy.fetch_sub(1, Ordering::Relaxed);
                }
            };
            early.threads.push(std::thread::Builder::new().name("write-back".to_owned()).spawn(sync).ok()?);
        }
        Some(early)
    }

    fn begin(&self, writers: usize) -> bool {
        // Only one thread asks at a time, so that what it finds here can only become less.
        if self.busy.load(Ordering::Relaxed) >= writers {
            return false;
        }
        let begun = self.due.as_ref().is_some_and(|due| due.try_send(()).is_ok());
        self.busy.fetch_add(usize::from(begun), Ordering::Relaxed);
        begun
    }
}

/// Waits until it is time; `false` at the end.
fn is_due(wanted: &Mutex<Receiver<()>>) -> bool {
    wanted.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok()
}

impl Drop for Early {
    fn drop(&mut self) {
        self.due = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Says when it is time to write back.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    flush: &'a Flush,
    last: Cell<(u64, u64)>,
}

impl<'a> Pace<'a> {
    /// For a copy that begins now.
    pub(super) fn of(flush: &'a Flush) -> Self {
        Self { flush, last: Cell::default() }
    }

    /// Told how far the copy is, in entries and bytes; it is written back when enough came together.
    pub(super) fn reached(&self, (entries, bytes): (u64, u64)) {
        let last = self.last.get();
        let (many, large) = (entries - last.0 >= ENTRIES, bytes - last.1 >= BYTES);
        if many && self.flush.begin(WRITERS) || large && self.flush.begin(1) {
            self.last.set((entries, bytes));
        }
    }
}

/// Lets the file systems of `paths` write back what they have, each once.
pub(super) fn sync_file_systems<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut synced = BTreeSet::new();
    for path in paths {
        let device = fs::metadata(path).with_context(|| format!("cannot look at `{}`", path.display()))?.dev();
        if synced.insert(device) {
            Flush::hold(path)?.finish()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_was_told_while_it_was_still_written_fails_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let flush = Flush::hold(dir.path()).unwrap();
        while !flush.begin_all() {
            std::thread::yield_now();
        }
        flush.finish().unwrap();
        flush.failed.set(Errno::IO).unwrap();
        let error = flush.finish().unwrap_err();
        assert!(format!("{error:#}").contains("did not reach the disk"), "{error:#}");
    }
}
