//! What a recipe would read of the host outside of its own folder. Docker's program reads it as whoever runs it, which is root, so
//! it counts as a bind mount of the same file does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Symbolic links of the recipe's folder `code` that lead out of it: whatever names one is read from elsewhere.
pub fn links(code: &Path) -> Result<BTreeSet<String>> {
    let top = fs::canonicalize(code).with_context(|| format!("cannot look at `{}`", code.display()))?;
    let (mut folders, mut all) = (vec![top.clone()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && !stays_in(&top, &path) {
                let target = fs::read_link(&path)?;
                let name = path.strip_prefix(&top).unwrap_or(&path);
                all.insert(format!("link {} to {}", name.display(), target.display()));
            }
        }
    }
    Ok(all)
}

/// Whether `path` is in the folder `top`, with all links on the way followed, or would be if it were there.
fn stays_in(top: &Path, path: &Path) -> bool {
    let end = fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
        Ok(target) => lexically(&path.parent().unwrap_or(top).join(target)),
        Err(_) => lexically(path),
    });
    end.starts_with(top)
}

/// Files that are configs or secrets, or hold the environment of a service, as docker renders them (`root`), and lie outside of the
/// recipe's folder `code`.
#[must_use]
pub fn files(root: &Value, code: &Path) -> BTreeSet<String> {
    let top = fs::canonicalize(code).unwrap_or_else(|_| code.to_owned());
    let mut all = BTreeSet::new();
    for (section, what) in [("configs", "config"), ("secrets", "secret")] {
        for (name, value) in root[section].as_object().into_iter().flatten() {
            if let Some(file) = value["file"].as_str()
                && !stays_in(&top, &top.join(file))
            {
                all.insert(format!("file {file} as {what} {name}"));
            }
        }
    }
    for (service, value) in root["services"].as_object().into_iter().flatten() {
        let outside = texts(&value["env_file"]).into_iter().filter(|file| !stays_in(&top, &top.join(file)));
        all.extend(outside.map(|file| format!("file {file} as environment of {service}")));
    }
    all
}

/// What an `env_file` names: a text, or those of a list, or of what lists them with their `path`.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.get("path").map(texts).unwrap_or_default(),
        _ => Vec::new(),
    }
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
        symlink("../later", code.join("sub/dangling")).unwrap();
        assert_eq!(links(&code).unwrap(), BTreeSet::new());
        for target in ["/etc/hostname", "../../other", "/nowhere", "../../later"] {
            symlink(target, code.join("sub/out")).unwrap();
            assert_eq!(links(&code).unwrap(), BTreeSet::from([format!("link sub/out to {target}")]));
            fs::remove_file(code.join("sub/out")).unwrap();
        }
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
            "secrets": { "d": { "file": "../missing" }, "e": { "file": code.join("missing").to_str() } },
            "services": {
                "a": { "env_file": "own.env" },
                "b": { "env_file": ["./own.env", "../x.env", "/root/.env"] },
                "c": { "env_file": [{ "path": "/x", "required": false }] },
                "d": null,
            },
        });
        let wanted = [
            "../missing as secret d",
            "../x.env as environment of b",
            "/etc/hostname as config b",
            "/root/.env as environment of b",
            "/x as environment of c",
        ];
        assert_eq!(files(&root, &code), wanted.map(|text| format!("file {text}")).into());
    }
}
