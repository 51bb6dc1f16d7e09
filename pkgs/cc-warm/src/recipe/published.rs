//! What a remote publishes: its tags, as they are now.

use std::collections::BTreeMap;

use super::version::Version;
use crate::identity::CommitId;
use crate::sys::untrusted::Untrusted;

/// The published versions of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Every tag that is a version.
    pub versions: BTreeMap<Version, PublishedVersion>,
    /// Every tag that is not.
    pub ignored: Vec<Untrusted>,
}

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVersion {
    /// The commit that its tag names.
    pub commit: CommitId,
    /// Whether the tag is annotated.
    pub annotated: bool,
}

impl Published {
    /// From lines `<object id> TAB refs/tags/<name>`, where `<name>^{}` gives what an annotated tag names. The order of
    /// lines does not matter, and neither do dates: back-ports are tagged after higher versions.
    #[must_use]
    pub fn parse(lines: &[u8]) -> Self {
        let mut direct = BTreeMap::new();
        let mut peeled = BTreeMap::new();
        for line in lines.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let Some((id, name)) = line.split_once('\t') else { continue };
            let (Ok(id), Some(name)) = (id.parse::<CommitId>(), name.strip_prefix("refs/tags/")) else { continue };
            match name.strip_suffix("^{}") {
                Some(name) => peeled.insert(name.to_owned(), id),
                None => direct.insert(name.to_owned(), id),
            };
        }
        let mut published = Self::default();
        for (name, id) in direct {
            let commit = peeled.remove(&name);
            match name.parse::<Version>() {
                Ok(version) => {
                    let annotated = commit.is_some();
                    let version_of_tag = PublishedVersion { commit: commit.unwrap_or(id), annotated };
                    published.versions.insert(version, version_of_tag);
                }
                Err(_) => published.ignored.push(Untrusted::new(name)),
            }
        }
        published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_annotated_and_lightweight_tags_and_names_those_that_are_no_versions() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "{a}\trefs/tags/1.0.0+1\n{b}\trefs/tags/1.0.0+1^{{}}\n{a}\trefs/tags/0.9.9+2\n{a}\trefs/tags/v3\n{a}\trefs/tags/1.0+x\nrubbish\n"
        );
        let published = Published::parse(text.as_bytes());
        let all: Vec<_> = published
            .versions
            .iter()
            .map(|(v, p)| (v.to_string(), p.commit.as_str().to_owned(), p.annotated))
            .collect();
        assert_eq!(all, [("0.9.9+2".to_owned(), a, false), ("1.0.0+1".to_owned(), b, true)]);
        assert_eq!(published.ignored.iter().map(Untrusted::raw).collect::<Vec<_>>(), ["1.0+x", "v3"]);
        assert_eq!(Published::parse(b""), Published::default());
    }
}
