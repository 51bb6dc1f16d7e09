//! What every operation needs of the host: where things lie, what time it is, whether to end.

use std::path::PathBuf;

use crate::sys::clock::Clock;
use crate::sys::dirs::Dirs;
use crate::sys::signals::Interrupt;

/// The few seams through which cc-warm sees the machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// Every path.
    pub dirs: Dirs,
    /// The time.
    pub clock: Clock,
    /// Whether somebody asked us to end.
    pub interrupt: Interrupt,
    /// This program's own path: the journal names it, and the process deployer starts it as a supervisor.
    pub exe: PathBuf,
    /// Bytes that no snapshot may take.
    pub reserve: u64,
    /// The command line, for lock holders.
    pub command: String,
}
