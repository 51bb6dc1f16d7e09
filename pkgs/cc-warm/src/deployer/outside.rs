//! What a recipe would read of the host outside of its own folder. Docker's program reads it as whoever runs it, which is root, so
//! it counts as a bind mount of the same file does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Fails if a symbolic link in the recipe's folder `code` leads out of it: whatever names it would be read from elsewhere.
pub fn no_link_leads_out(code: &Path) -> Result<()> {
    let top = fs::canonicalize(code).with_context(|| format!("cannot look at `{}`", code.display()))?;
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path)?;
                let inside = match fs::canonicalize(&path) {
                    Ok(end) => end.starts_with(&top),
                    // It leads nowhere, yet.
                    Err(_) => is_inside(&target),
                };
                let shown = path.strip_prefix(&top).unwrap_or(&path).display().to_string();
                ensure!(inside, "the recipe's link `{shown}` leads out of it, to `{}`", target.display());
            }
        }
    }
    Ok(())
}

/// Whether a path, relative to the recipe's folder, stays in it, whatever is there.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Environment files of the compose file `yaml` that lie, or may lie, outside of the recipe's folder: `env_file` is gone
/// from what docker renders.
pub fn env_files(yaml: &str) -> Result<BTreeSet<String>> {
    let root: Value = serde_saphyr::from_str(yaml).context("a compose file cannot be read")?;
    let mut all = BTreeSet::new();
    for (service, value) in root["services"].as_object().into_iter().flatten() {
        let listed = match &value["env_file"] {
            Value::Array(items) => items.iter().collect(),
            Value::Null => Vec::new(),
            one => vec![one],
        };
        for item in listed {
            let path = item.as_str().or_else(|| item["path"].as_str()).unwrap_or("?");
            // Variables are replaced before it is opened.
            if path.contains('$') || !is_inside(Path::new(path)) {
                all.insert(format!("environment file {path} of {service}"));
            }
        }
    }
    Ok(all)
}

/// Files that are configs or secrets, as docker renders them (`root`), and lie outside of the recipe's folder `code`.
#[must_use]
pub fn files(root: &Value, code: &Path) -> BTreeSet<String> {
    let top = fs::canonicalize(code).unwrap_or_else(|_| code.to_owned());
    let mut all = BTreeSet::new();
    for (section, what) in [("configs", "config"), ("secrets", "secret")] {
        for (name, value) in root[section].as_object().into_iter().flatten() {
            let Some(file) = value["file"].as_str() else { continue };
            let path: PathBuf = top.join(file);
            let end = fs::canonicalize(&path).unwrap_or_else(|_| lexically(&path));
            if !end.starts_with(&top) {
                all.insert(format!("file {file} as {what} {name}"));
            }
        }
    }
    all
}

/// `path` without `.` and `..`.
fn lexically(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_may_lead_about_in_the_recipe_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        fs::create_dir_all(code.join("sub")).unwrap();
        fs::write(code.join("file"), "").unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        symlink("../file", code.join("sub/in")).unwrap();
        symlink("later", code.join("dangling")).unwrap();
        no_link_leads_out(&code).unwrap();
        for target in ["/etc/hostname", "../other", "/nowhere", "sub/../../other"] {
            symlink(target, code.join("sub/out")).unwrap();
            let error = no_link_leads_out(&code).unwrap_err().to_string();
            assert!(error.contains("`sub/out`") && error.contains(target), "{error}");
            fs::remove_file(code.join("sub/out")).unwrap();
        }
    }

    #[test]
    fn environment_files_outside_are_named() {
        let yaml = "services:\n  a:\n    env_file: own.env\n  b:\n    env_file: [./own.env, ../x.env, /root/.env]\n  \
                    c:\n    env_file:\n      - path: ${HOME}/x\n        required: false\n  d: null\n";
        let wanted =
            ["${HOME}/x of c", "../x.env of b", "/root/.env of b"].map(|text| format!("environment file {text}"));
        assert_eq!(env_files(yaml).unwrap(), BTreeSet::from(wanted));
    }

    #[test]
    fn files_outside_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        fs::create_dir(&code).unwrap();
        fs::write(code.join("own.conf"), "").unwrap();
        let own = code.join("own.conf");
        let root = serde_json::json!({
            "configs": { "a": { "file": own.to_str() }, "b": { "file": "/etc/hostname" }, "c": { "external": true } },
            "secrets": { "d": { "file": code.join("../missing").to_str() }, "e": { "file": code.join("missing").to_str() } },
        });
        let found: Vec<String> = files(&root, &code).into_iter().collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].ends_with("as secret d") && found[0] == "file /etc/hostname as config b", "{found:?}");
    }
}
