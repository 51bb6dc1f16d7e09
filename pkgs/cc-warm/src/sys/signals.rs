//! SIGTERM, SIGINT and SIGHUP as a flag that long work asks for at its safe points.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody asked this process to end. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

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
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&this.0))?;
            flag::register(signal, Arc::clone(&this.0))?;
        }
        flag::register(SIGHUP, Arc::clone(&this.0))?;
        Ok(this)
    }

    /// Sets it.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
