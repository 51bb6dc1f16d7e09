//! Release notes: what `release/<version>` and `releaseNotes/<version>.md` say of every version on the way. Read as git
//! objects, all of a recipe's at once: a few processes for any number of versions and apps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::mirror::Mirror;
use super::objects::{Mode, ObjectId};
use super::published::Published;
use super::version::Version;
use crate::identity::CommitId;
use crate::sys::untrusted::Untrusted;

/// A longer note is unreadable, and holds.
pub const NOTE_CAP: u64 = 64 << 10;
/// Notes beyond so many bytes in all are unreadable, and hold.
const NOTES_CAP: u64 = 32 << 20;
/// Where notes lie.
const FOLDERS: [&str; 2] = ["release", "releaseNotes"];

/// The note of one version, as one commit has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The version that it is about, as its name says it: `2.1.0+26.0.4`, or `2.1.0` alone.
    pub version: String,
    /// Where it lies in the recipe.
    pub path: String,
    /// The commit that it was read from: the target's, or that of the version itself.
    pub commit: CommitId,
    /// What it says; or why it cannot be read.
    pub text: Result<Untrusted, String>,
}

/// Every release note of a recipe, at every commit that it publishes.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    at: BTreeMap<CommitId, Vec<Entry>>,
    texts: BTreeMap<ObjectId, Result<Untrusted, String>>,
}

/// A note's place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The version that it is about; `None`: what it is about cannot be told, so it is about all.
    about: Option<About>,
    path: String,
    mode: Mode,
    id: ObjectId,
}

/// The version in a note's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct About {
    recipe: semver::Version,
    /// With its upstream part, where there is one.
    whole: Option<Version>,
}

impl About {
    /// From a file's name: `2.1.0+26.0.4`, `2.1.0`, either with `.md` or `.txt`. `next`, `README.md` are about nothing.
    fn parse(name: &str) -> Option<Self> {
        let name = [".md", ".markdown", ".txt"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        if let Ok(version) = name.parse::<Version>() {
            return Some(Self { recipe: version.recipe().clone(), whole: Some(version) });
        }
        let recipe = name.split('+').next().unwrap_or(name);
        let recipe = semver::Version::parse(recipe.strip_prefix('v').unwrap_or(recipe)).ok()?;
        Some(Self { recipe, whole: None })
    }

    fn is_on_the_way(&self, from: &Version, to: &Version) -> bool {
        match &self.whole {
            Some(version) => version.is_on_the_way(from, to),
            None => from.recipe() < &self.recipe && &self.recipe <= to.recipe(),
        }
    }

    fn label(&self) -> String {
        self.whole.as_ref().map_or_else(|| self.recipe.to_string(), ToString::to_string)
    }
}

impl Notes {
    /// Reads every note of every version that is `published`.
    pub fn read(mirror: &Mirror, published: &Published) -> Result<Self> {
        let commits: BTreeSet<&CommitId> = published.versions.values().map(|version| &version.commit).collect();
        let commits: Vec<&CommitId> = commits.into_iter().collect();
        let asked: Vec<String> = commits.iter().map(|commit| format!("{commit}^{{tree}}")).collect();
        let roots = mirror.batch(&asked)?;
        let mut folders: Vec<(CommitId, Vec<Entry>)> = Vec::new();
        for (commit, root) in commits.into_iter().zip(roots) {
            let root = root.with_context(|| format!("commit {} is missing", commit.short()));
            let root = root.map_err(|error| mirror.suspect(error))?;
            let entries = parse_tree(&root)?.into_iter().filter(|(name, ..)| FOLDERS.contains(&name.as_str()));
            let entries = entries.map(|(path, mode, id)| Entry { about: None, path, mode, id });
            folders.push((commit.clone(), entries.collect()));
        }
        let all = folders.iter().flat_map(|(_, entries)| entries).filter(|entry| entry.mode == Mode::Folder);
        let ids: Vec<&ObjectId> = all.map(|entry| &entry.id).collect::<BTreeSet<_>>().into_iter().collect();
        let mut listings: BTreeMap<ObjectId, Vec<(String, Mode, ObjectId)>> = BTreeMap::new();
        for (id, content) in ids.iter().zip(mirror.objects(&ids).map_err(|error| mirror.suspect(error))?) {
            listings.insert((*id).clone(), parse_tree(&content)?);
        }
        let mut notes = Self::default();
        for (commit, entries) in folders {
            let mut here = Vec::new();
            for folder in entries {
                match listings.get(&folder.id).filter(|_| folder.mode == Mode::Folder) {
                    Some(listing) => here.extend(listing.iter().filter_map(|(name, mode, id)| {
                        let path = format!("{}/{name}", folder.path);
                        Some(Entry { about: Some(About::parse(name)?), path, mode: *mode, id: id.clone() })
                    })),
                    // Where the folder is something else, it is not known what it says of which version.
                    None => here.push(folder),
                }
            }
            notes.at.insert(commit, here);
        }
        notes.read_texts(mirror)?;
        Ok(notes)
    }

    fn read_texts(&mut self, mirror: &Mirror) -> Result<()> {
        let files = self.at.values().flatten().filter(|entry| entry.about.is_some() && entry.mode.is_file());
        let ids: BTreeSet<ObjectId> = files.map(|entry| entry.id.clone()).collect();
        let ids: Vec<&ObjectId> = ids.iter().collect();
        let mut total = 0;
        let mut readable = Vec::new();
        for (id, size) in ids.iter().copied().zip(mirror.sizes(&ids)?) {
            let size = size.with_context(|| format!("object {id} is missing"));
            let size = size.map_err(|error| mirror.suspect(error))?;
            if size > NOTE_CAP {
                self.texts.insert(id.clone(), Err(format!("it has {size} bytes, more than {NOTE_CAP}")));
            } else if total + size > NOTES_CAP {
                self.texts.insert(id.clone(), Err("there are too many notes".to_owned()));
            } else {
                total += size;
                readable.push(id);
            }
        }
        let contents = mirror.objects(&readable).map_err(|error| mirror.suspect(error))?;
        for (id, content) in readable.into_iter().zip(contents) {
            let text = String::from_utf8(content).map(Untrusted::new).map_err(|_| "it is not UTF-8".to_owned());
            self.texts.insert(id.clone(), text);
        }
        Ok(())
    }

    /// The notes of every version after `from`, up to `to`: as the commit of `to` has them, and as the commits of the
    /// versions on the way have them, for maintainers add to notes later, and drop them; the same text once. Ordered by
    /// version and path.
    #[must_use]
    pub fn on_the_way(&self, published: &Published, from: &Version, to: &Version) -> Vec<Note> {
        if from == to {
            return Vec::new();
        }
        let target = published.versions.get(to).map(|target| &target.commit);
        let others = published.on_the_way(from, to).map(|(_, commit)| commit);
        let mut commits: Vec<&CommitId> = Vec::new();
        for commit in target.into_iter().chain(others) {
            if !commits.contains(&commit) {
                commits.push(commit);
            }
        }
        let mut found: Vec<(Option<semver::Version>, Note)> = Vec::new();
        let mut known: BTreeSet<(&str, &ObjectId, Mode)> = BTreeSet::new();
        for commit in commits {
            for entry in self.at.get(commit).into_iter().flatten() {
                let on_the_way = entry.about.as_ref().is_none_or(|about| about.is_on_the_way(from, to));
                if !on_the_way || !known.insert((&entry.path, &entry.id, entry.mode)) {
                    continue;
                }
                let version = entry.about.as_ref().map_or_else(|| to.to_string(), About::label);
                let path = Untrusted::new(&*entry.path).terminal();
                let note = Note { version, path, commit: commit.clone(), text: self.text(entry) };
                found.push((entry.about.as_ref().map(|about| about.recipe.clone()), note));
            }
        }
        found.sort_by(|(a, x), (b, y)| (a, &x.version, &x.path).cmp(&(b, &y.version, &y.path)));
        found.into_iter().map(|(_, note)| note).collect()
    }

    fn text(&self, entry: &Entry) -> Result<Untrusted, String> {
        let what = match entry.mode {
            Mode::File | Mode::Program if entry.about.is_none() => "a file",
            Mode::File | Mode::Program => {
                return self.texts.get(&entry.id).cloned().unwrap_or_else(|| Err("it was not read".to_owned()));
            }
            Mode::Link => "a symbolic link",
            Mode::Submodule => "a submodule",
            Mode::Folder => "a folder",
        };
        Err(format!("it is {what}"))
    }
}

/// The entries of a tree object: name, kind, id. A name that is not UTF-8 is about no version.
fn parse_tree(content: &[u8]) -> Result<Vec<(String, Mode, ObjectId)>> {
    let mut rest = content;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().position(|&byte| byte == b' ').context("a tree ends early")?;
        let zero = rest.iter().position(|&byte| byte == 0).filter(|&at| at > space).context("a tree ends early")?;
        let id = rest.get(zero + 1..zero + 21).context("a tree ends early")?;
        let mode = Mode::parse(&String::from_utf8_lossy(&rest[..space]))?;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let name = String::from_utf8_lossy(&rest[space + 1..zero]).into_owned();
        entries.push((name, mode, hex.parse()?));
        rest = &rest[zero + 21..];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notes_name_says_its_version() {
        let label = |name: &str| About::parse(name).map(|about| about.label());
        for (name, expected) in [
            ("2.1.0+26.0.4", Some("2.1.0+26.0.4")),
            ("2.1.0+26.0.4.md", Some("2.1.0+26.0.4")),
            ("2.1.0", Some("2.1.0")),
            ("v2.1.0.txt", Some("2.1.0")),
            ("2.1.0+hostile/../name", Some("2.1.0")),
            ("next", None),
            ("README.md", None),
            ("", None),
            ("2.1", None),
        ] {
            assert_eq!(label(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_tree_that_ends_early_is_an_error() {
        let mut tree = b"100644 next\0".to_vec();
        tree.extend([0xab; 20]);
        assert_eq!(parse_tree(&tree).unwrap().len(), 1);
        for cut in 1..tree.len() {
            parse_tree(&tree[..cut]).unwrap_err();
        }
    }
}
