//! Versions of recipes: `<x.y.z>+<upstream>`, the tags that a recipe publishes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A published version: the recipe's own `SemVer`, and the tag of the app's image, which is opaque.
///
/// Ordered by the recipe's precedence; the upstream part only makes the order total.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    recipe: semver::Version,
    upstream: String,
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a recipe's version (like `2.1.0+26.0.4`)")]
pub struct BadVersion(String);

impl Version {
    /// The recipe's own version; its build part is always empty.
    #[must_use]
    pub fn recipe(&self) -> &semver::Version {
        &self.recipe
    }

    /// The image's tag: everything after the first `+`.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Whether going from `self` to `other` is a major step of the recipe (for 0.x: a minor step).
    #[must_use]
    pub fn is_major_step_to(&self, other: &Self) -> bool {
        let (from, to) = (&self.recipe, &other.recipe);
        from.major != to.major || (from.major == 0 && from.minor != to.minor)
    }

    /// Whether `self` lies on the way from `from` to `to`: after the one, up to the other, by the recipe's version. Of
    /// versions that differ from `from` only in their upstream, `to` alone does. Back-ports count by their number.
    #[must_use]
    pub fn is_on_the_way(&self, from: &Self, to: &Self) -> bool {
        from != to && (self == to || (self.recipe > from.recipe && self.recipe <= to.recipe))
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let (recipe, upstream) = text.split_once('+').ok_or_else(bad)?;
        // The upstream part is a docker tag; nothing else may reach a file name, a ref or a label.
        let tag_char = |c: u8| c.is_ascii_alphanumeric() || b"._-+".contains(&c);
        if upstream.is_empty() || upstream.len() > 128 || !upstream.bytes().all(tag_char) || text.contains("..") {
            return Err(bad());
        }
        let recipe = semver::Version::parse(recipe).map_err(|_| bad())?;
        Ok(Self { recipe, upstream: upstream.to_owned() })
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, BadVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.recipe, self.upstream)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.recipe.cmp(&other.recipe).then_with(|| self.upstream.cmp(&other.upstream))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl schemars::JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A recipe's version, like 2.1.0+26.0.4." })
    }
}
