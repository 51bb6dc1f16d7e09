//! Files that survive a power cut: replaced whole, or appended to, and synced together with their folder.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault;

/// Fails if no file can be made in `dir`.
pub fn try_to_write(dir: &Path) -> std::io::Result<()> {
    tempfile::Builder::new().prefix(".cc-warm-").tempfile_in(dir).map(drop)
}

/// Replaces `path` by `bytes` (mode 0600): temporary file, fsync, rename, fsync of the folder.
///
/// After a crash the file holds either all of its old content or all of the new.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = parent(path)?;
    let write = || -> Result<()> {
        let mut file =
            tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(0o600)).tempfile_in(dir)?;
        fault::point("durable.replace.write")?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        fault::point("durable.replace.rename")?;
        file.persist(path).map_err(|e| e.error)?;
        sync_dir(dir)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// [`replace`] with `value` as pretty-printed JSON.
pub fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    replace(path, &bytes)
}

/// The JSON in `path`; `None` if there is no such file. A file that does not parse is an error, never a default.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("`{}` does not parse", path.display()))
}

/// The content of `path`; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// Appends `bytes` to `path`, made with mode 0600 if missing, and syncs file and folder.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        fault::point("durable.append.write")?;
        file.write_all(bytes)?;
        file.sync_all()?;
        sync_dir(parent(path)?)
    };
    write().with_context(|| format!("cannot append to `{}`", path.display()))
}

/// Removes `path`, if it is there, durably.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)?),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Renames `from` to `to` in one file system, durably.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename `{}` to `{}`", from.display(), to.display()))?;
    sync_dir(parent(to)?)?;
    if parent(from)? != parent(to)? {
        sync_dir(parent(from)?)?;
    }
    Ok(())
}

/// Makes the folder `path` and its parents, mode 0700, durably.
pub fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(up) = path.parent().filter(|up| !up.as_os_str().is_empty()) {
        make_dir(up)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("cannot make the folder `{}`", path.display())),
    }
    sync_dir(parent(path)?)
}

/// Makes the entries of the folder `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("cannot sync the folder `{}`", dir.display()))
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent()
        .map(|up| if up.as_os_str().is_empty() { Path::new(".") } else { up })
        .ok_or_else(|| anyhow!("`{}` has no folder", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_does_not_parse_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, b"{").unwrap();
        let error = read_json::<serde_json::Value>(&path).unwrap_err();
        assert!(format!("{error:#}").contains("state.json"), "{error:#}");
        assert!(read_json::<serde_json::Value>(&dir.path().join("none")).unwrap().is_none());
    }
}
