//! What lies in a mirror: trees, files, differences. Read as git objects, never through a work tree, so that no filter,
//! attribute, hook or link has a say.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::mirror::{LOCAL, Mirror};
use super::version::Version;
use crate::identity::CommitId;
use crate::sys::git::{Git, Reach};
use crate::sys::untrusted::Untrusted;
use crate::sys::{durable, fault};

/// The most bytes that one question may be answered with: a recipe's tree, all its notes.
const ANSWER_CAP: usize = 128 << 20;
/// The most bytes that a recipe's files may have together.
const TREE_CAP: u64 = 64 << 20;
/// The most bytes of a diff that are shown.
const DIFF_CAP: usize = 256 << 10;

/// The id of any git object; commits are one kind.
pub type ObjectId = CommitId;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its path, relative, of plain components.
    pub path: PathBuf,
    /// What it is.
    pub mode: Mode,
    /// The object.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

/// What a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A regular file.
    File,
    /// A regular file that may be run.
    Program,
    /// A symbolic link.
    Link,
    /// A commit of another repository.
    Submodule,
    /// A folder; never in the listing of a whole tree.
    Folder,
}

impl Mode {
    /// From the octal digits that git writes.
    pub(super) fn parse(octal: &str) -> Result<Self> {
        Ok(match octal {
            "100755" | "100775" => Self::Program,
            file if file.starts_with("100") => Self::File,
            "120000" => Self::Link,
            "160000" => Self::Submodule,
            "40000" | "040000" => Self::Folder,
            other => bail!("git's listing has the mode `{}`", Untrusted::new(other).terminal()),
        })
    }

    /// Whether it has content of its own.
    #[must_use]
    pub fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Program)
    }
}

impl Mirror {
    /// Every entry of `commit`'s tree below `paths` (all of it, if there are none), submodules too.
    pub fn tree(&self, commit: &CommitId, paths: &[&str]) -> Result<Vec<TreeEntry>> {
        let git = self.git("ls-tree").words(&["-r", "-l", "-z", "--full-tree"]);
        let listing = self
            .look(git.values(std::iter::once(commit.as_str()).chain(paths.iter().copied())))
            .with_context(|| format!("commit {} cannot be read", commit.short()))?;
        listing.split(|&byte| byte == 0).filter(|line| !line.is_empty()).map(parse_entry).collect()
    }

    /// The contents of `ids`, in their order.
    pub fn objects(&self, ids: &[&ObjectId]) -> Result<Vec<Vec<u8>>> {
        let found = self.batch(ids)?;
        ids.iter().zip(found).map(|(id, found)| found.with_context(|| format!("object {id} is missing"))).collect()
    }

    /// Contents in the order of `asked`, which are ids or `<commit>^{tree}`; `None` where there is no such object.
    pub(super) fn batch<S: std::fmt::Display>(&self, asked: &[S]) -> Result<Vec<Option<Vec<u8>>>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.look(self.git("cat-file").words(&["--batch"]).stdin(lines(asked)))?;
        let mut rest = answer.as_slice();
        let mut all = Vec::with_capacity(asked.len());
        for _ in asked {
            let end = rest.iter().position(|&byte| byte == b'\n').context("git's answer ends early")?;
            let header = String::from_utf8_lossy(&rest[..end]);
            if header.ends_with(" missing") {
                all.push(None);
                rest = &rest[end + 1..];
                continue;
            }
            let size: usize = header.rsplit(' ').next().and_then(|size| size.parse().ok()).context("no size")?;
            let content = rest.get(end + 1..end + 1 + size).context("git's answer ends early")?;
            all.push(Some(content.to_vec()));
            rest = rest.get(end + 2 + size..).unwrap_or_default();
        }
        Ok(all)
    }

    /// The sizes of `ids`, in their order; `None` where there is no such object.
    pub(super) fn sizes(&self, ids: &[&ObjectId]) -> Result<Vec<Option<u64>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.look(self.git("cat-file").words(&["--batch-check=%(objectsize)"]).stdin(lines(ids)))?;
        let answer = String::from_utf8_lossy(&answer);
        let sizes: Vec<Option<u64>> = answer.lines().map(|line| line.parse().ok()).collect();
        ensure!(sizes.len() == ids.len(), "git's answer ends early");
        Ok(sizes)
    }

    /// The regular files at `paths` in `commit`, in their order, each of at most `cap` bytes; `None` where there is nothing.
    pub fn blobs(&self, commit: &CommitId, paths: &[&str], cap: u64) -> Result<Vec<Option<Vec<u8>>>> {
        let entries = self.tree(commit, paths)?;
        let mut found = Vec::with_capacity(paths.len());
        for &path in paths {
            let entry = entries.iter().find(|entry| entry.path == Path::new(path));
            let is_file = entry.map_or_else(
                // What is listed below it says that it is a folder.
                || !entries.iter().any(|entry| entry.path.starts_with(path)),
                |entry| entry.mode.is_file(),
            );
            ensure!(is_file, "`{path}` is not a regular file in the recipe");
            if let Some(entry) = entry {
                ensure!(entry.size <= cap, "`{path}` has {} bytes, more than {cap}", entry.size);
            }
            found.push(entry);
        }
        let ids: Vec<&ObjectId> = found.iter().flatten().map(|entry| &entry.id).collect();
        let mut contents = self.objects(&ids)?.into_iter();
        Ok(found.into_iter().map(|entry| entry.and_then(|_| contents.next())).collect())
    }

    /// The commit that the tag of `version` names in the mirror; `None` if there is no such tag.
    pub fn commit_of(&self, version: &Version) -> Result<Option<CommitId>> {
        Ok(self.published_offline()?.versions.get(version).map(|published| published.commit.clone()))
    }

    /// Whether `commit` is in the mirror.
    pub fn has(&self, commit: &CommitId) -> Result<bool> {
        let asked = format!("{commit}^{{commit}}\n");
        let answer = self.look(self.git("cat-file").words(&["--batch-check=%(objecttype)"]).stdin(asked))?;
        Ok(answer == b"commit\n")
    }

    /// Writes `commit`'s tree to the new folder `dest`, durably and all or nothing: as the objects are, with no filter, no
    /// attribute and no line ending changed. Readable by all: the code is public, and its app runs as another user.
    pub fn export(&self, commit: &CommitId, dest: &Path) -> Result<()> {
        let entries = self.tree(commit, &[])?;
        let total: u64 = entries.iter().map(|entry| entry.size).sum();
        ensure!(total <= TREE_CAP, "the recipe has {total} bytes, more than {TREE_CAP}");
        if let Some(module) = entries.iter().find(|entry| entry.mode == Mode::Submodule) {
            let path = Untrusted::new(module.path.to_string_lossy()).terminal();
            bail!("the recipe has a submodule at `{path}`; submodules are not fetched");
        }
        let ids: Vec<&ObjectId> = entries.iter().map(|entry| &entry.id).collect();
        let contents = self.objects(&ids)?;
        let write = || -> Result<()> {
            let parent = dest.parent().context("no folder above it")?;
            ensure!(fs::symlink_metadata(dest).is_err(), "it exists");
            let new = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
            write_tree(new.path(), &entries, &contents)?;
            rustix::fs::syncfs(File::open(new.path())?)?;
            fault::point("recipe.export.rename")?;
            durable::rename(new.path(), dest)?;
            // Nothing is left under the temporary name.
            let _ = new.keep();
            Ok(())
        };
        write().with_context(|| format!("commit {} cannot be written to `{}`", commit.short(), dest.display()))
    }

    /// What differs from `from` to `to`, for people; cut off where it is long.
    pub fn diff(&self, from: &CommitId, to: &CommitId) -> Result<Untrusted> {
        let git = self.git("diff").words(&["--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"]);
        let diff = git.values([from.as_str(), to.as_str()]).cap(DIFF_CAP + 1).run(LOCAL);
        let diff = diff.map_err(|error| self.suspect(error.into()))?.stdout;
        let mut text = String::from_utf8_lossy(&diff[..diff.len().min(DIFF_CAP)]).into_owned();
        if diff.len() > DIFF_CAP {
            text.push_str("\n… and more\n");
        }
        Ok(Untrusted::new(text))
    }

    fn git(&self, subcommand: &str) -> Git {
        Git::new(Some(self.dir()), subcommand, &Reach::Nothing)
    }

    /// Runs what only reads this mirror. Where it fails, the mirror is looked at.
    fn look(&self, git: Git) -> Result<Vec<u8>> {
        ensure!(self.dir().is_dir(), "the recipe was never fetched");
        let answer = git.cap(ANSWER_CAP + 1).run(LOCAL).map_err(|error| self.suspect(error.into()))?.stdout;
        ensure!(answer.len() <= ANSWER_CAP, "the recipe is too large");
        Ok(answer)
    }
}

fn lines<S: std::fmt::Display>(asked: &[S]) -> String {
    use std::fmt::Write;
    asked.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

fn parse_entry(line: &[u8]) -> Result<TreeEntry> {
    let tab = line.iter().position(|&byte| byte == b'\t').context("git's listing has no path")?;
    let head = String::from_utf8_lossy(&line[..tab]);
    let mut words = head.split_ascii_whitespace();
    let mode = Mode::parse(words.next().unwrap_or_default())?;
    let id = words.nth(1).unwrap_or_default().parse()?;
    let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let path = PathBuf::from(OsStr::from_bytes(&line[tab + 1..]));
    // git refuses such trees, too; what is written by them as root must not depend on that.
    let plain =
        path.components().all(|part| matches!(part, Component::Normal(name) if !name.eq_ignore_ascii_case(".git")));
    ensure!(plain, "the recipe has the path `{}`", Untrusted::new(path.to_string_lossy()).terminal());
    Ok(TreeEntry { path, mode, id, size })
}

/// Every name is new, so nothing is ever written through a link that the tree itself brings.
fn write_tree(root: &Path, entries: &[TreeEntry], contents: &[Vec<u8>]) -> Result<()> {
    let public = || Permissions::from_mode(0o755);
    let mut made: BTreeSet<PathBuf> = BTreeSet::new();
    for (entry, content) in entries.iter().zip(contents) {
        let mut folder = root.to_owned();
        for part in entry.path.parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if made.insert(folder.clone()) {
                fs::create_dir(&folder)?;
                fs::set_permissions(&folder, public())?;
            }
        }
        let path = root.join(&entry.path);
        if entry.mode == Mode::Link {
            symlink(OsStr::from_bytes(content), &path)?;
            continue;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(if entry.mode == Mode::Program { 0o755 } else { 0o644 }))?;
    }
    fs::set_permissions(root, public())?;
    Ok(())
}
