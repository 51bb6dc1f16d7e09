//! The night: the host's rebuild, if there is one, and then the update units that have not run since it began.
//!
//! Whatever becomes of the rebuild, the updates run: a host that cannot be rebuilt still gets its apps' fixes. Test runs
//! wait meanwhile, since their new ones need the turnstile, which the night holds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::names::AppName;
use crate::config::{Config, Warm};
use crate::error::{Exit, Problem};
use crate::sys::clock::{self, Deadline};
use crate::sys::command::Program;
use crate::sys::dirs::Dirs;
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, flock};

/// How long a test run may hold the turnstile while it enters.
const ENTERING: Duration = Duration::from_secs(2);
/// How long the host's rebuild may take.
const REBUILD: Duration = Duration::from_hours(6);
/// How long all updates together may take; each has its own deadlines.
const UPDATES: Duration = Duration::from_hours(12);
/// Most bytes of the rebuild's output that are shown.
const OUTPUT_CAP: usize = 64 * 1024;

/// One night.
pub struct Night<'a> {
    /// Where the locks are.
    pub dirs: &'a Dirs,
    /// The configuration file; it is read after the rebuild, which may have changed it.
    pub config: &'a Path,
    /// How long to wait for test runs that are under way.
    pub max_wait: Duration,
    /// What rebuilds the host; empty: nothing.
    pub rebuild: &'a [String],
    /// systemd's control program.
    pub systemctl: PathBuf,
    /// Whether somebody asked us to end.
    pub interrupt: &'a Interrupt,
    /// Set when that is because the machine goes down: only then is a rebuild cut short, which may be activating.
    pub shutdown: &'a Interrupt,
    /// What people are told.
    pub say: &'a dyn Fn(&str),
}

impl Night<'_> {
    /// Runs it. Failed: the rebuild failed, or an update unit did; the others ran.
    pub fn run(&self) -> Result<Exit> {
        durable::make_dir(self.dirs.root())?;
        let _turnstile = self.turnstile()?;
        let _activity = self.wait_for_runs();
        if self.interrupt.is_set() {
            return Ok(Exit::Cancelled);
        }
        let before = Config::load(self.config).ok();
        let begun = clock::monotonic();
        let built = self.rebuild();
        if self.interrupt.is_set() {
            return Ok(Exit::Cancelled);
        }
        let updated = self.update(begun, before);
        if let (Err(error), Err(_)) = (&built, &updated) {
            (self.say)(&format!("the rebuild failed too: {error:#}"));
        }
        updated.and(built).map(|()| Exit::Done)
    }

    fn turnstile(&self) -> Result<File> {
        flock::take(&self.dirs.turnstile(), Deadline::after(ENTERING)).map_err(|error| {
            Problem::new("another night is under way; nothing was done")
                .exit(Exit::Busy)
                .hint("systemctl status cc-warm-nightly")
                .because(error)
                .into()
        })
    }

    /// Waits until no test run is under way, or for long enough, or until somebody asks us to end.
    fn wait_for_runs(&self) -> Option<File> {
        let path = self.dirs.activity();
        let deadline = Deadline::after(self.max_wait);
        let mut told = false;
        loop {
            if let Ok(file) = flock::take(&path, Deadline::after(deadline.left().min(Duration::from_secs(1)))) {
                return Some(file);
            }
            if self.interrupt.is_set() {
                return None;
            }
            if deadline.is_over() {
                (self.say)("test runs are still under way; the night does not wait any longer");
                return None;
            }
            if !told {
                (self.say)("waiting for the test runs that are under way");
                told = true;
            }
        }
    }

    fn rebuild(&self) -> Result<()> {
        let [program, arguments @ ..] = self.rebuild else { return Ok(()) };
        (self.say)(&format!("rebuilding the host: {}", self.rebuild.join(" ")));
        let mut command = Program::new(program).args(arguments).deadline(REBUILD).cap(OUTPUT_CAP);
        command = command.ends_with(self.shutdown);
        // It is the host's own command, and needs what its unit was given.
        for (key, value) in std::env::vars_os() {
            command = command.env(key, value);
        }
        let output = command.run().context("the host was not rebuilt")?;
        for text in [&output.stdout, &output.stderr] {
            for line in Untrusted::from_bytes(text, OUTPUT_CAP).terminal_lines().lines() {
                (self.say)(line);
            }
        }
        if output.status.success() {
            return Ok(());
        }
        Err(Problem::new(format!("the host was not rebuilt ({}); its apps were updated all the same", output.status))
            .hint("journalctl -u cc-warm-nightly")
            .into())
    }

    /// Starts the units that have not run since `begun`, and waits for them.
    fn update(&self, begun: Duration, before: Option<Config>) -> Result<()> {
        let config = match (Config::load(self.config), before) {
            (Ok(config), _) => config,
            // A newer cc-warm's: its units are systemd's to start, and read it themselves.
            (Err(error), Some(before)) => {
                (self.say)(&format!(
                    "the configuration cannot be used by this cc-warm, so its apps are those of before: {error:#}"
                ));
                before
            }
            (Err(error), None) => return Err(error),
        };
        let live = config.in_order().into_iter().filter(|name| config.apps[name].warm == Warm::Live);
        let units: Vec<String> = live.map(|name| unit(&name)).collect();
        if units.is_empty() {
            return Ok(());
        }
        let properties = "--property=Id,LoadState,ActiveState,ExecMainStartTimestampMonotonic";
        let shown = self.systemctl().args(["show", properties, "--"]).args(&units).run_ok()?;
        let due = due(&String::from_utf8_lossy(&shown.stdout), begun);
        if due.is_empty() {
            (self.say)("every app was updated meanwhile");
            return Ok(());
        }
        (self.say)(&format!("updating: {}", due.join(" ")));
        self.systemctl().args(["start", "--"]).args(&due).deadline(UPDATES).run_ok().map(drop).map_err(|error| {
            Problem::new("not every update unit ended well; the others ran")
                .hint("systemctl --failed; cc-warm status")
                .because(error)
                .into()
        })
    }

    fn systemctl(&self) -> Program {
        Program::new(&self.systemctl).env("SYSTEMD_COLORS", "0")
    }
}

/// The update unit of `app`.
#[must_use]
pub fn unit(app: &AppName) -> String {
    format!("cc-warm-update-{app}.service")
}

/// Of the units that `systemctl show` describes, those that have not been started since `begun` (`CLOCK_MONOTONIC`), or
/// are under way: to start such a one is to wait for it.
fn due(shown: &str, begun: Duration) -> Vec<String> {
    shown.split("\n\n").filter_map(|block| due_unit(block, begun)).collect()
}

fn due_unit(block: &str, begun: Duration) -> Option<String> {
    let property = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let started: u64 = property("ExecMainStartTimestampMonotonic")?.parse().ok()?;
    let under_way = matches!(property("ActiveState"), Some("activating" | "active" | "reloading"));
    let there = property("LoadState") == Some("loaded");
    let stale = u128::from(started) < begun.as_micros();
    (there && (stale || under_way)).then(|| property("Id").unwrap_or_default().to_owned())
}

#[cfg(test)]
#[path = "nightly_tests.rs"]
mod tests;
