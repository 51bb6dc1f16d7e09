//! A moment by which clocks can be held against each other later.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_getres, clock_gettime};
use serde::{Deserialize, Serialize};

use super::stat::Time;

/// A boot, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

/// When something was, by the clock that file systems use and by the one that nobody can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot that it was in.
    pub boot: BootId,
    /// Nanoseconds since 1970, by the wall clock.
    pub wall: i64,
    /// Nanoseconds since the boot, time of sleep included.
    pub since_boot: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?;
        let boot = BootId(boot.trim().to_owned());
        // Read again while something else ran in between: the two must be of one moment.
        for _ in 0..100 {
            let since_boot = nanos(clock_gettime(ClockId::Boottime));
            let wall = nanos(clock_gettime(ClockId::Realtime));
            if nanos(clock_gettime(ClockId::Boottime)) - since_boot < 1_000_000 {
                return Ok(Self { boot, wall, since_boot });
            }
        }
        bail!("the clocks cannot be read within a millisecond")
    }
}

/// The steps in which file systems' times move.
#[must_use]
pub fn granularity() -> Duration {
    let step = clock_getres(ClockId::RealtimeCoarse);
    Duration::new(step.tv_sec.unsigned_abs(), u32::try_from(step.tv_nsec).unwrap_or(0))
}

impl Time {
    /// Nanoseconds since 1970.
    #[must_use]
    pub fn nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

fn nanos(time: rustix::time::Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
