//! How far long work is, whether it should end, and how fast it may be.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::sys::signals::Interrupt;

/// Told how far a copy, a verification or a scrub is. Called by the thread that asked for the work, some dozens of times a
/// second at most.
pub trait Progress {
    /// `entries` and `bytes` are done.
    fn done(&self, entries: u64, bytes: u64) {
        let _ = (entries, bytes);
    }
}

impl Progress for () {}

/// Somebody asked the program to end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it was interrupted")]
pub struct Interrupted;

/// Counts what all threads do together.
#[derive(Debug)]
pub struct Meter {
    entries: AtomicU64,
    bytes: AtomicU64,
    interrupt: Interrupt,
    pace: Option<Pace>,
}

/// A limit in bytes a second.
#[derive(Debug)]
struct Pace {
    rate: u64,
    due: Mutex<Instant>,
}

impl Meter {
    /// At zero. `rate` is a limit in bytes a second.
    #[must_use]
    pub fn new(interrupt: &Interrupt, rate: Option<u64>) -> Self {
        let pace = rate.map(|rate| Pace { rate: rate.max(1), due: Mutex::new(Instant::now()) });
        Self { entries: AtomicU64::new(0), bytes: AtomicU64::new(0), interrupt: interrupt.clone(), pace }
    }

    /// Counts one entry.
    pub fn add_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `bytes`, and waits where that was too fast.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(pace) = &self.pace else { return };
        #[expect(clippy::cast_precision_loss, reason = "a pace need not be exact")]
        let took = Duration::from_secs_f64(bytes as f64 / pace.rate as f64);
        let until = {
            let mut due = pace.due.lock().unwrap_or_else(PoisonError::into_inner);
            // What was not used for a while is not made up for.
            *due = (*due).max(Instant::now()) + took;
            *due
        };
        while !self.interrupt.is_set() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    /// An error if the work should end.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.interrupt.is_set() { Err(Interrupted) } else { Ok(()) }
    }

    /// Entries and bytes so far.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}
