//! What a mirror has: its refs, and the commits that they name in the end.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::mirror::{LOCAL, Mirror, TAGS_CAP};
use super::published::{Published, Tag};
use crate::identity::CommitId;
use crate::sys::git::{Git, Reach};

/// A ref of the mirror.
#[derive(Debug)]
pub(super) struct Ref {
    /// The object that it names.
    pub(super) id: CommitId,
    /// Whether that is a tag object.
    annotated: bool,
    names: Names,
}

/// What a ref names.
#[derive(Debug, PartialEq, Eq)]
enum Names {
    Commit(CommitId),
    /// A tag of a tag: to be followed to its end.
    Tag,
    /// A file or a folder.
    Other,
}

impl Mirror {
    pub(super) fn publishes(&self, refs: &BTreeMap<String, Ref>) -> Result<Published> {
        // A tag of a tag: rare, and to be followed to its end.
        let nested: Vec<&CommitId> =
            refs.values().filter(|found| found.names == Names::Tag).map(|found| &found.id).collect();
        let mut ends = self.peel(&nested)?.into_iter();
        Ok(Published::new(refs.iter().map(|(name, found)| Tag {
            name: name.clone(),
            commit: match &found.names {
                Names::Commit(commit) => Some(commit.clone()),
                Names::Tag => ends.next().flatten(),
                Names::Other => None,
            },
            annotated: found.annotated,
        })))
    }

    /// The refs below `prefix`, by what follows it.
    pub(super) fn refs(&self, prefix: &str) -> Result<BTreeMap<String, Ref>> {
        let git = Git::new(Some(self.dir()), "for-each-ref", &Reach::Nothing)
            .words(&["--format=%(objectname) %(objecttype) %(*objectname) %(*objecttype) %(refname)"])
            .values([prefix]);
        let listing = git.cap(TAGS_CAP + 1).run(LOCAL)?.stdout;
        ensure!(listing.len() <= TAGS_CAP, "the mirror has too many tags");
        let mut refs = BTreeMap::new();
        for line in listing.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            let [id, kind, inner, inner_kind, name] = words[..] else { bail!("git's list of refs cannot be read") };
            let id: CommitId = id.parse()?;
            let names = match (kind, inner_kind) {
                ("commit", _) => Names::Commit(id.clone()),
                ("tag", "commit") => Names::Commit(inner.parse()?),
                ("tag", "tag" | "") => Names::Tag,
                _ => Names::Other,
            };
            let name = name.strip_prefix(prefix).unwrap_or(name).trim_start_matches('/');
            refs.insert(name.to_owned(), Ref { id, annotated: kind == "tag", names });
        }
        Ok(refs)
    }

    /// The commit that each of `objects` names in the end: itself, or what a tag of tags names.
    pub(super) fn peel(&self, objects: &[&CommitId]) -> Result<Vec<Option<CommitId>>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let asked: String = objects.iter().map(|id| format!("{id}^{{commit}}\n")).collect();
        let git = Git::new(Some(self.dir()), "cat-file", &Reach::Nothing)
            .words(&["--batch-check=%(objectname) %(objecttype)"]);
        let answer = git.stdin(asked).cap(TAGS_CAP).run(LOCAL)?.stdout;
        let answer = String::from_utf8_lossy(&answer);
        let commits: Vec<_> =
            answer.lines().map(|line| line.strip_suffix(" commit").and_then(|id| id.parse().ok())).collect();
        ensure!(commits.len() == objects.len(), "git's answer ends early");
        Ok(commits)
    }
}
