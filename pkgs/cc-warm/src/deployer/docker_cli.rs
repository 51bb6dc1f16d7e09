//! Every docker argv. docker is asked as a person would ask it, in JSON where it has that; what it says is understood
//! in [`super::swarm`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lock::AppLock;
use crate::sys::command::Program;

/// The label by which everything of a stack is found.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";
/// How long docker has to answer a question.
pub const QUESTION: Duration = Duration::from_secs(30);
/// How long one image may take to arrive.
const PULL: Duration = Duration::from_mins(30);
/// How long an image that is here already may be looked for elsewhere.
const PULL_AGAIN: Duration = Duration::from_mins(5);
/// What of our environment the programs get. The rest is built from empty.
const PASSED_ON: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CONTEXT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
];

/// Builds calls of docker.
#[derive(Debug, Clone, Default)]
pub struct Docker {
    /// `$DOCKER_CONFIG`: where the logins for registries are; `None`: ours, or docker's default.
    pub config: Option<PathBuf>,
}

/// `program` with the environment that docker and abra have in common.
pub(super) fn surroundings(program: Program, config: Option<&Path>) -> Program {
    let home = std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/root"));
    let mut program = program.env("HOME", home).env("LC_ALL", "C");
    for key in PASSED_ON {
        program = program.env_from_ours(key);
    }
    match config {
        Some(folder) => program.env("DOCKER_CONFIG", folder),
        None => program.env_from_ours("DOCKER_CONFIG"),
    }
}

/// A program that changes the app keeps its lock for as long as it lives.
pub(super) fn holding(program: Program, lock: &AppLock) -> std::io::Result<Program> {
    program.inherit(lock)
}

impl Docker {
    fn call<S: AsRef<std::ffi::OsStr>>(&self, words: &[&str], values: impl IntoIterator<Item = S>) -> Program {
        surroundings(Program::new("docker"), self.config.as_deref()).args(words).args(values).deadline(QUESTION)
    }

    fn none() -> [&'static str; 0] {
        []
    }

    /// The program's own version.
    #[must_use]
    pub fn version(&self) -> Program {
        self.call(&["--version"], Self::none())
    }

    /// The daemon, and its part in a swarm.
    #[must_use]
    pub fn info(&self) -> Program {
        self.call(&["info", "--format", "{{json .}}"], Self::none())
    }

    /// This node, as the swarm sees it.
    #[must_use]
    pub fn this_node(&self) -> Program {
        self.call(&["node", "inspect", "self"], Self::none())
    }

    /// The ids of a stack's services.
    #[must_use]
    pub fn services(&self, stack: &str) -> Program {
        self.call(&["service", "ls", "--quiet", "--filter"], [of_stack(stack)])
    }

    /// The ids of all tasks, dead ones too, of these services.
    #[must_use]
    pub fn tasks(&self, services: &[String]) -> Program {
        self.call(&["service", "ps", "--quiet", "--no-trunc"], services)
    }

    /// Services, tasks, volumes, images, containers: all of them, or an error.
    #[must_use]
    pub fn inspect(&self, kind: Kind, ids: &[String]) -> Program {
        self.call(&["inspect", "--type", kind.as_str()], ids)
    }

    /// The ids of a stack's containers, those that ended too.
    #[must_use]
    pub fn containers(&self, stack: &str) -> Program {
        self.call(&["ps", "--all", "--quiet", "--no-trunc", "--filter"], [of_stack(stack)])
    }

    /// The ids of all containers that mount the volume `name`, in whatever state.
    #[must_use]
    pub fn containers_with(&self, name: &str) -> Program {
        self.call(&["ps", "--all", "--quiet", "--no-trunc", "--filter"], [format!("volume={name}")])
    }

    /// The names of a stack's networks.
    #[must_use]
    pub fn networks(&self, stack: &str) -> Program {
        self.call(&["network", "ls", "--format", "{{.Name}}", "--filter"], [of_stack(stack)])
    }

    /// The names of a stack's volumes.
    #[must_use]
    pub fn volumes(&self, stack: &str) -> Program {
        self.call(&["volume", "ls", "--quiet", "--filter"], [of_stack(stack)])
    }

    /// Ids and names of all secrets, a line each.
    #[must_use]
    pub fn secrets(&self) -> Program {
        self.call(&["secret", "ls", "--format", "{{.ID}} {{.Name}}"], Self::none())
    }

    /// Ids and names of all configs, a line each.
    #[must_use]
    pub fn configs(&self) -> Program {
        self.call(&["config", "ls", "--format", "{{.ID}} {{.Name}}"], Self::none())
    }

    /// What the compose files come to, with the variables that the call gets. Touches nothing.
    #[must_use]
    pub fn rendered(&self, files: &[PathBuf]) -> Program {
        let words: Vec<OsString> =
            files.iter().flat_map(|file| [OsString::from("--compose-file"), file.clone().into()]).collect();
        self.call(&["stack", "config"], words)
    }

    /// Brings an image here; `again`: it is here, but may have changed.
    #[must_use]
    pub fn pull(&self, image: &str, again: bool) -> Program {
        self.call(&["pull", "--quiet", "--"], [image]).deadline(if again { PULL_AGAIN } else { PULL })
    }

    /// Gives an image another name.
    #[must_use]
    pub fn tag(&self, image: &str, name: &str) -> Program {
        self.call(&["image", "tag", "--"], [image, name])
    }

    /// Takes a name from an image.
    #[must_use]
    pub fn untag(&self, name: &str) -> Program {
        self.call(&["image", "rm", "--no-prune", "--"], [name])
    }

    /// The names that we gave to images of an app.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Program {
        self.call(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--"], [repository])
    }

    /// Waits until these containers have ended, and says how each did.
    #[must_use]
    pub fn wait(&self, containers: &[String], deadline: Duration) -> Program {
        self.call(&["wait"], containers).deadline(deadline)
    }

    /// Removes a stack: services, networks, configs; volumes stay.
    #[must_use]
    pub fn remove_stack(&self, stack: &str) -> Program {
        self.call(&["stack", "rm", "--detach=true", "--"], [stack]).deadline(Duration::from_mins(1))
    }

    /// Removes one service.
    #[must_use]
    pub fn remove_service(&self, id: &str) -> Program {
        self.call(&["service", "rm", "--"], [id])
    }

    /// Makes an empty volume.
    #[must_use]
    pub fn create_volume(&self, name: &str, labels: &[(String, String)], options: &[(String, String)]) -> Program {
        let pair = |(key, value): &(String, String)| format!("{key}={value}");
        let mut words: Vec<String> = Vec::new();
        words.extend(labels.iter().flat_map(|label| ["--label".to_owned(), pair(label)]));
        words.extend(options.iter().flat_map(|option| ["--opt".to_owned(), pair(option)]));
        self.call(&["volume", "create", "--driver", "local"], words).args(["--", name])
    }

    /// Removes a volume.
    #[must_use]
    pub fn remove_volume(&self, name: &str) -> Program {
        self.call(&["volume", "rm", "--"], [name])
    }

    /// The last lines of a service's output.
    #[must_use]
    pub fn logs(&self, service: &str) -> Program {
        self.call(&["service", "logs", "--raw", "--tail", "15", "--"], [service])
            .deadline(Duration::from_secs(10))
            .cap(64 << 10)
    }
}

fn of_stack(stack: &str) -> String {
    format!("label={STACK_LABEL}={stack}")
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Services of the swarm.
    Service,
    /// Their tasks.
    Task,
    /// Volumes of this node.
    Volume,
    /// Images of this node.
    Image,
    /// Containers of this node.
    Container,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Task => "task",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Container => "container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_these_command_lines() {
        let docker = Docker::default();
        let ids = ["a".to_owned(), "b".to_owned()];
        let label = [("k".to_owned(), "v".to_owned())];
        let size = [("size".to_owned(), "1g".to_owned())];
        let table = [
            (docker.version(), "docker --version"),
            (docker.info(), "docker info --format {{json .}}"),
            (docker.this_node(), "docker node inspect self"),
            (docker.services("s"), "docker service ls --quiet --filter label=com.docker.stack.namespace=s"),
            (docker.tasks(&ids), "docker service ps --quiet --no-trunc a b"),
            (docker.inspect(Kind::Service, &ids), "docker inspect --type service a b"),
            (docker.inspect(Kind::Task, &ids), "docker inspect --type task a b"),
            (docker.inspect(Kind::Volume, &ids), "docker inspect --type volume a b"),
            (docker.inspect(Kind::Image, &ids), "docker inspect --type image a b"),
            (docker.inspect(Kind::Container, &ids), "docker inspect --type container a b"),
            (docker.containers("s"), "docker ps --all --quiet --no-trunc --filter label=com.docker.stack.namespace=s"),
            (docker.containers_with("v"), "docker ps --all --quiet --no-trunc --filter volume=v"),
            (docker.networks("s"), "docker network ls --format {{.Name}} --filter label=com.docker.stack.namespace=s"),
            (docker.volumes("s"), "docker volume ls --quiet --filter label=com.docker.stack.namespace=s"),
            (docker.secrets(), "docker secret ls --format {{.ID}} {{.Name}}"),
            (docker.configs(), "docker config ls --format {{.ID}} {{.Name}}"),
            (
                docker.rendered(&["/r/a.yml".into(), "/r/b.yml".into()]),
                "docker stack config --compose-file /r/a.yml --compose-file /r/b.yml",
            ),
            (docker.pull("i:1", false), "docker pull --quiet -- i:1"),
            (docker.tag("sha256:1", "n:1"), "docker image tag -- sha256:1 n:1"),
            (docker.untag("n:1"), "docker image rm --no-prune -- n:1"),
            (docker.tags("n"), "docker image ls --format {{.Repository}}:{{.Tag}} -- n"),
            (docker.wait(&ids, QUESTION), "docker wait a b"),
            (docker.remove_stack("s"), "docker stack rm --detach=true -- s"),
            (docker.remove_service("a"), "docker service rm -- a"),
            (
                docker.create_volume("v", &label, &size),
                "docker volume create --driver local --label k=v --opt size=1g -- v",
            ),
            (docker.remove_volume("v"), "docker volume rm -- v"),
            (docker.logs("s_app"), "docker service logs --raw --tail 15 -- s_app"),
        ];
        for (program, expected) in table {
            assert_eq!(program.display(), expected);
        }
    }
}
