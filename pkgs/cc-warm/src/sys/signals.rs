//! SIGTERM, SIGINT and SIGHUP as a flag that long work asks for at its safe points.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::clock::Deadline;
use super::shutdown;

/// How often the flag is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Whether somebody asked this process to end. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Whether the machine is going down, asked once; `None`: that does not matter.
    going_down: Option<Arc<OnceLock<bool>>>,
}

impl Interrupt {
    /// Never set, except by [`Interrupt::set`].
    #[must_use]
    pub fn never() -> Self {
        Self::default()
    }

    /// Set by SIGTERM, SIGINT or SIGHUP; a second SIGINT or SIGTERM ends the process at once (the journal is kept).
    pub fn on_signals() -> Result<Self> {
        let this = Self::default();
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&this.asked))?;
            flag::register(signal, Arc::clone(&this.asked))?;
        }
        flag::register(SIGHUP, Arc::clone(&this.asked))?;
        Ok(this)
    }

    /// Sets it.
    pub fn set(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        let matters = |known: &Arc<OnceLock<bool>>| *known.get_or_init(shutdown::is_under_way);
        self.asked.load(Ordering::SeqCst) && self.going_down.as_ref().is_none_or(matters)
    }

    /// Waits for so long, or until it is set: whether it is.
    #[must_use]
    pub fn is_set_within(&self, time: Duration) -> bool {
        let deadline = Deadline::after(time);
        while !self.is_set() && !deadline.is_over() {
            std::thread::sleep(TICK.min(deadline.left()));
        }
        self.is_set()
    }

    /// Set only if this one is, and because the machine is going down.
    #[must_use]
    pub fn by_shutdown(&self) -> Self {
        Self { asked: Arc::clone(&self.asked), going_down: Some(Arc::default()) }
    }
}
