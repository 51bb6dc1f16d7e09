//! What a remote publishes: its tags, as they are now.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::version::Version;
use crate::identity::CommitId;
use crate::sys::untrusted::Untrusted;

/// The published versions of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Every tag that is a version.
    pub versions: BTreeMap<Version, PublishedVersion>,
    /// Every tag that is not, by name.
    pub ignored: Vec<Ignored>,
}

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// The commit that its tag names.
    pub commit: CommitId,
    /// Whether the tag is annotated.
    pub annotated: bool,
}

/// A tag that is no published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ignored {
    /// Its name.
    pub tag: Untrusted,
    /// Why.
    pub why: WhyIgnored,
}

/// Why a tag is no published version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyIgnored {
    /// Its name is not `<x.y.z>+<upstream>`.
    NotAVersion,
    /// It names a file or a folder, and no commit.
    NamesNoCommit,
}

impl fmt::Display for WhyIgnored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAVersion => "its name is no version (like `2.1.0+26.0.4`)",
            Self::NamesNoCommit => "it names no commit",
        })
    }
}

/// A tag as a repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name, without `refs/tags/`.
    pub name: String,
    /// The commit that it names in the end, if it names one.
    pub commit: Option<CommitId>,
    /// Whether it is an object of its own.
    pub annotated: bool,
}

impl Published {
    /// Sorts `tags`. Their order does not matter, and neither do dates: back-ports are tagged after higher versions.
    #[must_use]
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Self {
        let mut published = Self::default();
        for Tag { name, commit, annotated } in tags {
            let why = match (name.parse::<Version>(), commit) {
                (Ok(version), Some(commit)) => {
                    published.versions.insert(version, PublishedVersion { commit, annotated });
                    continue;
                }
                (Ok(_), None) => WhyIgnored::NamesNoCommit,
                (Err(_), _) => WhyIgnored::NotAVersion,
            };
            published.ignored.push(Ignored { tag: Untrusted::new(name), why });
        }
        published.ignored.sort_by(|a, b| a.tag.cmp(&b.tag));
        published
    }

    /// Every version on the way from `from` to `to`, `to` included, with its commit: see [`Version::is_on_the_way`].
    pub fn on_the_way(&self, from: &Version, to: &Version) -> impl Iterator<Item = (&Version, &CommitId)> {
        let on_the_way = self.versions.iter().filter(move |(version, _)| version.is_on_the_way(from, to));
        on_the_way.map(|(version, published)| (version, &published.commit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_tags_whatever_their_order_and_says_why_one_is_ignored() {
        let (a, b): (CommitId, CommitId) = ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
        let tag = |name: &str, commit: Option<&CommitId>, annotated| Tag {
            name: name.to_owned(),
            commit: commit.cloned(),
            annotated,
        };
        let mut tags = vec![
            tag("1.0.0+1", Some(&b), true),
            tag("0.9.9+2", Some(&a), false),
            tag("v3", Some(&a), false),
            tag("1.0+x", Some(&a), false),
            tag("1.0.1+x", None, false),
        ];
        let published = Published::new(tags.clone());
        let all: Vec<_> = published.versions.iter().map(|(v, p)| (v.to_string(), &p.commit, p.annotated)).collect();
        assert_eq!(all, [("0.9.9+2".to_owned(), &a, false), ("1.0.0+1".to_owned(), &b, true)]);
        let ignored: Vec<_> = published.ignored.iter().map(|i| (i.tag.raw(), i.why)).collect();
        let (no_version, no_commit) = (WhyIgnored::NotAVersion, WhyIgnored::NamesNoCommit);
        assert_eq!(ignored, [("1.0+x", no_version), ("1.0.1+x", no_commit), ("v3", no_version)]);
        tags.reverse();
        assert_eq!(Published::new(tags), published);
        assert_eq!(Published::new([]), Published::default());
    }

    #[test]
    fn back_ports_are_on_the_way_by_their_number() {
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let names = ["1.0.0+1", "1.5.0+1", "1.5.1+1", "2.0.0-rc.1+1", "2.0.0+1", "2.0.0+2", "2.1.0+1"];
        let published = Published::new(names.map(|name| Tag {
            name: name.to_owned(),
            commit: Some(commit.clone()),
            annotated: true,
        }));
        let way = |from: &str, to: &str| -> Vec<String> {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            published.on_the_way(&from, &to).map(|(version, _)| version.to_string()).collect()
        };
        assert_eq!(way("1.5.0+1", "2.0.0+1"), ["1.5.1+1", "2.0.0-rc.1+1", "2.0.0+1", "2.0.0+2"]);
        assert_eq!(way("2.0.0+1", "2.0.0+2"), ["2.0.0+2"]);
        assert_eq!(way("2.0.0+2", "2.0.0+1"), ["2.0.0+1"]);
        assert_eq!(way("2.1.0+1", "2.1.0+1"), Vec::<String>::new());
    }
}
