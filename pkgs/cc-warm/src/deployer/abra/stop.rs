//! Undeploying, until nothing is left: `docker stack rm` is done long before its tasks and networks are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::AbraDeployer;
use super::folder::{Mark, ServiceMark};
use crate::deployer::{DeployError, Known, Stopped};
use crate::lock::AppLock;
use crate::sys::clock::Deadline;
use crate::sys::command::Program;
use crate::sys::{fault, procfs};

/// How often it is asked what is left.
const PAUSE: Duration = Duration::from_millis(200);
/// What abra could not remove within this is removed by docker alone.
const PATIENCE: Duration = Duration::from_secs(20);
/// The exit code of a container that had to be killed.
const KILLED: &str = "137";
/// How a service is named among what is left.
const SERVICE: &str = "service ";

impl AbraDeployer<'_> {
    pub(super) fn take_down(&self, lock: &AppLock, deadline: Deadline) -> Result<Stopped, DeployError> {
        self.ready()?;
        if self.left()?.is_empty() {
            self.forget_what_is_gone()?;
            return Ok(Stopped::WasDown);
        }
        self.note_stopping()?;
        fault::point("abra.stop").map_err(DeployError::failed)?;
        let stack = self.stack_name()?;
        let containers = self.containers_now()?;
        let running: Vec<String> = containers.iter().filter(|c| c.state == "running").map(|c| c.id.clone()).collect();
        let endings = self.docker.wait(&running, deadline.left());
        let ended = std::thread::scope(|scope| {
            // Once they are gone, nobody knows any more how they ended.
            let waiting = (!running.is_empty()).then(|| scope.spawn(|| endings.run()));
            let removed = self.remove(&stack, lock, deadline);
            let endings = waiting.and_then(|waiting| waiting.join().ok()).and_then(Result::ok);
            removed.map(|()| endings)
        })?;
        self.forget_what_is_gone()?;
        let Some(ended) = ended else { return Ok(Stopped::WasDown) };
        let codes = String::from_utf8_lossy(&ended.stdout).into_owned();
        let killed = codes.lines().any(|code| code.trim() == KILLED);
        // Without an answer for each, the worst is assumed.
        let all = codes.lines().filter(|line| !line.trim().is_empty()).count() >= running.len();
        Ok(if killed || !all { Stopped::Killed } else { Stopped::Clean })
    }

    /// Nothing is under way any more that could be told by its label alone, nor is a stop.
    fn forget_what_is_gone(&self) -> Result<(), DeployError> {
        let mut record = self.folder.read_record().map_err(DeployError::Ours)?;
        let (was_under_way, stopping) = (record.under_way.take().is_some(), std::mem::take(&mut record.stopping));
        if !was_under_way && !stopping {
            return Ok(());
        }
        match self.folder.write_record(&record) {
            // A stop that succeeded is none that failed for a note that nothing depends on.
            Err(error) if !was_under_way => {
                tracing::warn!(app = %self.app.name, "its record still says that it is being stopped: {error:#}");
                Ok(())
            }
            other => other.map_err(DeployError::Ours),
        }
    }

    /// Writes down what is taken down, whoever deployed it: of what a stop that is cut short leaves, nobody could tell.
    fn note_stopping(&self) -> Result<(), DeployError> {
        let services = self.services_now()?;
        let mut record = self.folder.read_record().map_err(DeployError::Failed)?;
        if record.is_still(&services).is_none() && record.is_rest(&services).is_none() {
            let Known::Yes(identity) = self.identify(&services, &record)? else { return Ok(()) };
            if record.under_way.is_none() {
                let mark = |(id, mark)| (id, ServiceMark { mark, before: None });
                let services = record.marks(&services).into_iter().map(mark).collect();
                record.deployed = Some(Mark { identity, from: None, at: self.clock.now(), services });
            }
        }
        record.stopping = true;
        if let Err(error) = self.folder.write_record(&record) {
            // On a full disk, too, an app must be stoppable.
            tracing::warn!(app = %self.app.name, "what is stopped cannot be noted: {error:#}");
        }
        Ok(())
    }

    fn remove(&self, stack: &str, lock: &AppLock, deadline: Deadline) -> Result<(), DeployError> {
        if !self.services_now()?.is_empty() && self.folder.recipe(&self.app.recipe).join(".git").is_dir() {
            // Whether it worked is seen below; what it could not do, docker does.
            if let Err(error) = self.act(self.abra.undeploy(self.domain()), lock) {
                tracing::warn!(app = %self.app.name, "abra did not undeploy it: {error:#}");
            }
        }
        let mut again = Instant::now();
        let mut first = true;
        loop {
            let left = self.left()?;
            if left.is_empty() {
                return Ok(());
            }
            if deadline.is_over() {
                return Err(DeployError::Failed(anyhow!("it was undeployed, but this is left: {}", left.join(", "))));
            }
            let has_services = left.iter().any(|what| what.starts_with(SERVICE));
            if (first && has_services) || again.elapsed() > PATIENCE {
                if let Err(error) = self.act(self.docker.remove_stack(stack), lock) {
                    tracing::warn!(app = %self.app.name, "docker did not remove the stack: {error:#}");
                }
                again = Instant::now();
            }
            first = false;
            std::thread::sleep(PAUSE.min(deadline.left()));
        }
    }

    /// What of the app exists, in words. Only after [`AbraDeployer::ready`].
    pub(super) fn left(&self) -> Result<Vec<String>, DeployError> {
        let stack = self.stack_name()?;
        let mut left: Vec<String> = Vec::new();
        left.extend(self.services_now()?.iter().map(|service| format!("{SERVICE}{}", service.name())));
        for container in self.containers_now()? {
            left.push(format!("container {} ({})", container.name(), container.state));
        }
        let networks = self.api.networks(&stack).map_err(DeployError::NotReady)?;
        left.extend(networks.into_iter().map(|name| format!("network {name}")));
        Ok(left)
    }

    /// Whoever uses a volume of the app and is not of the app, in words. Only after [`AbraDeployer::ready`].
    pub(super) fn strangers(&self) -> Result<Vec<String>, DeployError> {
        let own: BTreeSet<String> = self.containers_now()?.into_iter().map(|container| container.id).collect();
        let mut strangers: Vec<String> = Vec::new();
        let mut contained = own.clone();
        let mut data: Vec<PathBuf> = Vec::new();
        for volume in self.volumes_now()? {
            for container in self.containers_with(&volume.name)? {
                if container.is_alive() && contained.insert(container.id.clone()) {
                    let (name, state) = (container.name(), &container.state);
                    strangers.push(format!("container {name} ({state}), which mounts {}", volume.name));
                }
            }
            data.push(PathBuf::from(volume.mountpoint));
        }
        // Where a container is named, its processes need no naming; docker has its id in the cgroup's path.
        let is_known = |pid: i32| {
            let cgroup = procfs::cgroup(pid);
            contained.iter().any(|id| cgroup.contains(id.as_str()))
        };
        strangers.extend(procfs::users_except(&data, &is_known));
        Ok(strangers)
    }

    /// Runs a program of docker's that changes the app.
    pub(super) fn change(&self, program: Program, lock: &AppLock) -> Result<(), DeployError> {
        self.act(program, lock).map_err(|error| self.judge(error))
    }
}
