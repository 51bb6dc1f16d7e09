//! The bare mirror of a remote: cache, except for the commits that are pinned because they run or can be gone back to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::published::Published;
use crate::identity::CommitId;
use crate::sys::clock::Deadline;
use crate::sys::git::{Files, Git};
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, fault, flock, random};

/// How long a remote may take to say what it has.
const ASK: Duration = Duration::from_mins(1);
/// How long it may take to send it.
const FETCH: Duration = Duration::from_mins(5);
/// For what touches only the disk.
const LOCAL: Duration = Duration::from_mins(1);
/// The most bytes that a recipe's tree may have.
const TREE_CAP: usize = 128 << 20;
/// The most bytes of a diff that are shown.
const DIFF_CAP: usize = 256 << 10;
/// Every tag, and nothing else: no branch and no fork is a version.
const TAGS: &str = "+refs/tags/*:refs/tags/*";

/// A mirror, which may not be there yet.
#[derive(Debug, Clone)]
pub struct Mirror {
    dir: PathBuf,
    remote: String,
    files: Files,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its path, relative, of plain components.
    pub path: PathBuf,
    /// What it is.
    pub mode: Mode,
    /// The object.
    pub id: CommitId,
    /// Its size in bytes.
    pub size: u64,
}

/// What a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A regular file.
    File,
    /// A regular file that may be run.
    Program,
    /// A symbolic link.
    Link,
    /// A commit of another repository.
    Submodule,
}

impl Mirror {
    /// The mirror of `remote` under `root`: its name, and a part of the remote's digest.
    #[must_use]
    pub fn at(root: &Path, remote: &str) -> Self {
        let name = remote.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
        let digest = blake3::hash(remote.as_bytes()).to_hex();
        let files =
            if remote.starts_with('/') || remote.starts_with("file://") { Files::Allowed } else { Files::Refused };
        Self { dir: root.join(format!("{name}-{}.git", &digest[..12])), remote: remote.to_owned(), files }
    }

    /// Asks the remote what it publishes now, and fetches what is new. An error leaves the mirror usable as it was.
    pub fn refresh(&self) -> Result<Published> {
        let asked = Git::new(None, "ls-remote", self.files)
            .values([self.remote.as_str(), "refs/tags/*"])
            .run(ASK)
            .with_context(|| format!("the remote `{}` does not answer", self.remote))?;
        let published = Published::parse(&asked.stdout);
        if self.tags().is_ok_and(|known| known == published) {
            return Ok(published);
        }
        let root = self.dir.parent().context("a mirror has a folder")?;
        durable::make_dir(root)?;
        let _lock = flock::take(&self.dir.with_extension("lock"), Deadline::after(FETCH))?;
        if self.dir.exists()
            && self.fetch_into(&self.dir).is_ok()
            && self.tags().is_ok_and(|tags| tags.versions == published.versions)
        {
            return Ok(published);
        }
        self.rebuild()?;
        self.tags()
    }

    /// What the mirror has, without asking the remote.
    pub fn tags(&self) -> Result<Published> {
        ensure!(self.dir.is_dir(), "the recipe was never fetched");
        // The form of ls-remote: a line for the tag, and for an annotated one a line for what it names.
        let format = "%(objectname)%09%(refname)%0a%(if)%(*objectname)%(then)%(*objectname)%09%(refname)^{}%(end)";
        let refs = Git::new(Some(&self.dir), "for-each-ref", self.files)
            .option(format!("--format={format}"))
            .words(&["refs/tags"])
            .run(LOCAL)?;
        Ok(Published::parse(&refs.stdout))
    }

    fn fetch_into(&self, dir: &Path) -> Result<()> {
        Git::new(Some(dir), "fetch", self.files)
            .words(&["--quiet", "--prune", "--no-tags", "--force", "--no-write-fetch-head", "--no-auto-maintenance"])
            .values([self.remote.as_str(), TAGS])
            .run(FETCH)
            .with_context(|| format!("the recipe could not be fetched from `{}`", self.remote))?;
        Ok(())
    }

    /// A new mirror beside the old one, and then in its place. Pinned commits are taken over where they can be read.
    fn rebuild(&self) -> Result<()> {
        let new = self.dir.with_extension(format!("new-{}", random::id()?));
        let made = self.build_at(&new);
        if made.is_err() {
            let _ = fs::remove_dir_all(&new);
            return made;
        }
        fault::point("recipe.mirror.replace")?;
        let old = self.dir.with_extension(format!("old-{}", random::id()?));
        if self.dir.exists() {
            durable::rename(&self.dir, &old)?;
        }
        durable::rename(&new, &self.dir)?;
        // Left-overs of any attempt: nobody else is here, the lock is ours.
        let prefix = self.dir.file_stem().map(|stem| format!("{}.", stem.to_string_lossy())).unwrap_or_default();
        for entry in fs::read_dir(self.dir.parent().unwrap_or(Path::new("/")))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with("old-") || rest.starts_with("new-")) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    fn build_at(&self, new: &Path) -> Result<()> {
        Git::new(None, "init", Files::Refused).words(&["--bare", "--quiet", "--template="]).values([new]).run(LOCAL)?;
        self.fetch_into(new)?;
        if self.dir.exists() {
            let pins = Git::new(Some(new), "fetch", Files::Allowed)
                .words(&["--quiet", "--no-tags", "--no-write-fetch-head"])
                .values(
                    [self.dir.as_os_str().as_bytes(), b"+refs/cc-warm/*:refs/cc-warm/*"]
                        .map(std::ffi::OsStr::from_bytes),
                )
                .run(FETCH);
            if let Err(error) = pins {
                tracing::warn!(mirror = %self.dir.display(), "a damaged mirror was rebuilt without its pins: {error}");
            }
        }
        rustix::fs::syncfs(File::open(new)?)?;
        Ok(())
    }

    /// Keeps `commit` in the mirror, even if its tag moves or vanishes.
    pub fn pin(&self, commit: &CommitId) -> Result<()> {
        Git::new(Some(&self.dir), "update-ref", self.files)
            .values([format!("refs/cc-warm/pin/{commit}"), commit.to_string()])
            .run(LOCAL)
            .with_context(|| format!("commit {} cannot be kept", commit.short()))?;
        Ok(())
    }

    /// Every entry of `commit`'s tree below `paths` (all of it, if there are none), submodules too.
    pub fn tree(&self, commit: &CommitId, paths: &[&str]) -> Result<Vec<TreeEntry>> {
        let listing = Git::new(Some(&self.dir), "ls-tree", self.files)
            .words(&["-r", "-l", "-z", "--full-tree"])
            .values(std::iter::once(commit.as_str()).chain(paths.iter().copied()))
            .run(LOCAL)
            .with_context(|| format!("commit {} cannot be read", commit.short()))?;
        listing.stdout.split(|&byte| byte == 0).filter(|line| !line.is_empty()).map(parse_entry).collect()
    }

    /// The contents of `ids`, in their order.
    pub fn objects(&self, ids: &[&CommitId]) -> Result<Vec<Vec<u8>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let answer = Git::new(Some(&self.dir), "cat-file", self.files)
            .words(&["--batch"])
            .stdin(asked)
            .cap(TREE_CAP)
            .run(LOCAL)?;
        let mut rest = answer.stdout.as_slice();
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let end = rest.iter().position(|&byte| byte == b'\n').context("git's answer ends early")?;
            let header = String::from_utf8_lossy(&rest[..end]);
            let size = header.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            let size =
                size.filter(|_| header.starts_with(id.as_str())).with_context(|| format!("object {id} is missing"))?;
            let content = rest.get(end + 1..end + 1 + size).context("the recipe is too large")?;
            all.push(content.to_vec());
            rest = rest.get(end + 2 + size..).unwrap_or_default();
        }
        Ok(all)
    }

    /// The regular file at `path` in `commit`, of at most `cap` bytes; `None` if there is none.
    pub fn blob(&self, commit: &CommitId, path: &str, cap: u64) -> Result<Option<Vec<u8>>> {
        let entries = self.tree(commit, &[path])?;
        let Some(entry) = entries.iter().find(|entry| entry.path == Path::new(path)) else { return Ok(None) };
        ensure!(matches!(entry.mode, Mode::File | Mode::Program), "`{path}` is not a regular file in the recipe");
        ensure!(entry.size <= cap, "`{path}` has {} bytes, more than {cap}", entry.size);
        Ok(self.objects(&[&entry.id])?.pop())
    }

    /// Writes `commit`'s tree to the new folder `dest`, durably and all or nothing: as the objects are, with no filter, no
    /// attribute and no line ending changed. Readable by all: the code is public, and its app runs as another user.
    pub fn export(&self, commit: &CommitId, dest: &Path) -> Result<()> {
        let entries = self.tree(commit, &[])?;
        let total: u64 = entries.iter().map(|entry| entry.size).sum();
        ensure!(total < TREE_CAP as u64 / 2, "the recipe has {total} bytes, which is too large");
        let ids: Vec<&CommitId> = entries.iter().map(|entry| &entry.id).collect();
        if entries.iter().any(|entry| entry.mode == Mode::Submodule) {
            bail!("the recipe has submodules, which are not fetched");
        }
        let contents = self.objects(&ids)?;
        let new = dest.with_extension(format!("new-{}", random::id()?));
        let write = || -> Result<()> {
            let mut made: BTreeSet<PathBuf> = BTreeSet::new();
            make_public_dir(&new)?;
            for (entry, content) in entries.iter().zip(&contents) {
                let mut folder = new.clone();
                for part in entry.path.parent().into_iter().flat_map(Path::components) {
                    folder.push(part);
                    if made.insert(folder.clone()) {
                        make_public_dir(&folder)?;
                    }
                }
                write_entry(&new.join(&entry.path), entry.mode, content)?;
            }
            rustix::fs::syncfs(File::open(&new)?)?;
            Ok(())
        };
        if let Err(error) = write() {
            let _ = fs::remove_dir_all(&new);
            return Err(error)
                .with_context(|| format!("commit {} cannot be written to `{}`", commit.short(), dest.display()));
        }
        durable::rename(&new, dest)
    }

    /// What differs from `from` to `to`, for people; cut off where it is long.
    pub fn diff(&self, from: &CommitId, to: &CommitId) -> Result<Untrusted> {
        let diff = Git::new(Some(&self.dir), "diff", self.files)
            .words(&["--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"])
            .cap(DIFF_CAP)
            .values([from.as_str(), to.as_str()])
            .run(LOCAL)?;
        let mut text = String::from_utf8_lossy(&diff.stdout).into_owned();
        if diff.stdout.len() >= DIFF_CAP {
            text.push_str("\n… and more\n");
        }
        Ok(Untrusted::new(text))
    }
}

fn parse_entry(line: &[u8]) -> Result<TreeEntry> {
    let tab = line.iter().position(|&byte| byte == b'\t').context("git's listing has no path")?;
    let head = String::from_utf8_lossy(&line[..tab]);
    let mut words = head.split_ascii_whitespace();
    let mode = match words.next() {
        Some("100644" | "100664") => Mode::File,
        Some("100755") => Mode::Program,
        Some("120000") => Mode::Link,
        Some("160000") => Mode::Submodule,
        other => bail!("git's listing has the mode {other:?}"),
    };
    let id = words.nth(1).unwrap_or_default().parse()?;
    let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&line[tab + 1..]));
    // git refuses such trees, too; what is written by them as root must not depend on that.
    let plain =
        path.components().all(|part| matches!(part, Component::Normal(name) if !name.eq_ignore_ascii_case(".git")));
    ensure!(plain, "the recipe has the path `{}`", Untrusted::new(path.to_string_lossy()).terminal());
    Ok(TreeEntry { path, mode, id, size })
}

fn make_public_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o755).create(path).with_context(|| format!("cannot make `{}`", path.display()))
}

fn write_entry(path: &Path, mode: Mode, content: &[u8]) -> Result<()> {
    let bits = match mode {
        Mode::File => 0o644,
        Mode::Program => 0o755,
        Mode::Link => return Ok(symlink(std::ffi::OsStr::from_bytes(content), path)?),
        Mode::Submodule => bail!("a submodule"),
    };
    // Never through a link: every name is new.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(bits).open(path)?;
    file.write_all(content)?;
    Ok(())
}
