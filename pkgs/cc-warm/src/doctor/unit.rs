//! What the unit that updates an app may write to: whoever calls `doctor` may write to more than that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::command::Program;
use crate::sys::durable;

/// The folder of the `.env` of `app`, or of the file that it leads to, if an update could not write to it. `None`, too,
/// where that cannot be known.
pub(super) fn read_only_folder(app: &str, env: &Path, patience: Duration) -> Option<PathBuf> {
    let folder = fs::canonicalize(env).ok()?.parent()?.to_owned();
    if durable::try_to_write(&folder).is_err() {
        return Some(folder);
    }
    let show = Program::new("systemctl")
        .args(["show", "--property=ProtectSystem,ReadWritePaths", "--"])
        .arg(format!("cc-warm-update-{app}.service"));
    let shown = show.deadline(patience).run_ok().ok()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    (!may_write(&shown, &folder)).then_some(folder)
}

/// Whether a unit may write to `folder`, by what `systemctl show` says of it.
fn may_write(shown: &str, folder: &Path) -> bool {
    let of = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let allows = |path: &str| {
        let path = Path::new(path.trim_start_matches(['-', '+']));
        folder.starts_with(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    };
    of("ProtectSystem") != "strict" || of("ReadWritePaths").split_whitespace().any(allows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_write_below_what_it_names_and_everywhere_if_nothing_is_protected() {
        let strict = |paths: &str| format!("ReadWritePaths={paths}\nProtectSystem=strict\n");
        let folder = Path::new("/srv/infra/servers/default");
        for (shown, may) in [
            (strict("/var/lib/cc-warm -/root/.abra/servers"), false),
            (strict(""), false),
            (strict("/var/lib/cc-warm -/srv/infra/servers"), true),
            (strict("/srv/infra/servers/default"), true),
            (strict("/srv/infra/servers/default/login.example.org.env"), false),
            (strict("/srv/infra/serv"), false),
            ("ReadWritePaths=\nProtectSystem=no\n".to_owned(), true),
            (String::new(), true),
        ] {
            assert_eq!(may_write(&shown, folder), may, "{shown}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (link, real) = (dir.path().join("servers"), dir.path().join("real"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(may_write(&strict(&format!("-{}", link.display())), &fs::canonicalize(&real).unwrap()));
    }
}
