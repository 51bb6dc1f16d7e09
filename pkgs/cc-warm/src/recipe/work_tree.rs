//! A work tree of one commit, for a program that wants one. All of it comes from the mirror: nothing is fetched.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::mirror::{LOCAL, Mirror};
use crate::identity::CommitId;
use crate::sys::git::{Git, Reach, trust};
use crate::sys::{durable, fault};

/// The name that the commit has in the work tree's repository.
const TARGET: &str = "refs/cc-warm/target";

impl Mirror {
    /// Keeps `commit`, whose tag might vanish. Where it is kept already, nobody who holds the mirror is waited for.
    pub fn ensure_pinned(&self, commit: &CommitId) -> Result<()> {
        if self.pins().is_ok_and(|pins| pins.contains(commit)) { Ok(()) } else { self.pin(commit) }
    }

    /// Makes `dir` a work tree of exactly `commit`, with the mirror's tags: nothing unstaged, nothing untracked, HEAD
    /// detached. What was there before goes; a repository that cannot be used is made anew.
    pub fn check_out(&self, commit: &CommitId, dir: &Path) -> Result<()> {
        let check_out = || -> Result<()> {
            if self.check_out_into(commit, dir).is_ok() {
                return Ok(());
            }
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
                _ => self.check_out_into(commit, dir),
            }
        };
        check_out().with_context(|| format!("commit {} cannot be checked out at `{}`", commit.short(), dir.display()))
    }

    fn check_out_into(&self, commit: &CommitId, dir: &Path) -> Result<()> {
        fault::point("recipe.check-out")?;
        durable::make_dir(dir)?;
        if !dir.join(".git").is_dir() {
            Git::new(None, "init", &Reach::Nothing)
                .words(&["--quiet", "--template=", "--object-format=sha1"])
                .values([dir])
                .run(LOCAL)?;
        }
        // A lock that a killed git left: this folder is ours alone.
        for lock in ["index.lock", "HEAD.lock"] {
            durable::remove(&dir.join(".git").join(lock))?;
        }
        let trusted = self.dir().with_extension("local-trust");
        let wanted = trust(self.dir());
        if durable::read(&trusted)?.as_deref() != Some(&wanted) {
            durable::replace(&trusted, &wanted)?;
        }
        let mirror = self.dir().to_str().context("a path that is not UTF-8")?.to_owned();
        self.ensure_pinned(commit)?;
        Git::in_work_tree(dir, "fetch", &Reach::Path(trusted))
            .words(&["--quiet", "--force", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"])
            .words(&["--no-recurse-submodules", "--update-head-ok"])
            .values([mirror, "+refs/tags/*:refs/tags/*".to_owned(), format!("+refs/cc-warm/pin/{commit}:{TARGET}")])
            .run(LOCAL)?;
        Git::in_work_tree(dir, "checkout", &Reach::Nothing)
            .words(&["--quiet", "--force", "--detach", TARGET])
            .run(LOCAL)?;
        Git::in_work_tree(dir, "clean", &Reach::Nothing).words(&["--quiet", "-ffdx"]).run(LOCAL)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Deadline;
    use crate::sys::command::Program;

    fn git(dir: &Path, argv: &[&str]) -> String {
        let done = Program::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
            .args(argv)
            .cwd(dir)
            .run_ok()
            .unwrap();
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn goes_from_one_commit_to_another_whatever_was_left_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("recipe");
        fs::create_dir(&recipe).unwrap();
        git(&recipe, &["init", "--quiet"]);
        let mut commits: Vec<CommitId> = Vec::new();
        for (version, file) in [("1.0.0+1", "one"), ("1.1.0+1", "two")] {
            fs::write(recipe.join("compose.yml"), version).unwrap();
            fs::write(recipe.join(file), version).unwrap();
            git(&recipe, &["add", "."]);
            git(&recipe, &["commit", "--quiet", "-m", version]);
            git(&recipe, &["tag", "-a", "-m", version, version]);
            commits.push(git(&recipe, &["rev-parse", "HEAD"]).parse().unwrap());
        }
        let mirror = Mirror::at(&dir.path().join("mirrors"), recipe.to_str().unwrap());
        mirror.refresh(Deadline::after(LOCAL)).unwrap();
        let work = dir.path().join("abra/recipes/recipe");
        for commit in [&commits[1], &commits[0], &commits[1], &commits[0]] {
            mirror.check_out(commit, &work).unwrap();
            assert_eq!(git(&work, &["rev-parse", "HEAD"]), commit.as_str());
            assert_eq!(git(&work, &["status", "--porcelain"]), "");
            assert_eq!(work.join("two").exists(), *commit == commits[1]);
            // Untracked in the one, a file of the other; a change; a lock; another lock of a killed git.
            fs::write(work.join("two"), "in the way").unwrap();
            fs::write(work.join("compose.yml"), "changed").unwrap();
            fs::write(work.join(".git/index.lock"), "").unwrap();
        }
        assert_eq!(git(&work, &["tag"]), "1.0.0+1\n1.1.0+1");
        fs::write(work.join(".git/HEAD"), "nonsense").unwrap();
        mirror.check_out(&commits[0], &work).unwrap();
        assert_eq!(git(&work, &["rev-parse", "HEAD"]), commits[0].as_str());
    }
}
