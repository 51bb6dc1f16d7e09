//! Keeps the program that wrote a journal from being garbage-collected while the journal is there: another one may be
//! too old to read it. The NixOS module makes a garbage collector's root that points to this link.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use crate::sys::dirs::AppDirs;
use crate::sys::durable;

/// Where Nix keeps what it built.
const STORE: &str = "/nix/store";

/// Links to the store path of `program`, if it lies in one.
pub fn keep(dirs: &AppDirs, program: &Path) -> Result<()> {
    let link = dirs.helper();
    durable::remove(&link)?;
    let Some(path) = store_path(program) else { return Ok(()) };
    match symlink(&path, &link) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            Err(e).with_context(|| format!("cannot make `{}`", link.display()))
        }
        _ => durable::sync_dir(dirs.root()),
    }
}

/// The journal is gone, and with it the need.
pub fn release(dirs: &AppDirs) -> Result<()> {
    durable::remove(&dirs.helper())
}

/// The store path that `program` is a file of.
fn store_path(program: &Path) -> Option<PathBuf> {
    match program.strip_prefix(STORE).ok()?.components().next()? {
        Component::Normal(name) => Some(Path::new(STORE).join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::dirs::Dirs;

    #[test]
    fn the_program_of_an_open_journal_is_kept_and_then_released() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path()).app("login");
        durable::make_dir(dirs.root()).unwrap();
        for version in ["a", "b", "b"] {
            let path = format!("/nix/store/{version}-cc-warm");
            keep(&dirs, &Path::new(&path).join("bin/cc-warm")).unwrap();
            assert_eq!(fs::read_link(dirs.helper()).unwrap(), Path::new(&path));
        }
        release(&dirs).unwrap();
        release(&dirs).unwrap();
        assert!(!dirs.helper().is_symlink());
        keep(&dirs, Path::new("/usr/bin/cc-warm")).unwrap();
        assert!(!dirs.helper().is_symlink());
    }
}
