//! What most commands open first: configuration, host, recipes, outbox, and the voice on stderr.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::results::Results;
pub use super::voice::Voice;
use crate::alert::routes::Routes;
use crate::alert::{Options, Outbox};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::config::{Config, Warm};
use crate::error::{Exit, Problem};
use crate::home;
use crate::host::Host;
use crate::lock::{AppLock, Wait};
use crate::recipe::Recipes;
use crate::sys::clock::Clock;
use crate::sys::dirs::Dirs;
use crate::sys::out::{say, show};
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
    /// Whether the configuration can be used. One that cannot names no app and no sink.
    pub is_configured: bool,
}

impl Session {
    /// For commands that change something: makes the state folder, and reacts to signals.
    pub fn open(global: &Global) -> Result<Self> {
        Self::inspect(global)?.opened()
    }

    fn opened(self) -> Result<Self> {
        // What is deployed where, only a configuration says.
        let may_be_on_swarm = !self.is_configured || self.config.is_on_swarm();
        home::open(&self.host.dirs, may_be_on_swarm)?;
        let interrupt = Interrupt::on_signals()?;
        let recipes = self.recipes.ends_with(&interrupt);
        Ok(Self { host: Host { interrupt, ..self.host }, recipes, ..self })
    }

    /// For `recover`, which needs no more than the journals. With a configuration that cannot be used there is no app in it,
    /// and no alert is delivered; what is wrong with it comes along.
    pub fn recovering(global: &Global) -> Result<(Self, Option<anyhow::Error>)> {
        match Config::load(&global.config) {
            Ok(config) => Ok((Self::with(config, global)?.opened()?, None)),
            Err(error) => {
                let Ok(config) = Config::of_state_dir(&global.config) else { return Err(error) };
                let session = Self { is_configured: false, ..Self::with(config, global)? };
                Ok((session.opened()?, Some(error)))
            }
        }
    }

    /// For alerts, which are delivered whatever is not ready: nothing is made that says whose folder it is.
    pub fn telling(global: &Global) -> Result<Self> {
        let session = Self::look(global)?;
        let interrupt = Interrupt::on_signals()?;
        Ok(Self { host: Host { interrupt, ..session.host }, ..session })
    }

    /// For commands that only look.
    pub fn look(global: &Global) -> Result<Self> {
        let session = Self::inspect(global)?;
        home::check(&session.host.dirs)?;
        Ok(session)
    }

    /// For `doctor`, which wants to see a state folder that is not the right one, too.
    pub fn inspect(global: &Global) -> Result<Self> {
        Self::with(Config::load(&global.config)?, global)
    }

    fn with(config: Config, global: &Global) -> Result<Self> {
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
        Ok(Self { recipes: Recipes::new(&dirs), outbox, host, config, json: global.json, is_configured: true })
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
            say!("{app}: waiting, it is {holder}");
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

    /// [`Session::select`], of live-warm apps only: nothing but a test run deploys a data-warm one.
    pub fn select_live(&self, named: &[AppName]) -> Result<Vec<AppName>> {
        let is_live = |name: &AppName| self.config.apps.get(name).is_none_or(|app| app.warm == Warm::Live);
        if let Some(name) = named.iter().find(|name| !is_live(name)) {
            return Err(Problem::new(format!(
                "app `{name}` is data-warm: only a test run deploys it; nothing was touched"
            ))
            .exit(Exit::Refused)
            .hint("set its `warm` to `live` to keep it running and updated")
            .into());
        }
        Ok(self.select(named)?.into_iter().filter(is_live).collect())
    }

    /// Asks what the recipes of `apps` publish, some at once.
    pub fn ask_remotes(&self, apps: &[AppName]) {
        self.recipes.ask_all(apps.iter().filter_map(|name| Some(self.config.apps.get(name)?.remote.as_str())));
    }

    /// Sends what is in the outbox. A sink that fails keeps its alerts; that is said, and no error of this command.
    pub fn deliver(&self) {
        if !self.is_configured {
            // An alert that no sink is owed would be gone.
            return;
        }
        let options =
            Options { interrupt: self.host.interrupt.clone(), routes: Routes::of(&self.config), ..Options::default() };
        match self.outbox.deliver(&self.config.alerts, self.host.clock.now(), &options) {
            Ok(delivery) => {
                for (sink, why) in &delivery.failures {
                    say!("warning: alerts are kept for later, `{sink}` does not take them: {why}");
                }
            }
            Err(error) => say!("warning: alerts are kept for later: {error:#}"),
        }
    }

    /// Does `work` for each of `apps`, shows every result, and gives the worst exit code. One app's error does not stop
    /// the others.
    pub fn for_each(
        &self,
        apps: &[AppName],
        mut work: impl FnMut(&AppName, &Context<'_>) -> Result<Outcome>,
    ) -> Result<Exit> {
        let mut results = Results::new(self.json);
        for app in apps {
            if self.host.interrupt.is_set() {
                results.cancelled();
                break;
            }
            let voice = Voice::of(app);
            match work(app, &self.context(&voice)) {
                Ok(outcome) => results.outcome(app, &outcome)?,
                Err(error) => results.error(app, error),
            }
        }
        let exit = results.finish()?;
        self.deliver();
        Ok(exit)
    }

    /// Refuses an app that is neither declared nor known from what it left in the state folder.
    pub fn must_be_known(&self, app: &AppName) -> Result<()> {
        if self.host.dirs.app(app.as_str()).root().is_dir() {
            return Ok(());
        }
        self.config.app(app).map(drop)
    }
}

/// Prints `value` on stdout.
pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    show!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
