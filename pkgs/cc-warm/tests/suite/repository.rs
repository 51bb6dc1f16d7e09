//! Real git repositories, as recipes' authors make them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository with a work tree, in a folder of its own. Every method panics with git's words where git fails.
pub(crate) struct Repository {
    dir: tempfile::TempDir,
    commits: std::cell::Cell<u32>,
}

impl Repository {
    /// Without any commit.
    pub(crate) fn new() -> Self {
        let repository = Self { dir: tempfile::tempdir().unwrap(), commits: std::cell::Cell::new(0) };
        std::fs::create_dir(repository.path()).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// The recipe's folder, called `shop`: a remote by path.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("shop")
    }

    /// [`Repository::path`] as the configuration has it.
    pub(crate) fn remote(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// Runs git in it, with a fixed author and a clock that goes on a minute a commit.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let date = format!("{} +0000", 1_700_000_000 + 60 * self.commits.get());
        let output = Command::new("git")
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org"), ("GIT_AUTHOR_DATE", &*date)])
            .envs([
                ("GIT_COMMITTER_NAME", "a"),
                ("GIT_COMMITTER_EMAIL", "a@example.org"),
                ("GIT_COMMITTER_DATE", &*date),
            ])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file of the work tree.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Commits the work tree, changed or not; gives the commit.
    pub(crate) fn commit(&self) -> String {
        self.commits.set(self.commits.get() + 1);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits and tags, with a tag that is an object of its own, as Co-op Cloud wants it.
    pub(crate) fn publish(&self, version: &str) -> String {
        let commit = self.commit();
        self.git(&["tag", "--annotate", "--force", "--message", "a release", version]);
        commit
    }

    /// A bare copy, which can be damaged or made to hang.
    pub(crate) fn bare_copy(&self) -> PathBuf {
        let copy = self.dir.path().join("copy/shop.git");
        self.git(&["clone", "--quiet", "--bare", self.path().to_str().unwrap(), copy.to_str().unwrap()]);
        copy
    }
}

/// Every regular file and link below `root`, with its content or target, sorted.
pub(crate) fn listing(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                all.push((name, std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()));
            } else {
                all.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    all.sort();
    all
}
