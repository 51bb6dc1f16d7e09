//! From what the file says to what it means: defaults are filled in, and what cannot work is refused.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Raw, RawApp, RawDeployer, RawHealth, RawUpdate};
use crate::config::names::{AppName, Domain};
use crate::config::secret::SecretFile;
use crate::config::window::Window;
use crate::config::{App, Config, DeployerConfig, Health, Probe, Tests, Update, Warm, check};
use crate::gate::markers;

impl Raw {
    /// Fills in defaults and refuses what cannot work, naming the app and the remedy.
    pub fn validate(self) -> Result<Config> {
        ensure!(self.state_dir.is_absolute(), "`stateDir` must be an absolute path");
        ensure!(self.servers_dir.is_absolute(), "`serversDir` must be an absolute path");
        ensure!(self.max_tests > 0, "`maxTests` must be at least 1");
        if let Some(file) = &self.registry.auth_file {
            file.check("registry.authFile")?;
        }
        let mut apps = BTreeMap::new();
        let mut domains: BTreeMap<Domain, AppName> = BTreeMap::new();
        for (name, raw) in self.apps {
            if let Some(other) = domains.insert(raw.domain.clone(), name.clone()) {
                bail!("the apps `{other}` and `{name}` have one domain, `{}`: give each its own", raw.domain);
            }
            let app = raw
                .validate(name.clone(), &self.servers_dir, self.registry.auth_file.as_ref())
                .with_context(|| format!("app `{name}`"))?;
            apps.insert(name, app);
        }
        check::stacks(&apps)?;
        check::after(&apps)?;
        for app in apps.values() {
            ensure!(
                app.alerts.as_ref().is_none_or(|names| !names.is_empty()),
                "app `{}`: `alerts` names none, so nobody would be told about it; leave it out for all",
                app.name
            );
            for name in app.alerts.iter().flatten() {
                ensure!(
                    self.alerts.contains_key(name),
                    "app `{}`: `alerts` names `{name}`, which is not declared",
                    app.name
                );
            }
        }
        for (name, sink) in &self.alerts {
            check::sink(sink).with_context(|| format!("alert `{name}`"))?;
        }
        let host = self.host.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        Ok(Config {
            state_dir: self.state_dir,
            servers_dir: self.servers_dir,
            host,
            apps,
            alerts: self.alerts,
            reminder: self.reminder,
            reserve: self.disk.reserve,
            registry_auth: self.registry.auth_file,
            tests: Tests { zone: self.zone, tls: self.tls.mode, at_once: self.max_tests },
            fetch_failures: self.fetch_failures.max(1),
        })
    }
}

impl RawApp {
    fn validate(self, name: AppName, servers: &Path, logins: Option<&SecretFile>) -> Result<App> {
        let recipe = check::recipe_name(&self.recipe)?;
        for key in self.env.keys() {
            ensure!(
                !key.is_empty()
                    && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
                    && !key.as_bytes()[0].is_ascii_digit(),
                "`env`: `{key}` is not the name of a variable"
            );
        }
        ensure!(
            !matches!(self.deployer, RawDeployer::Abra { .. }) || !self.env.contains_key("STACK_NAME"),
            "`env` sets `STACK_NAME`: its data would be looked for in another stack, on empty volumes; the stack's name is \
             `deployer.abra.stack`"
        );
        for file in &self.environment_files {
            file.check("environmentFiles")?;
        }
        ensure!(self.snapshot.full_every > 0, "`snapshot.fullEvery` must be at least 1");
        let health = self.health.validate()?;
        ensure!(
            !self.stateful || self.warm == Warm::Data || !health.probes.is_empty(),
            "a stateful app needs a probe (`health.probes`): nothing else tells a good update from a bad one"
        );
        Ok(App {
            name,
            recipe,
            remote: self.recipe,
            domain: self.domain,
            warm: self.warm,
            stateful: self.stateful,
            ensure: self.ensure,
            deployer: match self.deployer {
                RawDeployer::Process { user } => DeployerConfig::Process { user },
                RawDeployer::Abra { server, stack } => {
                    check::file_name(&server).context("`deployer.abra.server`")?;
                    if let Some(stack) = &stack {
                        check::file_name(stack).context("`deployer.abra.stack`")?;
                    }
                    let (servers_dir, registry_auth) = (servers.to_owned(), logins.cloned());
                    DeployerConfig::Abra { server, stack, servers_dir, registry_auth }
                }
            },
            env: self.env,
            environment_files: self.environment_files,
            after: self.after,
            alerts: self.alerts,
            health,
            update: self.update.validate()?,
            full_every: self.snapshot.full_every,
        })
    }
}

impl RawHealth {
    fn validate(self) -> Result<Health> {
        ensure!(self.successes > 0, "`health.successes` must be at least 1");
        ensure!(
            self.soak < self.deadline,
            "`health.soak` ({}) must be shorter than `health.deadline` ({})",
            self.soak,
            self.deadline
        );
        ensure!(
            self.interval.duration().saturating_mul(self.successes).saturating_add(self.soak.duration())
                < self.deadline.duration(),
            "`health.successes` ({}) times `health.interval` ({}) and `health.soak` ({}) leave nothing of `health.deadline` ({})",
            self.successes,
            self.interval,
            self.soak,
            self.deadline
        );
        for probe in &self.probes {
            match probe {
                Probe::Http(http) => {
                    ensure!(
                        http.url.starts_with("http://") || http.url.starts_with("https://"),
                        "`health.probes`: `{}` must begin with http:// or https://",
                        http.url
                    );
                    for pattern in http.body.iter().chain(http.headers.values()) {
                        check::regex(pattern).context("`health.probes`")?;
                    }
                }
                Probe::Command(command) => check::argv(&command.argv).context("`health.probes`")?,
            }
        }
        if let Some(command) = &self.continuity {
            check::argv(&command.argv).context("`health.continuity`")?;
        }
        Ok(Health {
            probes: self.probes,
            successes: self.successes,
            interval: self.interval,
            soak: self.soak,
            deadline: self.deadline,
            continuity: self.continuity,
        })
    }
}

impl RawUpdate {
    fn validate(self) -> Result<Update> {
        let markers = match self.markers {
            None => markers::DEFAULT.iter().map(|&marker| marker.to_owned()).collect(),
            Some(own) => {
                check::markers(&own).context("`update.markers`")?;
                own
            }
        };
        if let Some(pin) = &self.pin {
            ensure!(!self.ignore.contains(pin), "`update.pin` and `update.ignore` both name {pin}");
        }
        ensure!(
            !self.windows.iter().any(Window::is_empty),
            "`update.windows`: a window that is never open; for \"always\", leave the list empty"
        );
        Ok(Update {
            policy: self.policy,
            to: self.to,
            pin: self.pin,
            ignore: self.ignore,
            min_age: self.min_age,
            markers,
            windows: self.windows,
            unmanaged: self.unmanaged,
            keep_failed: self.keep_failed,
            keep_previous: self.keep_previous,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_apps_have_two_stacks() {
        let said = |a: &str, b: &str| {
            let app = |domain: &str, deployer: &str| {
                format!(r#"{{"recipe": "/r/login", "domain": "{domain}", "stateful": false, "deployer": {deployer}}}"#)
            };
            let [a, b] = [app("a.example.org", a), app("b.example.org", b)];
            let text = format!(r#"{{"format": 1, "apps": {{"one": {a}, "two": {b}}}}}"#);
            let validated = super::super::parse(&text).unwrap().validate();
            validated.err().map(|error| format!("{error:#}")).unwrap_or_default()
        };
        let (plain, other) = (r#"{"abra": {}}"#, r#"{"abra": {"stack": "other"}}"#);
        assert_eq!(said(plain, plain), "");
        assert_eq!(said(plain, other), "");
        assert_eq!(said(plain, r#"{"process": {}}"#), "");
        for (a, b, stack) in [
            (other, other, "other"),
            (plain, r#"{"abra": {"stack": "a_example_org"}}"#, "a_example_org"),
            // One docker answers for both.
            (other, r#"{"abra": {"server": "elsewhere", "stack": "other"}}"#, "other"),
        ] {
            let said = said(a, b);
            assert!(said.contains("`one` and `two`") && said.contains(&format!("`{stack}`")), "{said}");
        }
    }

    #[test]
    fn the_name_of_a_stack_is_no_variable() {
        let validated = |deployer: &str| {
            let json = format!(
                r#"{{"recipe": "https://example.org/login", "domain": "login.example.org", "warm": "live",
                    "stateful": false, "deployer": {deployer}, "env": {{"STACK_NAME": "login"}}}}"#
            );
            let app: RawApp = serde_json::from_str(&json).unwrap();
            app.validate("login".parse().unwrap(), Path::new("/servers"), None)
        };
        let said = format!("{:#}", validated(r#"{"abra": {"server": "default"}}"#).unwrap_err());
        assert!(said.contains("deployer.abra.stack"), "{said}");
        validated(r#"{"process": {}}"#).unwrap();
    }
}
