//! Files that hold secrets: where the service manager put them, or where they come from.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file whose content is a secret: its path, and the name of the credential under which a unit gets it. A unit reads
/// the credential; a root shell, and a recovery that must not depend on it, read the file itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written", rename_all = "camelCase")]
pub struct SecretFile {
    /// A file name in `$CREDENTIALS_DIRECTORY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    /// Where the file comes from.
    path: PathBuf,
}

/// Either a path alone, or both.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Path(PathBuf),
    #[serde(rename_all = "camelCase")]
    Both {
        credential: Option<String>,
        path: PathBuf,
    },
}

impl From<Written> for SecretFile {
    fn from(written: Written) -> Self {
        match written {
            Written::Path(path) => Self { credential: None, path },
            Written::Both { credential, path } => Self { credential, path },
        }
    }
}

impl From<PathBuf> for SecretFile {
    fn from(path: PathBuf) -> Self {
        Self { credential: None, path }
    }
}

impl SecretFile {
    /// The file to read now.
    #[must_use]
    pub fn locate(&self) -> PathBuf {
        self.locate_in(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
    }

    /// The same file, wherever the service manager put it.
    #[must_use]
    pub fn at_its_source(&self) -> Self {
        Self { credential: None, path: self.path.clone() }
    }

    /// Where the file comes from: what messages name.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.path
    }

    fn locate_in(&self, credentials: Option<&Path>) -> PathBuf {
        match (credentials, &self.credential) {
            (Some(folder), Some(name)) if folder.join(name).is_file() => folder.join(name),
            _ => self.path.clone(),
        }
    }

    /// Refuses what is readable by all, and a credential's name that is a path.
    pub(super) fn check(&self, key: &str) -> Result<()> {
        ensure!(self.path.is_absolute(), "`{key}`: `{}` must be an absolute path", self.path.display());
        ensure!(
            !self.path.starts_with("/nix/store"),
            "`{key}`: `{}` is readable by all: keep it out of the store",
            self.path.display()
        );
        if let Some(name) = &self.credential {
            ensure!(
                !name.is_empty() && !name.contains('/') && name != "." && name != "..",
                "`{key}`: `{name}` is not the name of a credential"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_path_alone_and_a_path_with_its_credential() {
        let alone: SecretFile = serde_json::from_str(r#""/run/secrets/a""#).unwrap();
        assert_eq!(alone, SecretFile::from(PathBuf::from("/run/secrets/a")));
        let both: SecretFile = serde_json::from_str(r#"{"credential":"a","path":"/run/secrets/a"}"#).unwrap();
        for secret in [alone, both] {
            secret.check("tokenFile").unwrap();
            let back: SecretFile = serde_json::from_str(&serde_json::to_string(&secret).unwrap()).unwrap();
            assert_eq!(back, secret);
        }
    }

    #[test]
    fn prefers_the_credential_and_falls_back_to_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let secret = SecretFile { credential: Some("token".into()), path: "/run/secrets/a".into() };
        assert_eq!(secret.locate_in(None), Path::new("/run/secrets/a"), "a root shell");
        assert_eq!(secret.locate_in(Some(folder.path())), Path::new("/run/secrets/a"), "a unit without it");
        std::fs::write(folder.path().join("token"), "x").unwrap();
        assert_eq!(secret.locate_in(Some(folder.path())), folder.path().join("token"));
    }

    #[test]
    fn refuses_the_store_and_names_that_are_paths() {
        for bad in [
            r#""relative""#,
            r#""/nix/store/abc-token""#,
            r#"{"credential":"../a","path":"/a"}"#,
            r#"{"credential":"","path":"/a"}"#,
        ] {
            let secret: SecretFile = serde_json::from_str(bad).unwrap();
            secret.check("tokenFile").unwrap_err();
        }
    }
}
