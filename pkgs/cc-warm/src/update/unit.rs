//! Whether the update of an app that comes before is about to run, as systemd says: at night and at a switch all units are
//! started at once, so that the one that must wait may be the first that looks.

use std::time::Duration;

use crate::config::names::AppName;
use crate::nightly;
use crate::sys::clock;
use crate::sys::command::Program;

/// How long systemd has to answer.
const QUESTION: Duration = Duration::from_secs(5);
/// Within so long whoever starts some units has started all of them.
const TOGETHER: Duration = Duration::from_secs(5);

/// Whether the update unit of `before` runs, is to run, or may be among those that were started together with the unit of
/// `app`. Where nobody can tell, it is not.
#[must_use]
pub fn is_to_come(before: &AppName, app: &AppName) -> bool {
    let (before, own) = (nightly::unit(before), nightly::unit(app));
    let properties = "--property=Id,LoadState,ActiveState,Job,ExecMainStartTimestampMonotonic";
    let show = Program::new("systemctl").args(["show", properties, "--"]).args([&before, &own]);
    let shown = show.env("SYSTEMD_COLORS", "0").deadline(QUESTION).run_ok();
    shown.is_ok_and(|shown| to_come(&String::from_utf8_lossy(&shown.stdout), &before, &own, clock::monotonic()))
}

/// The same, by what `systemctl show` says of both units at `now` (`CLOCK_MONOTONIC`).
fn to_come(shown: &str, before: &str, own: &str, now: Duration) -> bool {
    let unit = |name: &str| Unit::parse(shown.split("\n\n").find(|block| property(block, "Id") == Some(name))?);
    let Some(before) = unit(before).filter(|unit| unit.is_there) else { return false };
    let is_first = |own: Unit| {
        let age = now.saturating_sub(own.started);
        own.is_under_way && before.started < own.started && age < TOGETHER
    };
    before.is_under_way || unit(own).is_some_and(is_first)
}

struct Unit {
    is_there: bool,
    /// It runs, ends, waits to be started again, or has a job that waits.
    is_under_way: bool,
    started: Duration,
}

impl Unit {
    fn parse(block: &str) -> Option<Self> {
        let is_moving = matches!(property(block, "ActiveState"), Some("activating" | "reloading" | "deactivating"));
        let has_job = property(block, "Job").is_some_and(|job| !job.is_empty() && job != "0");
        Some(Self {
            is_there: property(block, "LoadState") == Some("loaded"),
            is_under_way: is_moving || has_job,
            started: Duration::from_micros(property(block, "ExecMainStartTimestampMonotonic")?.parse().ok()?),
        })
    }
}

fn property<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_what_runs_is_queued_or_was_started_together_with_it() {
        let (proxy, web) = ("cc-warm-update-proxy.service", "cc-warm-update-web.service");
        let block = |id: &str, load: &str, state: &str, job: &str, started: u64| {
            format!(
                "ExecMainStartTimestampMonotonic={}\nId={id}\nLoadState={load}\nActiveState={state}\n{job}",
                started * 1_000_000
            )
        };
        // The unit of `web` began 100 s after the boot.
        for (before, own_state, now, wanted) in [
            (block(proxy, "loaded", "activating", "", 99), "activating", 300, true),
            (block(proxy, "loaded", "activating", "", 101), "inactive", 300, true),
            (block(proxy, "loaded", "deactivating", "", 99), "activating", 300, true),
            (block(proxy, "loaded", "inactive", "Job=7\n", 0), "activating", 300, true),
            // Perhaps it is the next to be started; after a while it is not.
            (block(proxy, "loaded", "inactive", "", 0), "activating", 102, true),
            (block(proxy, "loaded", "failed", "", 50), "activating", 104, true),
            (block(proxy, "loaded", "inactive", "Job=0\n", 0), "activating", 106, false),
            // Nobody started units: it is updated by hand.
            (block(proxy, "loaded", "inactive", "", 0), "inactive", 102, false),
            // It ran since.
            (block(proxy, "loaded", "inactive", "", 101), "activating", 102, false),
            (block(proxy, "not-found", "inactive", "", 0), "activating", 101, false),
            // Somebody keeps it active: its lock says whether it does anything.
            (block(proxy, "loaded", "active", "", 99), "activating", 300, false),
            (String::new(), "activating", 101, false),
        ] {
            let shown = format!("{before}\n{}", block(web, "loaded", own_state, "", 100));
            assert_eq!(to_come(&shown, proxy, web, Duration::from_secs(now)), wanted, "{shown} at {now}");
        }
        assert!(!to_come("", proxy, web, Duration::ZERO));
    }
}
