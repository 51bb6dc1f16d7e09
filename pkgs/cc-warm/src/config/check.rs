//! What the values of the configuration file must be.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::names::AppName;
use super::{App, DeployerConfig, Sink};
use crate::gate::markers::{self, Markers};

/// The recipe's name: the last part of its remote, without `.git`.
pub(super) fn recipe_name(remote: &str) -> Result<String> {
    ensure!(!remote.starts_with('-') && !remote.chars().any(char::is_control), "`recipe`: `{remote}` is no git remote");
    ensure!(
        remote.starts_with('/')
            || remote.starts_with("https://")
            || remote.starts_with("ssh://")
            || remote.starts_with("file:///"),
        "`recipe`: `{remote}` must be an absolute path or begin with https://, ssh:// or file:///"
    );
    let last = remote.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = last.strip_suffix(".git").unwrap_or(last);
    ensure!(
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)),
        "`recipe`: `{remote}` does not end in a recipe's name"
    );
    Ok(name.to_owned())
}

/// Every name in `after` is declared, and they make no cycle.
pub(super) fn after(apps: &BTreeMap<AppName, App>) -> Result<()> {
    for app in apps.values() {
        for before in &app.after {
            ensure!(apps.contains_key(before), "app `{}`: `after` names `{before}`, which is not declared", app.name);
        }
    }
    let mut done: BTreeSet<&AppName> = BTreeSet::new();
    while done.len() < apps.len() {
        let ready: Vec<&AppName> = apps
            .values()
            .filter(|app| !done.contains(&app.name) && app.after.iter().all(|b| done.contains(b)))
            .map(|app| &app.name)
            .collect();
        if ready.is_empty() {
            let cycle: Vec<&str> = apps.keys().filter(|name| !done.contains(name)).map(AppName::as_str).collect();
            bail!("`after` of these apps makes a cycle, or waits for one: {}", cycle.join(", "));
        }
        done.extend(ready);
    }
    Ok(())
}

/// All of an app in docker is found by its stack's name, and there is one docker, whatever abra calls its server.
pub(super) fn stacks(apps: &BTreeMap<AppName, App>) -> Result<()> {
    let mut known: BTreeMap<String, &AppName> = BTreeMap::new();
    for app in apps.values() {
        let DeployerConfig::Abra { stack, .. } = &app.deployer else { continue };
        let stack = stack.clone().unwrap_or_else(|| app.domain.stack_name());
        if let Some(other) = known.insert(stack.clone(), &app.name) {
            bail!(
                "the apps `{other}` and `{}` have one stack, `{stack}`, so each would stop and restore the other: give \
                 each its own (`deployer.abra.stack`, or what its domain gives)",
                app.name
            );
        }
    }
    Ok(())
}

pub(super) fn sink(sink: &Sink) -> Result<()> {
    let (Sink::Webhook { token_file, .. } | Sink::Ntfy { token_file, .. } | Sink::Command { token_file, .. }) = sink;
    if let Some(file) = token_file {
        file.check("tokenFile")?;
    }
    match sink {
        Sink::Webhook { url, .. } | Sink::Ntfy { url, .. } => {
            ensure!(
                url.starts_with("http://") || url.starts_with("https://"),
                "`url` must begin with http:// or https://"
            );
        }
        Sink::Command { argv, .. } => self::argv(argv)?,
    }
    Ok(())
}

pub(super) fn argv(argv: &[String]) -> Result<()> {
    ensure!(argv.first().is_some_and(|program| !program.is_empty()), "`argv` names no program");
    Ok(())
}

/// A server's and a stack's name become parts of paths and of docker's names.
pub(super) fn file_name(name: &str) -> Result<()> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    ensure!(
        !name.is_empty() && name.len() <= 63 && name.bytes().all(plain) && !name.starts_with(['.', '-']),
        "`{name}` must be 1 to 63 letters, digits, `-`, `_` or `.`"
    );
    Ok(())
}

pub(super) fn regex(pattern: &str) -> Result<()> {
    regex::Regex::new(pattern).map(drop).with_context(|| not_a_regex(pattern))
}

fn not_a_regex(pattern: &str) -> String {
    format!("`{pattern}` is no regular expression")
}

/// Compiles them once, however many apps have the same: to compile the usual ones takes 20 ms.
pub(super) fn markers(patterns: &[String]) -> Result<()> {
    let Err(error) = Markers::of(patterns) else { return Ok(()) };
    for pattern in patterns {
        markers::check(pattern).with_context(|| not_a_regex(pattern))?;
    }
    Err(error.into())
}
