//! Deploying: abra does it, docker says whether it was done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use super::AbraDeployer;
use super::folder::{Mark, Needs, ServiceMark};
use super::observe::says;
use crate::deployer::compose::Compose;
use crate::deployer::docker_api::Objects;
use crate::deployer::swarm::{self, Service, Task};
use crate::deployer::{DeployError, Release, dotenv};
use crate::lock::AppLock;
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, fault};

impl AbraDeployer<'_> {
    pub(super) fn bring_up(&self, release: &Release, lock: &AppLock) -> Result<(), DeployError> {
        self.ready()?;
        let identity = release.identity();
        let needs = self.needs(release)?;
        self.must_be_the_same(&needs)?;
        self.set_up(release).map_err(DeployError::Ours)?;
        let compose = self.compose(release)?;
        self.name_images(&needs)?;
        let running = self.services_now()?;
        let before: BTreeMap<String, String> =
            running.iter().map(|service| (service.id.clone(), service.mark())).collect();
        let record = self.folder.read_record().map_err(DeployError::Ours)?;
        let from = record.is_still(&running).map(|mark| mark.identity.clone());
        let at = self.clock.now();
        let text = self.kept_env(&release.env.digest()).map_err(DeployError::Failed)?;
        let announce = || -> Result<()> {
            fault::point("abra.announce")?;
            // The version in it stays what it is until the new one is there.
            let now = self.env_text()?.unwrap_or_default();
            self.set_aside(&now)?;
            let mut record = record;
            record.under_way = Some(identity.clone());
            record.stopping = false;
            self.folder.write_record(&record)?;
            self.write_env(&dotenv::with_version_of(&text, &self.app.recipe, &now))
        };
        announce().map_err(DeployError::Ours)?;
        fault::point("abra.deploy").map_err(DeployError::failed)?;
        let said = self.act(self.abra.deploy(self.domain()), lock);
        fault::point("abra.deployed").map_err(DeployError::failed)?;
        let services = self.services_now()?;
        match (self.is_deployed(release, &compose, &services), said) {
            (Ok(()), Ok(())) => {}
            (Ok(()), Err(error)) => tracing::warn!(app = %self.app.name, "deployed, but abra says: {error:#}"),
            (Err(why), Ok(())) => return Err(DeployError::Failed(why.context("abra says that it is deployed"))),
            (Err(why), Err(error)) => return Err(self.judge(error.context(format!("{why:#}")))),
        }
        self.remove_foreign(&compose, &services)?;
        let services = self.services_now()?;
        let write = || -> Result<()> {
            let text = self.env_text()?.context("the `.env` is gone")?;
            self.write_env(&dotenv::with_version(&text, &self.app.recipe, &release.version.to_string()))?;
            let mark = |service: &Service| {
                let mark = service.mark();
                let before = before.get(&service.id).filter(|before| **before != mark).cloned();
                (service.id.clone(), ServiceMark { mark, before })
            };
            let mut record = self.folder.read_record()?;
            record.deployed = Some(Mark { identity, from, at, services: services.iter().map(mark).collect() });
            record.under_way = None;
            self.folder.write_record(&record)
        };
        write().map_err(DeployError::Ours)
    }

    fn needs(&self, release: &Release) -> Result<Needs, DeployError> {
        let identity = release.identity();
        let needs = self.folder.read_needs(&identity).map_err(DeployError::Failed)?;
        needs.with_context(|| format!("{identity} was not prepared on this host")).map_err(DeployError::Failed)
    }

    /// Whether every service of the release is there, under its version.
    fn is_deployed(&self, release: &Release, compose: &Compose, services: &[Service]) -> Result<()> {
        let stack = self.stack_name()?;
        let Some(labels) = swarm::labels(&stack, services) else { bail!("nothing is deployed with a version label") };
        if !says(&labels, &release.identity()) {
            let chaos = labels.chaos.unwrap_or_default();
            let text = format!("what is deployed says that it is {} {chaos}", labels.version);
            bail!("{}", Untrusted::new(text).terminal());
        }
        for (name, image) in compose.images_by_service() {
            let full = format!("{stack}_{name}");
            let Some(service) = services.iter().find(|service| service.name() == full) else {
                bail!("the service `{full}` is not deployed");
            };
            let has = service.named_image().unwrap_or_default();
            if has != image {
                bail!(
                    "the service `{full}` is not deployed anew: it has the image `{}`",
                    Untrusted::new(has).terminal()
                );
            }
        }
        Ok(())
    }

    /// Services that this release does not have: another one left them, and abra does not remove them.
    fn remove_foreign(&self, compose: &Compose, services: &[Service]) -> Result<(), DeployError> {
        let stack = self.stack_name()?;
        let wanted = compose.services();
        for service in services {
            let short = service.name().strip_prefix(&format!("{stack}_")).unwrap_or_default();
            if !wanted.contains(short) {
                tracing::info!(app = %self.app.name, "removing the service `{}`, which this version does not have", service.name());
                self.docker.remove_service(&service.id).run_ok().map_err(|error| self.judge(error))?;
            }
        }
        Ok(())
    }

    /// The secrets and external configs of a release are those that it was prepared with, not others of the same name.
    fn must_be_the_same(&self, needs: &Needs) -> Result<(), DeployError> {
        let lists = [("secret", &needs.secrets, Objects::Secrets), ("config", &needs.configs, Objects::Configs)];
        for (what, wanted, list) in lists {
            if wanted.is_empty() {
                continue;
            }
            let there = self.objects(list)?;
            for (name, id) in wanted {
                match there.get(name) {
                    Some(now) if now == id => {}
                    Some(_) => {
                        return Err(DeployError::Failed(anyhow!(
                            "the {what} `{name}` is another one now, of the same name"
                        )));
                    }
                    None => return Err(DeployError::Failed(anyhow!("the {what} `{name}` does not exist any more"))),
                }
            }
        }
        Ok(())
    }

    /// Gives the images of a release their names again: a tag may have moved since.
    fn name_images(&self, needs: &Needs) -> Result<(), DeployError> {
        for (name, id) in needs.images.iter().filter(|(name, _)| !name.contains("@sha256:")) {
            if self.image(name)?.as_ref() != Some(id) {
                let named = self.docker.tag(id, name).run_ok();
                named.map_err(|error| {
                    self.judge(anyhow::Error::from(error).context(format!("the image `{name}` is not here any more")))
                })?;
            }
        }
        Ok(())
    }

    /// An `.env` that was never prepared was written by somebody meanwhile. It is kept beside the one that takes its place.
    fn set_aside(&self, text: &str) -> Result<()> {
        let kept = self.app_dirs.env().join(dotenv::effective(text).digest().as_str());
        if text.is_empty() || kept.exists() {
            return Ok(());
        }
        let mut aside = self.env_path().into_os_string();
        aside.push(".replaced");
        let aside = PathBuf::from(aside);
        tracing::warn!(app = %self.app.name, "the `.env` was changed meanwhile; it is kept as `{}`", aside.display());
        durable::replace(&aside, text.as_bytes())
    }

    /// What failed tasks say, and the last lines of the services' logs.
    pub(super) fn said_last(&self) -> Untrusted {
        let Ok(stack) = self.stack_now() else { return Untrusted::new("docker does not answer") };
        let mut text = String::new();
        for service in &stack.services {
            let mut own: Vec<&Task> = stack.tasks.iter().filter(|task| task.service_id == service.id).collect();
            own.sort_by_key(|task| std::cmp::Reverse(task.created_at));
            let failed = own.iter().filter(|task| !task.status.err.is_empty()).take(2);
            text.extend(
                failed.map(|task| format!("{}: {} ({})\n", service.name(), task.status.err, task.status.state)),
            );
            if let Ok(output) = self.docker.logs(&service.id).run() {
                for stream in [&output.stdout, &output.stderr] {
                    text.push_str(&String::from_utf8_lossy(stream));
                }
            }
        }
        let lines = each_once(&text);
        Untrusted::new(lines[lines.len().saturating_sub(50)..].join("\n"))
    }
}

/// The lines, those that stand several times in a row once: a task that fails is tried again, and says the same.
fn each_once(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let told = |same: &[&str]| match same {
        [line] => (*line).to_owned(),
        same => format!("{} ({} times)", same[0], same.len()),
    };
    lines.chunk_by(PartialEq::eq).map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::each_once;

    #[test]
    fn what_is_said_again_and_again_is_told_once() {
        assert_eq!(each_once("start\nno\nno\nno\nend\nno\n"), ["start", "no (3 times)", "end", "no"]);
        assert!(each_once("").is_empty());
    }
}
