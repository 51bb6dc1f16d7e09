//! Asking docker. Whatever goes wrong in a question says nothing of the app: [`DeployError::NotReady`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::AbraDeployer;
use crate::deployer::DeployError;
use crate::deployer::docker_api::Objects;
use crate::deployer::swarm::{Container, Info, Service, Task, VolumeInfo};
use crate::sys::command::{CommandError, Program};
use crate::sys::untrusted::Untrusted;

/// How often a question is asked.
const ATTEMPTS: u32 = 3;

/// A stack, as the swarm shows it.
#[derive(Debug, Default)]
pub(super) struct Stack {
    pub(super) services: Vec<Service>,
    pub(super) tasks: Vec<Task>,
}

impl AbraDeployer<'_> {
    /// Fails unless docker, the swarm and this node are ready: only then does "there is none" mean that there is none.
    pub(super) fn ready(&self) -> Result<Info, DeployError> {
        let info = self.api.info().map_err(DeployError::NotReady)?;
        let not_ready = |why: String| DeployError::not_ready(anyhow!(Untrusted::new(why).terminal()));
        if let Some(why) = info.not_ready(None) {
            return Err(not_ready(why));
        }
        let node = self.api.node(&info.swarm.node_id).map_err(DeployError::NotReady)?.unwrap_or_default();
        info.not_ready(Some(&node)).map_or(Ok(info), |why| Err(not_ready(why)))
    }

    /// The stack's services and all their tasks. Only after [`AbraDeployer::ready`].
    pub(super) fn stack_now(&self) -> Result<Stack, DeployError> {
        steadily(|| {
            let services = self.services_now()?;
            let tasks = self.api.tasks(&services).map_err(DeployError::NotReady)?;
            Ok(Stack { services, tasks })
        })
    }

    /// The stack's services, by name.
    pub(super) fn services_now(&self) -> Result<Vec<Service>, DeployError> {
        let mut services = self.api.services(&self.stack_name()?).map_err(DeployError::NotReady)?;
        services.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(services)
    }

    /// The containers of the stack, whatever their state.
    pub(super) fn containers_now(&self) -> Result<Vec<Container>, DeployError> {
        let name = self.stack_name()?;
        steadily(|| self.api.containers(&name).map_err(DeployError::NotReady))
    }

    /// The containers that mount the volume `name`.
    pub(super) fn containers_with(&self, name: &str) -> Result<Vec<Container>, DeployError> {
        steadily(|| self.api.containers_with(name).map_err(DeployError::NotReady))
    }

    /// The volumes that bear the stack's label, by name.
    pub(super) fn volumes_now(&self) -> Result<Vec<VolumeInfo>, DeployError> {
        let mut volumes = self.api.volumes(&self.stack_name()?).map_err(DeployError::NotReady)?;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The names of all volumes of this node, whoever they belong to.
    pub(super) fn all_volumes(&self) -> Result<BTreeSet<String>, DeployError> {
        self.api.volume_names().map_err(DeployError::NotReady)
    }

    /// Names and ids of all secrets, or configs.
    pub(super) fn objects(&self, kind: Objects) -> Result<BTreeMap<String, String>, DeployError> {
        self.api.objects(kind).map_err(DeployError::NotReady)
    }

    /// The id of the image that is here under this name.
    pub(super) fn image(&self, name: &str) -> Result<Option<String>, DeployError> {
        Ok(self.api.image(name).map_err(DeployError::NotReady)?.map(|image| image.id))
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

    /// An act failed: was it docker's fault, or a fact about the app?
    pub(super) fn judge(&self, error: impl Into<anyhow::Error>) -> DeployError {
        let error = error.into();
        let timed_out =
            matches!(error.downcast_ref(), Some(CommandError::TimedOut { .. } | CommandError::Start { .. }));
        match self.ready() {
            Ok(_) if !timed_out => DeployError::Failed(error),
            Ok(_) => DeployError::NotReady(error),
            Err(DeployError::NotReady(why) | DeployError::Failed(why) | DeployError::Ours(why)) => {
                DeployError::NotReady(error.context(format!("{why:#}")))
            }
        }
    }
}

/// What vanishes while docker makes a list of it can make the list fail.
fn steadily<T>(mut ask: impl FnMut() -> Result<T, DeployError>) -> Result<T, DeployError> {
    let mut last = ask();
    for _ in 1..ATTEMPTS {
        if last.is_ok() {
            break;
        }
        last = ask();
    }
    last
}
