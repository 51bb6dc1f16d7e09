//! What is kept of an app that nobody declares any more.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::folder::Folder;
use super::stop::remains;
use crate::config::names::AppName;
use crate::sys::dirs::Dirs;

/// Whether anything but volumes is kept of `app`.
#[must_use]
pub fn keeps_any_of(dirs: &Dirs, app: &AppName) -> bool {
    Folder::of(dirs, app).root().is_dir()
}

/// The folder of `app` that nobody needs any more, if it is there: while the app runs, it runs from it.
pub fn let_go(dirs: &Dirs, app: &AppName) -> Result<Option<PathBuf>> {
    let folder = Folder::of(dirs, app);
    if !folder.root().is_dir() {
        return Ok(None);
    }
    ensure!(
        remains(&folder)?.is_empty(),
        "`{}` stays while the app runs from there; once it does not: cc-warm forget {app}",
        folder.root().display()
    );
    Ok(Some(folder.root().to_owned()))
}
