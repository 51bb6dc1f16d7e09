//! What is kept of an app that nobody declares any more.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::folder::Folder;
use super::pins;
use crate::config::names::AppName;
use crate::deployer::docker_cli::Docker;
use crate::sys::dirs::Dirs;

/// Whether anything is kept of `app`.
#[must_use]
pub fn keeps_any_of(dirs: &Dirs, app: &AppName) -> bool {
    Folder::of(dirs, app).root().is_dir()
}

/// Takes the names from the images that are kept for `app`, and gives the folder that nobody needs then, if it is there.
/// What runs of it runs on.
pub fn let_go(dirs: &Dirs, app: &AppName) -> Result<Option<PathBuf>> {
    if !keeps_any_of(dirs, app) {
        return Ok(None);
    }
    let folder = Folder::of(dirs, app).root().to_owned();
    let repository = format!("{}{app}", pins(dirs));
    // Without a login: of those that the app had, nothing is needed to take names away.
    let docker = Docker::default();
    let untag = || -> Result<()> {
        let listed = docker.tags(&repository).run_ok()?;
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            docker.untag(name).run_ok()?;
        }
        Ok(())
    };
    untag().with_context(|| {
        format!(
            "`{}` and the names `{repository}:…`, which keep its images, stay until docker takes them away: cc-warm forget {app}",
            folder.display()
        )
    })?;
    Ok(Some(folder))
}
