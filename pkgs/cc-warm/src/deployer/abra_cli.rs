//! Every abra argv. Nothing is asked of an operator (`-n`), nothing fetched (`-o`), and what is deployed is what is
//! checked out (`-C`): the version is chosen by us, from our own mirror.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::docker_cli::surroundings;
use crate::sys::command::Program;

/// How long abra may take for anything. It waits for no convergence, and the images are here.
#[cfg(not(feature = "fault-points"))]
fn patience() -> Duration {
    Duration::from_mins(5)
}

/// Likewise, but a test need not wait that long.
#[cfg(feature = "fault-points")]
fn patience() -> Duration {
    let seconds = std::env::var("CC_WARM_TEST_ABRA_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(Duration::from_mins(5), Duration::from_secs)
}

/// Builds calls of abra for one app.
#[derive(Debug, Clone)]
pub struct Abra {
    /// `$ABRA_DIR`: private to the app.
    pub dir: PathBuf,
    /// `$DOCKER_CONFIG`.
    pub docker_config: Option<PathBuf>,
}

impl Abra {
    fn call(&self, words: &[&str]) -> Program {
        let program = surroundings(Program::new("abra"), self.docker_config.as_deref());
        // Where the stand-in of the tests looks for the faults that it shall have.
        #[cfg(feature = "fault-points")]
        let program = program.env_from_ours("ABRA_STANDIN_FAULTS");
        program.env("ABRA_DIR", &self.dir).args(words).cwd(&self.dir).deadline(patience())
    }

    /// Its version.
    #[must_use]
    pub fn version(folder: &Path) -> Program {
        surroundings(Program::new("abra"), None)
            .env("ABRA_DIR", folder)
            .arg("--version")
            .deadline(Duration::from_secs(20))
    }

    /// Makes the `.env` of an app from the recipe's `.env.sample`.
    #[must_use]
    pub fn new_app(&self, recipe: &str, domain: &str, server: &str) -> Program {
        let (domain, server) = (format!("--domain={domain}"), format!("--server={server}"));
        self.call(&["app", "new", recipe, "-n", "-o", "-C", &domain, &server])
    }

    /// Deploys what is checked out: also what is deployed already, and neither waiting for it nor asking DNS.
    #[must_use]
    pub fn deploy(&self, domain: &str) -> Program {
        self.call(&["app", "deploy", domain, "-n", "-o", "-f", "-C", "-c", "-D"])
    }

    /// Undeploys. Volumes and secrets stay.
    #[must_use]
    pub fn undeploy(&self, domain: &str) -> Program {
        // docker can do it without abra.
        self.call(&["app", "undeploy", domain, "-n", "-o"]).deadline(patience().min(Duration::from_mins(1)))
    }

    /// Generates one secret.
    #[must_use]
    pub fn generate_secret(&self, domain: &str, name: &str, version: &str) -> Program {
        self.call(&["app", "secret", "generate", domain, name, version, "-n", "-o", "-C"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_these_command_lines() {
        let abra = Abra { dir: "/a".into(), docker_config: None };
        let table = [
            (Abra::version(Path::new("/a")), "abra --version"),
            (
                abra.new_app("notes", "notes.test", "default"),
                "abra app new notes -n -o -C --domain=notes.test --server=default",
            ),
            (abra.deploy("notes.test"), "abra app deploy notes.test -n -o -f -C -c -D"),
            (abra.undeploy("notes.test"), "abra app undeploy notes.test -n -o"),
            (abra.generate_secret("notes.test", "db", "v1"), "abra app secret generate notes.test db v1 -n -o -C"),
        ];
        for (program, expected) in table {
            assert_eq!(program.display(), expected);
        }
    }
}
