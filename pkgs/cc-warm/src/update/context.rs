//! What operations need besides the app: the host, who watches, the recipes, where alerts go.

use anyhow::Result;

use super::operation::Narrator;
use crate::alert::{Alert, Kind, Outbox};
use crate::config::names::AppName;
use crate::config::{App, Config};
use crate::host::Host;
use crate::recipe::Recipes;
use crate::snapshot::Work;

/// Shared by all operations of one run of the program.
pub struct Context<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Who watches.
    pub narrator: &'a dyn Narrator,
    /// Mirrors of recipes, each asked once.
    pub recipes: &'a Recipes,
    /// Alerts.
    pub outbox: &'a Outbox,
    /// The configuration.
    pub config: &'a Config,
}

impl Context<'_> {
    /// Puts an alert about `app` on disk; it is sent later.
    pub fn raise(&self, app: &AppName, alert: Alert) -> Result<()> {
        self.outbox.raise(alert.app(app), self.host.clock.now()).map(drop)
    }

    /// Standing facts about `app` are over.
    pub fn resolve(&self, app: &AppName, kinds: &[Kind]) -> Result<()> {
        self.outbox.resolve(Some(app), kinds, self.host.clock.now()).map(drop)
    }

    /// For what takes long, and may be cut short.
    #[must_use]
    pub fn work(&self) -> Work<'_> {
        Work { reporter: self.narrator, interrupt: &self.host.interrupt }
    }

    /// The declared apps that `app` comes after.
    #[must_use]
    pub fn predecessors(&self, app: &App) -> Vec<&App> {
        app.after.iter().filter_map(|name| self.config.apps.get(name)).collect()
    }
}
