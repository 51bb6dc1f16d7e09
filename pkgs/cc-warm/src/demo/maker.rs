//! The maintainer's side of the demo: a local git repository that publishes versions of a recipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys::command::Program;

/// A recipe's repository, and the working copy that its maintainer commits from.
#[derive(Debug)]
pub struct Maker {
    dir: PathBuf,
}

/// How a published version behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It works.
    Healthy,
    /// It starts, migrates its data, and answers every request with 500.
    Broken,
    /// It migrates its data, and ends.
    Dies,
}

/// One version to publish.
#[derive(Debug, Clone)]
pub struct Release<'a> {
    /// `<x.y.z>+<upstream>`.
    pub version: &'a str,
    /// The format that its data has: an older program refuses newer data.
    pub format: u32,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Its release note, if it has one.
    pub note: Option<&'a str>,
}

impl Maker {
    /// An empty recipe in the new folder `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let maker = Self { dir: dir.to_owned() };
        maker.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(maker)
    }

    /// Where it is: the recipe's remote.
    #[must_use]
    pub fn remote(&self) -> &Path {
        &self.dir
    }

    /// Commits and tags one version.
    pub fn publish(&self, release: &Release<'_>) -> Result<()> {
        let behaviour = match release.behaviour {
            Behaviour::Healthy => "healthy",
            Behaviour::Broken => "broken",
            Behaviour::Dies => "dies",
        };
        self.write(
            "Procfile",
            &format!(
                "web: ${{CC_WARM_PROGRAM}} demo-app --release {} --format {} --behaviour {behaviour}\n",
                release.version, release.format
            ),
        )?;
        self.write("Volumes", "data: DATA_DIR\n")?;
        self.write(".env.sample", "# the port that it listens on\nPORT=\nCC_WARM_PROGRAM=\n")?;
        if let Some(note) = release.note {
            self.write(&format!("release/{}", release.version), note)?;
        }
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", release.version])?;
        self.git(&["tag", "--annotate", "--message", "release", release.version])
    }

    /// Writes a file of the working copy.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Runs git in the working copy, as a maintainer with no configuration.
    pub fn git(&self, words: &[&str]) -> Result<()> {
        let mut program = Program::new("git")
            .args(words)
            .cwd(&self.dir)
            .deadline(Duration::from_mins(1))
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            program = program
                .env(format!("GIT_{who}_NAME"), "A maintainer")
                .env(format!("GIT_{who}_EMAIL"), "maintainer@example.org");
        }
        program.run_ok()?;
        Ok(())
    }
}
