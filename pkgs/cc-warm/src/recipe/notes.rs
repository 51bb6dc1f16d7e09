//! Release notes: what `release/<version>` and `releaseNotes/<version>.md` say of every version on the way. Read as git
//! objects, never through a work tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::mirror::{Mirror, Mode, TreeEntry};
use super::version::Version;
use crate::identity::CommitId;
use crate::sys::untrusted::Untrusted;

/// A longer note is unreadable, and holds.
pub const NOTE_CAP: u64 = 64 << 10;

/// The note of one version, in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The version that it is about.
    pub version: Version,
    /// Where it lies in the recipe.
    pub path: String,
    /// What it says; or why it cannot be read.
    pub text: Result<Untrusted, String>,
}

/// The notes of `versions`, each as its own tag has it and as `target` has it, for maintainers add to notes later; the same
/// text once. In the order of versions.
pub fn read(mirror: &Mirror, versions: &BTreeMap<Version, CommitId>, target: &CommitId) -> Result<Vec<Note>> {
    let commits: BTreeSet<&CommitId> = versions.values().chain([target]).collect();
    let mut trees: BTreeMap<&CommitId, Vec<TreeEntry>> = BTreeMap::new();
    for commit in commits {
        trees.insert(commit, mirror.tree(commit, &["release", "releaseNotes"])?);
    }
    let mut found: Vec<(Version, String, &TreeEntry)> = Vec::new();
    for (version, own) in versions {
        for path in paths(version) {
            for commit in [own, target] {
                let entry = trees.get(commit).into_iter().flatten().find(|entry| entry.path == Path::new(&path));
                let Some(entry) = entry else { continue };
                if !found
                    .iter()
                    .any(|(_, known, other)| *known == path && other.id == entry.id && other.mode == entry.mode)
                {
                    found.push((version.clone(), path.clone(), entry));
                }
            }
        }
    }
    let readable = |entry: &TreeEntry| matches!(entry.mode, Mode::File | Mode::Program) && entry.size <= NOTE_CAP;
    let ids: Vec<&CommitId> =
        found.iter().filter(|(_, _, entry)| readable(entry)).map(|(_, _, entry)| &entry.id).collect();
    let mut contents = mirror.objects(&ids)?.into_iter();
    Ok(found
        .into_iter()
        .map(|(version, path, entry)| {
            let text =
                if readable(entry) { decode(&contents.next().unwrap_or_default()) } else { Err(why_unreadable(entry)) };
            Note { version, path, text }
        })
        .collect())
}

fn paths(version: &Version) -> [String; 3] {
    [format!("release/{version}"), format!("releaseNotes/{version}.md"), format!("releaseNotes/{version}")]
}

fn decode(bytes: &[u8]) -> Result<Untrusted, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Untrusted::new(text)),
        Err(_) => Err("it is not UTF-8".to_owned()),
    }
}

fn why_unreadable(entry: &TreeEntry) -> String {
    match entry.mode {
        Mode::File | Mode::Program => format!("it has {} bytes, more than {NOTE_CAP}", entry.size),
        Mode::Link => "it is a symbolic link".to_owned(),
        Mode::Submodule => "it is a submodule".to_owned(),
    }
}
