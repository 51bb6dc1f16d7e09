//! Asking docker. Whatever goes wrong in a question says nothing of the app: [`DeployError::NotReady`].

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

use super::AbraDeployer;
use crate::deployer::DeployError;
use crate::deployer::docker_cli::Kind;
use crate::deployer::swarm::{Container, Image, Info, Node, Service, Task, VolumeInfo};
use crate::sys::command::{CommandError, Program};
use crate::sys::untrusted::Untrusted;

/// What vanishes between two questions makes the second fail; then both are asked again.
const ATTEMPTS: u32 = 5;

/// A stack, as the swarm shows it.
#[derive(Debug, Default)]
pub(super) struct Stack {
    pub(super) services: Vec<Service>,
    pub(super) tasks: Vec<Task>,
}

impl AbraDeployer<'_> {
    /// Fails unless docker, the swarm and this node are ready: only then does "there is none" mean that there is none.
    pub(super) fn ready(&self) -> Result<Info, DeployError> {
        let output = self.docker.info().run().map_err(DeployError::not_ready)?;
        let info: Info = serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = Untrusted::from_bytes(&output.stderr, 1000).terminal();
            DeployError::not_ready(anyhow!("docker does not answer: {}", said.trim()))
        })?;
        if let Some(why) = info.not_ready(None) {
            let said = if output.status.success() { String::new() } else { last_line(&output.stderr) };
            return Err(DeployError::not_ready(anyhow!("{}{said}", Untrusted::new(why).terminal())));
        }
        let node: Option<Node> = self.parsed::<Node>(self.docker.this_node())?.into_iter().next();
        match info.not_ready(Some(&node.unwrap_or_default())) {
            Some(why) => Err(DeployError::not_ready(anyhow!(Untrusted::new(why).terminal()))),
            None => Ok(info),
        }
    }

    /// The stack's services and all their tasks. Only after [`AbraDeployer::ready`].
    pub(super) fn stack_now(&self) -> Result<Stack, DeployError> {
        let name = self.stack_name()?;
        self.steadily(|| {
            let ids = self.lines(self.docker.services(&name))?;
            if ids.is_empty() {
                return Ok(Stack::default());
            }
            let mut services: Vec<Service> = self.inspect(Kind::Service, &ids)?;
            services.sort_by(|a, b| a.name().cmp(b.name()));
            let ids = self.lines(self.docker.tasks(&ids))?;
            Ok(Stack { services, tasks: self.inspect(Kind::Task, &ids)? })
        })
    }

    /// The stack's services.
    pub(super) fn services_now(&self) -> Result<Vec<Service>, DeployError> {
        let name = self.stack_name()?;
        self.steadily(|| {
            let ids = self.lines(self.docker.services(&name))?;
            self.inspect(Kind::Service, &ids)
        })
    }

    /// The containers of the stack, whatever their state.
    pub(super) fn containers_now(&self) -> Result<Vec<Container>, DeployError> {
        let name = self.stack_name()?;
        self.steadily(|| {
            let ids = self.lines(self.docker.containers(&name))?;
            self.inspect(Kind::Container, &ids)
        })
    }

    /// The containers that mount the volume `name`.
    pub(super) fn containers_with(&self, name: &str) -> Result<Vec<Container>, DeployError> {
        self.steadily(|| {
            let ids = self.lines(self.docker.containers_with(name))?;
            self.inspect(Kind::Container, &ids)
        })
    }

    /// The volumes that bear the stack's label, by name.
    pub(super) fn volumes_now(&self) -> Result<Vec<VolumeInfo>, DeployError> {
        let name = self.stack_name()?;
        let mut volumes: Vec<VolumeInfo> = self.steadily(|| {
            let names = self.lines(self.docker.volumes(&name))?;
            self.inspect(Kind::Volume, &names)
        })?;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Names and ids of all secrets, or configs.
    pub(super) fn objects(&self, list: Program) -> Result<BTreeMap<String, String>, DeployError> {
        let lines = self.lines(list)?;
        Ok(lines.iter().filter_map(|line| line.split_once(' ')).map(|(id, name)| (name.into(), id.into())).collect())
    }

    /// The id of the image that is here under this name.
    pub(super) fn image(&self, name: &str) -> Result<Option<String>, DeployError> {
        match self.docker.inspect(Kind::Image, &[name.to_owned()]).run_ok() {
            Ok(output) => {
                let images: Vec<Image> = parse(&output.stdout)?;
                Ok(images.into_iter().next().map(|image| image.id))
            }
            Err(CommandError::Failed { stderr, .. }) if stderr.raw().to_lowercase().contains("no such image") => {
                Ok(None)
            }
            Err(error) => Err(DeployError::not_ready(error)),
        }
    }

    fn inspect<T: DeserializeOwned>(&self, kind: Kind, ids: &[String]) -> Result<Vec<T>, DeployError> {
        if ids.is_empty() { Ok(Vec::new()) } else { self.parsed(self.docker.inspect(kind, ids)) }
    }

    #[expect(clippy::unused_self, reason = "all questions are the deployer's")]
    fn parsed<T: DeserializeOwned>(&self, question: Program) -> Result<Vec<T>, DeployError> {
        parse(&question.run_ok().map_err(DeployError::not_ready)?.stdout)
    }

    /// The lines of an answer.
    #[expect(clippy::unused_self, reason = "all questions are the deployer's")]
    pub(super) fn lines(&self, question: Program) -> Result<Vec<String>, DeployError> {
        let output = question.run_ok().map_err(DeployError::not_ready)?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect())
    }

    #[expect(clippy::unused_self, reason = "all questions are the deployer's")]
    fn steadily<T>(&self, mut ask: impl FnMut() -> Result<T, DeployError>) -> Result<T, DeployError> {
        let mut last = ask();
        for _ in 1..ATTEMPTS {
            if last.is_ok() {
                break;
            }
            last = ask();
        }
        last
    }

    /// An act failed: was it docker's fault, or a fact about the app?
    pub(super) fn judge(&self, error: impl Into<anyhow::Error>) -> DeployError {
        let error = error.into();
        let timed_out =
            matches!(error.downcast_ref(), Some(CommandError::TimedOut { .. } | CommandError::Start { .. }));
        match self.ready() {
            Ok(_) if !timed_out => DeployError::Failed(error),
            Ok(_) => DeployError::NotReady(error),
            Err(DeployError::NotReady(why) | DeployError::Failed(why)) => {
                DeployError::NotReady(error.context(format!("{why:#}")))
            }
        }
    }
}

fn last_line(stderr: &[u8]) -> String {
    let said = Untrusted::from_bytes(stderr, 1000).terminal_lines();
    said.trim().lines().last().map(|line| format!(": {line}")).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<Vec<T>, DeployError> {
    serde_json::from_slice(json).context("docker's answer cannot be read").map_err(DeployError::NotReady)
}
