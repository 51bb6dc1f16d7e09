//! Time: the wall clock for what people read, the monotonic one for deadlines.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Where times come from. Deadlines never use the wall clock: it may be set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    fixed: Option<Timestamp>,
}

impl Clock {
    /// The machine's clock. With feature `fault-points`, `CC_WARM_NOW` (RFC 3339) fixes the wall clock.
    #[must_use]
    pub fn system() -> Self {
        #[cfg(feature = "fault-points")]
        if let Ok(text) = std::env::var("CC_WARM_NOW") {
            return Self { fixed: text.parse().ok() };
        }
        Self { fixed: None }
    }

    /// A wall clock that stands still at `at`.
    #[must_use]
    pub fn fixed(at: Timestamp) -> Self {
        Self { fixed: Some(at) }
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        // With feature `fault-points`, a test may let the time go by: the file that `CC_WARM_NOW_FILE` names has it.
        #[cfg(feature = "fault-points")]
        if let Some(at) = std::env::var("CC_WARM_NOW_FILE").ok().and_then(|path| std::fs::read_to_string(path).ok()) {
            return at.trim().parse().unwrap_or_else(|_| Timestamp::now());
        }
        self.fixed.unwrap_or_else(Timestamp::now)
    }

    /// What the wall clock shows in the host's time zone.
    #[must_use]
    pub fn local(&self) -> DateTime {
        TimeZone::system().to_datetime(self.now())
    }
}

/// The monotonic clock (`CLOCK_MONOTONIC`, since boot), as systemd's time stamps have it.
#[must_use]
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A point of monotonic time until which something may last.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let far = Duration::from_hours(24 * 365);
        Self { at: Instant::now() + duration.min(far) }
    }

    /// What is left; zero once it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}
