//! Which sinks are told about which app.

use std::collections::BTreeMap;

use super::record::Record;
use crate::config::Config;
use crate::config::names::AppName;

/// The apps of which only some sinks are told. What is no app's alert, or that of an app which is not declared any
/// more, goes to all: it must not be lost.
#[derive(Debug, Clone, Default)]
pub struct Routes(BTreeMap<AppName, Vec<String>>);

impl Routes {
    /// As the apps of `config` say.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.apps.values().filter_map(|app| Some((app.name.clone(), app.alerts.clone()?))).collect())
    }

    /// Whether `sink` is told about the matter of `record`.
    #[must_use]
    pub fn lead(&self, record: &Record, sink: &str) -> bool {
        let only = record.alert.app.as_ref().and_then(|app| self.0.get(app));
        only.is_none_or(|sinks| sinks.iter().any(|name| name == sink))
    }

    #[cfg(test)]
    pub(super) fn new(routes: &[(&str, &[&str])]) -> Self {
        let route = |&(app, sinks): &(&str, &[&str])| {
            (app.parse().unwrap(), sinks.iter().map(|&sink| sink.to_owned()).collect())
        };
        Self(routes.iter().map(route).collect())
    }
}
