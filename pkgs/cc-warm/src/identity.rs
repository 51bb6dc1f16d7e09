//! What a deployment of an app is: which code, under which configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::App;
use crate::recipe::version::Version;

/// The fewest digits of a commit that are believed.
const FEWEST_DIGITS: usize = 7;

/// A full git object id: 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// A text that is no commit id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no commit id (40 hexadecimal digits)")]
pub struct BadCommitId(String);

impl CommitId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first 10 digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..10]
    }

    /// Whether `digits` are its first ones, and enough of them to be believed.
    #[must_use]
    pub fn is_shortened_to(&self, digits: &str) -> bool {
        digits.len() >= FEWEST_DIGITS && self.0.starts_with(digits)
    }
}

impl TryFrom<String> for CommitId {
    type Error = BadCommitId;

    fn try_from(text: String) -> Result<Self, BadCommitId> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 40 && text.bytes().all(hex) { Ok(Self(text)) } else { Err(BadCommitId(text)) }
    }
}

impl FromStr for CommitId {
    type Err = BadCommitId;

    fn from_str(text: &str) -> Result<Self, BadCommitId> {
        Self::try_from(text.to_owned())
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digest of an [`Env`]: BLAKE3 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvDigest(String);

impl EnvDigest {
    /// The digest as text; safe as a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The configured environment of an app: `env` over the `environmentFiles`. It holds secrets: it is never shown, and
/// only the digest enters the journal.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(pub BTreeMap<String, String>);

impl Env {
    /// Reads the environment files of `app` and lays its `env` over them.
    pub fn of(app: &App) -> Result<Self> {
        let mut all = BTreeMap::new();
        for file in &app.environment_files {
            read_env_file(&file.locate(), &mut all)?;
        }
        all.extend(app.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(Self(all))
    }

    /// What identifies it.
    #[must_use]
    pub fn digest(&self) -> EnvDigest {
        let mut hasher = blake3::Hasher::new();
        for (key, value) in &self.0 {
            for part in [key, value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        EnvDigest(hasher.finalize().to_hex()[..32].to_owned())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Env({} variables)", self.0.len())
    }
}

fn read_env_file(path: &Path, into: &mut BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the environment file `{}`", path.display()))?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret: only its number is named.
        let Some((key, value)) = line.split_once('=') else {
            bail!("`{}`, line {}: no `KEY=value`", path.display(), number + 1);
        };
        let value = value.trim();
        let unquoted = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
        into.insert(key.trim().to_owned(), unquoted.to_owned());
    }
    Ok(())
}

/// What makes two deployments of an app the same. A change of any part is an update.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The recipe's version.
    pub version: Version,
    /// The commit of that version's tag.
    pub commit: CommitId,
    /// The configured environment.
    pub env: EnvDigest,
    /// Secret names and versions; empty where the deployer has no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

impl Identity {
    /// Whether it is the same version of the same commit, whatever its environment.
    #[must_use]
    pub fn has_code_of(&self, other: &Self) -> bool {
        self.version == other.version && self.commit == other.commit
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (commit {})", self.version, self.commit.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_keys_from_values() {
        let env = |pairs: &[(&str, &str)]| Env(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect());
        assert_eq!(env(&[("A", "1"), ("B", "2")]).digest(), env(&[("B", "2"), ("A", "1")]).digest());
        assert_ne!(env(&[("A", "1")]).digest(), env(&[("A1", "")]).digest());
        assert_ne!(env(&[("A", "1B2")]).digest(), env(&[("A", "1"), ("B", "2")]).digest());
    }

    #[test]
    fn reads_environment_files_and_never_quotes_a_bad_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# comment\nA=1\nB=\"two words\"\n\n C = 'x' \n").unwrap();
        let mut env = BTreeMap::new();
        read_env_file(&path, &mut env).unwrap();
        assert_eq!(env.into_iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>(), ["A:1", "B:two words", "C:x"]);
        std::fs::write(&path, "A=1\nhunter2\n").unwrap();
        let error = read_env_file(&path, &mut BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }
}
