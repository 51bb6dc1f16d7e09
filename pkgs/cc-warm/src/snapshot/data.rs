//! Copying and reading the data of one file: reflink, copy in the kernel, or read and write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Result;
use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::content::{self, BLOCK, SPAN};
use super::crew::{Assist, Crew};
use super::meter::Meter;
use super::stat::Stat;
use super::transfer::{Short, read_all, write_all};

/// Bytes that are read at once when they are digested: they stay in the processor's cache.
const WINDOW: usize = 4 * BLOCK;
/// Bytes that the kernel is asked to copy at once: an interrupt is not kept waiting.
const STRETCH: u64 = SPAN;
/// From this length on, a file is worked on by whoever has nothing else to do.
pub(super) const LARGE: u64 = 4 * SPAN;

/// What a pair of file systems can do; tried until it says no.
#[derive(Debug)]
pub(super) struct Means {
    reflink: AtomicBool,
    in_kernel: AtomicBool,
}

impl Means {
    /// With reflinks tried, unless told not to.
    #[must_use]
    pub(super) fn new(reflink: bool) -> Self {
        Self { reflink: AtomicBool::new(reflink), in_kernel: AtomicBool::new(true) }
    }
}

/// What came of copying a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether it shares its extents with the source.
    pub(super) reflinked: bool,
    /// Bytes that were written.
    pub(super) written: u64,
    /// The digest, if it was asked for and could be taken.
    pub(super) digest: Option<[u8; 32]>,
}

/// Makes `to` share the extents of `from`. `false` where that cannot be.
pub(super) fn reflink(from: impl AsFd, to: impl AsFd, means: &Means) -> io::Result<bool> {
    if !means.reflink.load(Ordering::Relaxed) {
        return Ok(false);
    }
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => {
            means.reflink.store(false, Ordering::Relaxed);
            Ok(false)
        }
        // Of these two files only: a swap file, one that differs in NOCOW, inline data.
        Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// How a file's data is handled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Its length.
    pub(super) size: u64,
    /// What of that is there: if it is less, there may be holes.
    pub(super) occupied: u64,
    /// Whether its digest is taken.
    pub(super) digest: bool,
}

impl Order {
    /// Of a file that is `stat`.
    #[must_use]
    pub(super) fn of(stat: &Stat, digest: bool) -> Self {
        Self { size: stat.size(), occupied: stat.occupied(), digest }
    }

    /// Whether it may have holes.
    #[must_use]
    pub(super) fn sparse(self) -> bool {
        self.occupied < self.size
    }
}

/// Copies the `order.size` bytes of `from` into `to`, which is empty.
pub(super) fn copy(
    from: &Arc<OwnedFd>,
    to: &Arc<OwnedFd>,
    order: Order,
    means: &Arc<Means>,
    crew: &Crew<'_>,
    buffer: &mut Vec<u8>,
    meter: &Arc<Meter>,
) -> Result<Outcome> {
    if order.size == 0 {
        return Ok(Outcome { reflinked: false, written: 0, digest: order.digest.then(|| content::file(0, &[])) });
    }
    if reflink(from, to, means)? {
        meter.add_bytes(order.occupied);
        return Ok(Outcome { reflinked: true, written: 0, digest: None });
    }
    if is_short_file(order) {
        return short_file(from, to.as_fd(), order, buffer, meter);
    }
    let to = Some(Arc::clone(to));
    let (digest, written) = work(from, to.clone(), order, means, crew, buffer, meter)?;
    if let Some(to) = to
        && order.sparse()
    {
        // A hole at the end has nothing that would make the file long enough.
        ftruncate(&*to, order.size)?;
    }
    Ok(Outcome { reflinked: false, written, digest })
}

/// Most files are, and what makes long ones fast only costs them time.
fn is_short_file(order: Order) -> bool {
    order.size <= BLOCK as u64 && !order.sparse()
}

/// Room for a window, in a buffer that is empty at first: the kernel's zeroed memory, of which only what is used is touched.
fn window_in(buffer: &mut Vec<u8>) -> &mut [u8] {
    if buffer.len() < WINDOW {
        *buffer = vec![0; WINDOW];
    }
    buffer
}

fn short_file(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    order: Order,
    buffer: &mut Vec<u8>,
    meter: &Meter,
) -> Result<Outcome> {
    let size = usize::try_from(order.size)?;
    let buffer = window_in(buffer);
    let data = &mut buffer[..size];
    meter.check()?;
    read_all(from, data, 0)?;
    write_all(to, data, 0)?;
    meter.add_bytes(order.size);
    let digest = order.digest.then(|| content::short(buffer, size));
    Ok(Outcome { reflinked: false, written: order.size, digest })
}

/// The digest of `from`, which is `stat`.
pub(super) fn digest(
    from: &Arc<OwnedFd>,
    stat: &Stat,
    crew: &Crew<'_>,
    buffer: &mut Vec<u8>,
    meter: &Arc<Meter>,
) -> Result<[u8; 32]> {
    let order = Order::of(stat, true);
    if order.size == 0 {
        return Ok(content::file(0, &[]));
    }
    let (digest, _) = work(from, None, order, &Arc::new(Means::new(false)), crew, buffer, meter)?;
    Ok(digest.unwrap_or_default())
}

fn work(
    from: &Arc<OwnedFd>,
    to: Option<Arc<OwnedFd>>,
    order: Order,
    means: &Arc<Means>,
    crew: &Crew<'_>,
    buffer: &mut Vec<u8>,
    meter: &Arc<Meter>,
) -> Result<(Option<[u8; 32]>, u64)> {
    let file = Arc::new(File {
        from: Arc::clone(from),
        to,
        order,
        means: Arc::clone(means),
        meter: Arc::clone(meter),
        next: Mutex::new(0),
        state: Mutex::new(State::default()),
        idle: Condvar::new(),
        written: AtomicU64::new(0),
    });
    if file.is_shared() {
        let helpers: Arc<dyn Assist> = Arc::<File>::clone(&file);
        crew.call(Arc::clone(&helpers));
        file.assist(buffer);
        crew.dismiss(&helpers);
    } else {
        file.assist(buffer);
    }
    let mut state = file.state.lock().unwrap_or_else(PoisonError::into_inner);
    while state.busy > 0 {
        state = file.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if let Some(error) = state.failed.take() {
        return Err(error);
    }
    state.spans.sort_unstable_by_key(|(number, _)| *number);
    let digest = order.digest.then(|| content::file(order.size, &state.spans));
    Ok((digest, file.written.load(Ordering::Relaxed)))
}

/// A file that is worked on, by one or by all, span by span.
struct File {
    from: Arc<OwnedFd>,
    to: Option<Arc<OwnedFd>>,
    order: Order,
    means: Arc<Means>,
    meter: Arc<Meter>,
    /// Where nobody has begun yet.
    next: Mutex<u64>,
    state: Mutex<State>,
    idle: Condvar,
    written: AtomicU64,
}

#[derive(Default)]
struct State {
    busy: usize,
    spans: Vec<(u64, [u8; 32])>,
    failed: Option<anyhow::Error>,
}

impl Assist for File {
    fn assist(&self, buffer: &mut Vec<u8>) {
        let busy = Busy::with(self);
        let result = loop {
            match self.claim() {
                Ok(None) => break Ok(()),
                Ok(Some(start)) => {
                    if let Err(error) = self.span(start, buffer) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error.into()),
            }
        };
        if let Err(error) = result {
            // Nobody begins another span of it.
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = self.order.size;
            self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
        }
        drop(busy);
    }
}

/// One who works on a file, until it is dropped: its owner waits for all, for one that panics as well.
struct Busy<'a>(&'a File);

impl<'a> Busy<'a> {
    fn with(file: &'a File) -> Self {
        file.state.lock().unwrap_or_else(PoisonError::into_inner).busy += 1;
        Self(file)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
        if self.0.is_shared() {
            self.0.idle.notify_all();
        }
    }
}

impl File {
    /// Whether others were asked to assist: to read and to digest it. Only one at a time can write to a file.
    fn is_shared(&self) -> bool {
        self.order.size >= LARGE && self.order.digest
    }

    /// Where the next span with data in it begins.
    fn claim(&self) -> io::Result<Option<u64>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(data) = self.data_from(*next)? else {
            *next = self.order.size;
            return Ok(None);
        };
        let start = data / SPAN * SPAN;
        *next = start + SPAN;
        Ok(Some(start))
    }

    /// Where data begins, at `offset` or after it.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.order.size {
            return Ok(None);
        }
        if !self.order.sparse() {
            return Ok(Some(offset));
        }
        match seek(&*self.from, SeekFrom::Data(offset)) {
            Ok(data) => Ok((data < self.order.size).then_some(data)),
            Err(Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn hole_from(&self, offset: u64, end: u64) -> io::Result<u64> {
        if !self.order.sparse() {
            return Ok(end);
        }
        match seek(&*self.from, SeekFrom::Hole(offset)) {
            Ok(hole) => Ok(hole.min(end)),
            Err(Errno::NXIO) => Ok(end),
            Err(e) => Err(e.into()),
        }
    }

    fn span(&self, start: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let end = start.saturating_add(SPAN).min(self.order.size);
        let to = self.to.as_ref().map(AsFd::as_fd);
        if !self.order.digest {
            return self.plain(start, end, to, buffer);
        }
        let mut span = content::Span::default();
        let mut at = start;
        while let Some(data) = self.data_from(at)?.filter(|&data| data < end) {
            let window = start + (data - start) / BLOCK as u64 * BLOCK as u64;
            let stop = (window + WINDOW as u64).min(end);
            let length = usize::try_from(stop - window)?;
            let buffer = window_in(buffer);
            self.meter.check()?;
            read_all(&self.from, &mut buffer[..length], window)?;
            span.add(usize::try_from((window - start) / BLOCK as u64)?, &buffer[..length]);
            let from = window.max(at);
            self.meter.add_bytes(match to {
                Some(to) => self.write_data(to, &buffer[..length], from, window, stop)?,
                None => stop - from,
            });
            at = stop;
        }
        if let Some(digest) = span.finish() {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.spans.push((start / SPAN, digest));
        }
        Ok(())
    }

    /// Writes what is data between `from` and `stop` of `window`, which begins at `begin`: how much that is.
    fn write_data(&self, to: BorrowedFd<'_>, window: &[u8], from: u64, begin: u64, stop: u64) -> Result<u64> {
        let (mut at, mut count) = (from, 0);
        while let Some(data) = self.data_from(at)?.filter(|&data| data < stop) {
            let hole = self.hole_from(data, stop)?;
            write_all(to, &window[usize::try_from(data - begin)?..usize::try_from(hole - begin)?], data)?;
            count += hole - data;
            at = hole;
        }
        self.written.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    /// Copies what is data between `start` and `end`, undigested.
    fn plain(&self, start: u64, end: u64, to: Option<BorrowedFd<'_>>, buffer: &mut Vec<u8>) -> Result<()> {
        let Some(to) = to else { return Ok(()) };
        let mut at = start;
        while let Some(data) = self.data_from(at)?.filter(|&data| data < end) {
            let hole = self.hole_from(data, end)?;
            self.stretch(to, data, hole, buffer)?;
            self.written.fetch_add(hole - data, Ordering::Relaxed);
            self.meter.add_bytes(hole - data);
            at = hole;
        }
        Ok(())
    }

    fn stretch(&self, to: BorrowedFd<'_>, start: u64, end: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let mut at = start;
        // Two calls of which one is long are dearer than one that is short.
        while end - at > BLOCK as u64 && self.means.in_kernel.load(Ordering::Relaxed) {
            self.meter.check()?;
            let (mut from_at, mut to_at) = (at, at);
            let length = usize::try_from((end - at).min(STRETCH))?;
            match copy_file_range(&*self.from, Some(&mut from_at), to, Some(&mut to_at), length) {
                Ok(0) => return Err(Short.into()),
                Ok(done) => at += done as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.means.in_kernel.store(false, Ordering::Relaxed);
                }
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
        while at < end {
            self.meter.check()?;
            let length = usize::try_from((end - at).min(WINDOW as u64))?;
            let buffer = window_in(buffer);
            read_all(&self.from, &mut buffer[..length], at)?;
            write_all(to, &buffer[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }
}
