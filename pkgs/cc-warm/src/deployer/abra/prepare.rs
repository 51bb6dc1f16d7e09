//! All of a deployment that can fail while the app still runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use super::AbraDeployer;
use super::folder::{Made, Needs};
use crate::deployer::compose::Compose;
use crate::deployer::docker_api::Objects;
use crate::deployer::docker_cli::holding;
use crate::deployer::{DeployError, Release, dotenv};
use crate::lock::AppLock;
use crate::sys::command::Program;
use crate::sys::{durable, fault};

impl AbraDeployer<'_> {
    pub(super) fn make_ready(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        fault::point("abra.prepare").map_err(DeployError::failed)?;
        self.ready()?;
        self.set_up(release).map_err(DeployError::Failed)?;
        self.must_keep_its_stack()?;
        let services = self.services_now()?;
        let is_new = self.env_text().map_err(DeployError::Failed)?.is_none();
        if is_new {
            if !services.is_empty() {
                let path = self.env_path();
                return Err(DeployError::Failed(anyhow!("the app runs, but it has no `{}`", path.display())));
            }
            self.make_env(lock)?;
        }
        // A deployment writes it, and by then the app is down, or the new version runs.
        must_be_writable(&self.env_path()).map_err(DeployError::Failed)?;
        let keep = || -> Result<Release> {
            let text = self.laid()?.context("the `.env` is gone again")?;
            let env = dotenv::effective(&text);
            ensure!(
                is_new || env.digest() == release.env.digest(),
                "`{}` was changed meanwhile",
                self.env_path().display()
            );
            self.keep_env(&text)?;
            Ok(Release { env, ..release.clone() })
        };
        let release = &keep().map_err(DeployError::Failed)?;
        let compose = self.new_compose(release)?;
        self.must_be_recognisable(release, &compose)?;
        let (new, lost) = self.missing_secrets(&compose, &services)?;
        if !lost.is_empty() {
            let lost: Vec<String> = lost.into_iter().collect();
            return Err(DeployError::Failed(anyhow!("secrets are missing: {}", lost.join("; "))));
        }
        let images = self.bring_images(&compose)?;
        self.generate(&new, lock)?;
        let mut needs = Needs::of(&release.identity());
        needs.images = images;
        needs.secrets = self.named(&compose.secrets(), Objects::Secrets, "secret")?;
        needs.configs = self.named(&compose.configs(), Objects::Configs, "config")?;
        self.folder.write_needs(&needs.identity.clone(), &needs).map_err(DeployError::Failed)?;
        self.note_volumes()
    }

    /// All that is docker's is found by the stack's name: with another one from the next deployment on, neither the
    /// volumes nor the secrets of this app would be its own any more.
    fn must_keep_its_stack(&self) -> Result<(), DeployError> {
        let own = self.own_keys().map_err(DeployError::Failed)?;
        let stack = self.stack_name()?;
        match other_stack(&own.0, &stack) {
            None => Ok(()),
            Some(_) => Err(DeployError::Failed(anyhow!(
                "a file of `environmentFiles` sets `STACK_NAME` to another stack than `{stack}`, where the app's data is: \
                 take it out (the stack's name is `deployer.abra.stack`)"
            ))),
        }
    }

    /// A version whose label says another one could not be told apart once it is deployed.
    fn must_be_recognisable(&self, release: &Release, compose: &Compose) -> Result<(), DeployError> {
        let label = compose.version_label(&self.stack_name()?);
        let wanted = release.version.to_string();
        if label.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let label = label.map_or_else(|| "none".to_owned(), |label| format!("`{label}`"));
        Err(DeployError::Failed(anyhow!(
            "the recipe is tagged {wanted}, but the version label in its compose files is {label}: once deployed, it \
             could not be told what runs"
        )))
    }

    /// `abra app new`, for an app that was never here. Nix's keys are laid in at once: secrets are named after some.
    fn make_env(&self, lock: &AppLock) -> Result<(), DeployError> {
        let said = self.act(self.abra.new_app(&self.app.recipe, self.domain(), self.place.server), lock);
        let path = self.env_path();
        match (self.laid().map_err(DeployError::Failed)?, said) {
            // It will hold secrets.
            (Some(text), _) => self.write_env_as(&text, Some(0o600)).map_err(DeployError::Failed),
            (None, Ok(())) => Err(DeployError::Failed(anyhow!("abra made no `{}`", path.display()))),
            (None, Err(error)) => Err(self.judge(error.context(format!("abra made no `{}`", path.display())))),
        }
    }

    fn generate(&self, new: &[(String, String)], lock: &AppLock) -> Result<(), DeployError> {
        if new.is_empty() {
            return Ok(());
        }
        if let Some(text) = self.laid().map_err(DeployError::Failed)? {
            self.write_env(&text).map_err(DeployError::Failed)?;
        }
        for (name, version) in new {
            tracing::info!(app = %self.app.name, "generating the secret `{name}` ({version})");
            self.act(self.abra.generate_secret(self.domain(), name, version), lock)
                .map_err(|error| self.judge(error.context(format!("the secret `{name}` was not generated"))))?;
        }
        Ok(())
    }

    /// Object ids of what the recipe wants, by name.
    fn named(
        &self,
        wanted: &BTreeMap<String, String>,
        list: Objects,
        what: &str,
    ) -> Result<BTreeMap<String, String>, DeployError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let there = self.objects(list)?;
        let find = |full: &String| {
            let id = there.get(full).with_context(|| format!("the {what} `{full}` does not exist"))?;
            Ok((full.clone(), id.clone()))
        };
        wanted.values().map(find).collect::<Result<_>>().map_err(DeployError::Failed)
    }

    /// Brings every image here, and gives it a name of ours. One that no registry gives now is good as it is here.
    fn bring_images(&self, compose: &Compose) -> Result<BTreeMap<String, String>, DeployError> {
        let mut images = BTreeMap::new();
        for name in compose.images() {
            self.must_go_on()?;
            let here = self.image(&name)?;
            let by_digest = name.contains("@sha256:");
            if here.is_none() || !by_digest {
                fault::point("abra.pull").map_err(DeployError::failed)?;
                let pulled = self.docker.pull(&name, here.is_some()).ends_with(&self.interrupt).run_ok();
                self.must_go_on()?;
                match (pulled, &here) {
                    (Ok(_), _) => {}
                    (Err(error), Some(_)) => {
                        tracing::info!(app = %self.app.name, "`{name}` is here, but was not found anew: {error}");
                    }
                    (Err(error), None) => {
                        let error = anyhow::Error::from(error).context(format!("the image `{name}` is not to be had"));
                        return Err(self.judge(error));
                    }
                }
            }
            let id = self.image(&name)?.with_context(|| format!("the image `{name}` is gone again"));
            let id = id.map_err(DeployError::Failed)?;
            self.docker.tag(&id, &self.pin_name(&id)).run_ok().map_err(|error| self.judge(error))?;
            images.insert(name, id);
        }
        Ok(images)
    }

    /// Fails once somebody has asked us to end: an image may take long.
    fn must_go_on(&self) -> Result<(), DeployError> {
        if self.interrupt.is_set() {
            return Err(DeployError::Failed(anyhow!("cc-warm was asked to end")));
        }
        Ok(())
    }

    /// Notes how the volumes that are there were made.
    pub(super) fn note_volumes(&self) -> Result<(), DeployError> {
        let there = self.volumes_now()?;
        let note = || -> Result<()> {
            let mut known = self.folder.read_volumes()?;
            let before = known.clone();
            for volume in there {
                let (labels, options) = (volume.labels.unwrap_or_default(), volume.options.unwrap_or_default());
                known.made.insert(volume.name, Made { labels, options });
            }
            if known == before { Ok(()) } else { self.folder.write_volumes(&known) }
        };
        note().map_err(DeployError::Failed)
    }

    /// Runs something that changes the app.
    pub(super) fn act(&self, program: Program, lock: &AppLock) -> Result<()> {
        let output = holding(program, lock)?.run_ok()?;
        let said = crate::sys::untrusted::Untrusted::from_bytes(&output.stderr, 4096);
        tracing::debug!(app = %self.app.name, "{}", said.terminal());
        Ok(())
    }
}

/// Fails if `env`, or the file that it leads to, could not be replaced.
fn must_be_writable(env: &Path) -> Result<()> {
    let path = fs::canonicalize(env).with_context(|| format!("cannot find `{}`", env.display()))?;
    let folder = path.parent().context("an `.env` has a folder")?;
    durable::try_to_write(folder).with_context(|| {
        let leads = if path == env { String::new() } else { format!(", to which `{}` leads,", env.display()) };
        format!(
            "`{}`{leads} cannot be written: if that is for cc-warm's units only, add `{}` to their `ReadWritePaths`, or \
             let `services.ccWarm.serversDir` name the folder of servers that it is in",
            path.display(),
            folder.display()
        )
    })
}

/// The stack that the variables `own`, laid over the `.env`, name, if that is not `stack`.
fn other_stack<'a>(own: &'a BTreeMap<String, String>, stack: &str) -> Option<&'a str> {
    own.get("STACK_NAME").map(String::as_str).filter(|named| *named != stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_behind_a_link_is_as_writable_as_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let [real, link, read_only] = ["real.env", "link.env", "read-only.env"].map(|name| dir.path().join(name));
        fs::write(&real, "TYPE=notes\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        std::os::unix::fs::symlink("/proc/version", &read_only).unwrap();
        must_be_writable(&real).unwrap();
        must_be_writable(&link).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let said = format!("{:#}", must_be_writable(&read_only).unwrap_err());
        assert!(said.contains("`/proc/version`, to which `") && said.contains("add `/proc` to"), "{said}");
    }

    #[test]
    fn a_variable_does_not_move_an_app_to_another_stack() {
        let own = |name: &str| BTreeMap::from([("STACK_NAME".to_owned(), name.to_owned())]);
        assert_eq!(other_stack(&BTreeMap::new(), "login"), None);
        assert_eq!(other_stack(&own("login"), "login"), None);
        assert_eq!(other_stack(&own("other"), "login"), Some("other"));
        // Laid over a name in the `.env`, it is another one too.
        assert_eq!(other_stack(&own(""), "login"), Some(""));
    }
}
