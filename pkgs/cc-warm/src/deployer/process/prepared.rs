//! Releases that can be started from this disk alone: the code, and the environment.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::folder::Folder;
use crate::deployer::Release;
use crate::identity::{CommitId, Env, Identity};
use crate::snapshot;
use crate::sys::dirs::AppDirs;
use crate::sys::durable;

/// Where a recipe's code comes from. The embedded deployer wants no network: these answer from what is on this host.
pub trait Source {
    /// The regular files at `paths` in `commit`, in their order, each of at most `cap` bytes; `None` where there is none.
    fn blobs(&self, commit: &CommitId, paths: &[&str], cap: u64) -> Result<Vec<Option<Vec<u8>>>>;

    /// Writes the tree of `commit` to `dest`, which does not exist: durably, all or nothing, readable by all.
    fn export(&self, commit: &CommitId, dest: &Path) -> Result<()>;
}

/// Keeps the code and the environment of `release`.
pub(super) fn keep(folder: &Folder, dirs: &AppDirs, source: &dyn Source, release: &Release) -> Result<()> {
    durable::make_dir(&folder.releases())?;
    let code = folder.release(&release.commit);
    if !code.is_dir() {
        source.export(&release.commit, &code)?;
    }
    durable::make_dir(&dirs.env())?;
    durable::replace_json(&dirs.env().join(release.env.digest().as_str()), &release.env)
}

/// What was kept as `identity`.
pub(super) fn find(folder: &Folder, dirs: &AppDirs, identity: &Identity) -> Result<Release> {
    let code = folder.release(&identity.commit);
    ensure!(code.is_dir(), "the code of {identity} is not at `{}`", code.display());
    Ok(Release {
        version: identity.version.clone(),
        commit: identity.commit.clone(),
        env: env(dirs, identity)?,
        secrets: identity.secrets.clone(),
    })
}

/// The environment that was kept of `identity`.
pub(super) fn env(dirs: &AppDirs, identity: &Identity) -> Result<Env> {
    let path = dirs.env().join(identity.env.as_str());
    let env: Env =
        durable::read_json(&path)?.with_context(|| format!("its environment is not at `{}`", path.display()))?;
    ensure!(env.digest() == identity.env, "`{}` was changed: it is not the environment of {identity}", path.display());
    Ok(env)
}

/// Drops everything but `wanted`.
pub(super) fn keep_only(folder: &Folder, dirs: &AppDirs, wanted: &[Identity]) -> Result<()> {
    for scratch in folder.old_scratches() {
        if let Err(error) = snapshot::delete_tree(&scratch) {
            tracing::warn!("it is tried again the next time: {error:#}");
        }
    }
    let commits: BTreeSet<&OsStr> = wanted.iter().map(|identity| OsStr::new(identity.commit.as_str())).collect();
    for name in names(&folder.releases())? {
        if !commits.contains(name.as_os_str()) {
            remove_tree(&folder.releases().join(name))?;
        }
    }
    let digests: BTreeSet<&OsStr> = wanted.iter().map(|identity| OsStr::new(identity.env.as_str())).collect();
    for name in names(&dirs.env())? {
        if !digests.contains(name.as_os_str()) {
            durable::remove(&dirs.env().join(name))?;
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<OsString>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("cannot list `{}`", dir.display())),
    }
}

/// Under another name first, so that half of a tree is never taken for a release.
fn remove_tree(path: &Path) -> Result<()> {
    let mut doomed = path.as_os_str().to_owned();
    doomed.push(".trash");
    let doomed = Path::new(&doomed);
    if !path.as_os_str().as_encoded_bytes().ends_with(b".trash") {
        durable::rename(path, doomed)?;
        return snapshot::delete_tree(doomed);
    }
    snapshot::delete_tree(path)
}
