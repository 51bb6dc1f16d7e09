//! Every docker argv: what changes something, and what the daemon's API ([`super::docker_api`]) cannot answer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::docker_api::Api;
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
    // The daemon that is asked, whatever context the user of docker has chosen.
    let mut program = program.env("HOME", home).env("LC_ALL", "C").env("DOCKER_HOST", Api::default().host());
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
