//! What most commands open first: configuration, host, recipes, outbox, and the voice on stderr.

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub use super::voice::Voice;

use crate::alert::routes::Routes;
use crate::alert::{Options, Outbox};
use crate::cli::Global;
use crate::config::Config;
use crate::config::names::AppName;
use crate::error::{self, Exit};
use crate::host::Host;
use crate::lock::{AppLock, Wait};
use crate::recipe::Recipes;
use crate::sys::clock::Clock;
use crate::sys::dirs::Dirs;
use crate::sys::durable;
use crate::sys::notify;
use crate::sys::signals::Interrupt;
use crate::update::context::Context;
use crate::update::outcome::Outcome;

/// An opened configuration and what goes with it.
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// The machine.
    pub host: Host,
    /// Mirrors.
    pub recipes: Recipes,
    /// Alerts.
    pub outbox: Outbox,
    /// Whether results are JSON.
    pub json: bool,
}

impl Session {
    /// For commands that change something: makes the state folder, and reacts to signals.
    pub fn open(global: &Global) -> Result<Self> {
        let session = Self::look(global)?;
        durable::make_dir(session.host.dirs.root())?;
        Ok(Self { host: Host { interrupt: Interrupt::on_signals()?, ..session.host }, ..session })
    }

    /// For commands that only look.
    pub fn look(global: &Global) -> Result<Self> {
        let config = Config::load(&global.config)?;
        let dirs = Dirs::new(&config.state_dir);
        let clock = Clock::system();
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let host = Host {
            dirs: dirs.clone(),
            clock,
            interrupt: Interrupt::never(),
            exe: std::env::current_exe().context("cannot find this program's own path")?,
            reserve: config.reserve,
            command: format!("cc-warm {command}"),
        };
        let outbox = Outbox::new(&dirs, &config.host, config.reminder.duration());
        Ok(Self { recipes: Recipes::new(&dirs), outbox, host, config, json: global.json })
    }

    /// For operations on one app, told by `voice`.
    #[must_use]
    pub fn context<'a>(&'a self, voice: &'a Voice) -> Context<'a> {
        Context {
            host: &self.host,
            narrator: voice,
            recipes: &self.recipes,
            outbox: &self.outbox,
            config: &self.config,
        }
    }

    /// Takes the lock of `app`.
    pub fn lock(&self, app: &AppName, wait: Wait) -> Result<AppLock> {
        AppLock::take(&self.host.dirs, app, &self.host.command, self.host.clock, wait, &mut |holder| {
            eprintln!("{app}: waiting, it is {holder}");
        })
    }

    /// The apps that were named, or all declared ones, each after those it comes after.
    pub fn select(&self, named: &[AppName]) -> Result<Vec<AppName>> {
        for name in named {
            self.config.app(name)?;
        }
        let wanted = |name: &AppName| named.is_empty() || named.contains(name);
        Ok(self.config.in_order().into_iter().filter(wanted).collect())
    }

    /// Sends what is in the outbox. A sink that fails keeps its alerts; that is said, and no error of this command.
    pub fn deliver(&self) {
        let options =
            Options { interrupt: self.host.interrupt.clone(), routes: Routes::of(&self.config), ..Options::default() };
        match self.outbox.deliver(&self.config.alerts, self.host.clock.now(), &options) {
            Ok(delivery) => {
                for (sink, why) in &delivery.failures {
                    eprintln!("warning: alerts are kept for later, `{sink}` does not take them: {why}");
                }
            }
            Err(error) => eprintln!("warning: alerts are kept for later: {error:#}"),
        }
    }

    /// Does `work` for each of `apps`, shows every result, and gives the worst exit code. One app's error does not stop
    /// the others.
    pub fn for_each(
        &self,
        apps: &[AppName],
        mut work: impl FnMut(&AppName, &Context<'_>) -> Result<Outcome>,
    ) -> Result<Exit> {
        let mut results = Vec::new();
        let mut worst = Exit::Done;
        for app in apps {
            if self.host.interrupt.is_set() {
                worst = worse(worst, Exit::Cancelled);
                break;
            }
            let voice = Voice::of(app);
            let result = work(app, &self.context(&voice));
            let exit = match &result {
                Ok(outcome) => outcome.exit(),
                Err(error) => error::exit_of(error),
            };
            worst = worse(worst, exit);
            match result {
                Ok(outcome) => {
                    notify::status(&format!("{app}: {}", outcome.describe()));
                    if !self.json {
                        println!("{app}: {}", outcome.describe());
                        if let Some(hint) = outcome.hint(app.as_str()) {
                            println!("  hint: {hint}");
                        }
                    }
                    results.push(Row { app, outcome: Some(outcome), error: None, exit: exit as u8 });
                }
                Err(error) => {
                    let report = error::report(&error);
                    notify::status(&format!("{app}: {error}"));
                    if !self.json {
                        eprint!("{app}: {report}");
                    }
                    results.push(Row { app, outcome: None, error: Some(report), exit: exit as u8 });
                }
            }
        }
        if self.json {
            print_json(&Document { format: 1, apps: results })?;
        }
        self.deliver();
        Ok(worst)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    apps: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    app: &'a AppName,
    exit: u8,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The exit code that matters more to whoever reads only one.
fn worse(a: Exit, b: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Held => 1,
        Exit::Cancelled => 2,
        Exit::Busy => 3,
        Exit::NotReady => 4,
        Exit::Refused => 5,
        Exit::Failed => 6,
        Exit::Usage => 7,
        Exit::StuckAlready => 8,
        Exit::RolledBack => 9,
        Exit::BecameStuck => 10,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Prints `value` on stdout.
pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_app_outweighs_everything() {
        for exit in [Exit::Done, Exit::Held, Exit::RolledBack, Exit::Failed, Exit::StuckAlready] {
            assert_eq!(worse(exit, Exit::BecameStuck), Exit::BecameStuck);
            assert_eq!(worse(Exit::BecameStuck, exit), Exit::BecameStuck);
            assert_eq!(worse(Exit::Done, exit), exit);
        }
    }
}
