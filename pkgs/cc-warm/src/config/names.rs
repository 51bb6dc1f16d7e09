//! Names with limits.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An app's name: `[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?`. Safe as a file name and as a part of a unit's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

/// A domain name in lower case. Safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct BadName {
    text: String,
    wanted: &'static str,
}

impl AppName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Domain {
    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the app's stack: what prefixes its volumes. Dots become underscores, as abra does it.
    #[must_use]
    pub fn stack_name(&self) -> String {
        self.0.replace('.', "_")
    }
}

fn label(text: &str, longest: usize) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl TryFrom<String> for AppName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let wanted = "an app's name (1 to 32 of a-z, 0-9 and -, not at the ends)";
        if label(&text, 32) { Ok(Self(text)) } else { Err(BadName { text, wanted }) }
    }
}

impl TryFrom<String> for Domain {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let wanted = "a domain name (labels of a-z, 0-9 and -, at most 253 characters)";
        if text.len() <= 253 && text.split('.').all(|part| label(part, 63)) {
            Ok(Self(text))
        } else {
            Err(BadName { text, wanted })
        }
    }
}

macro_rules! name {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

name!(AppName);
name!(Domain);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_refuses_what_could_be_a_path_or_an_option() {
        for good in ["a", "keycloak", "a-b", "0x0", &"a".repeat(32)] {
            good.parse::<AppName>().unwrap();
        }
        for bad in ["", "-a", "a-", "A", "a.b", "..", "a/b", "a b", "ä", "a\n", &"a".repeat(33)] {
            bad.parse::<AppName>().unwrap_err();
        }
        for good in ["login.example.org", "localhost"] {
            good.parse::<Domain>().unwrap();
        }
        for bad in ["", ".", "a..b", "Login.example.org", "a_b.org", "../x", "-a.org"] {
            bad.parse::<Domain>().unwrap_err();
        }
    }
}
