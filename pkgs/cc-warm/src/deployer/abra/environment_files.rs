//! Environment files that docker would read to render, before anybody has approved anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::deployer::outside::texts;
use crate::sys::durable;

/// Where what looks like a file may be none that ends, or none that answers.
const NOT_ON_DISK: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Docker reads environment files to render: fails where one is outside of `code` and no regular file, which might
/// never end. Files that are not there are docker's to complain about.
pub(super) fn can_be_read(files: &[PathBuf], code: &Path, variables: &BTreeMap<String, String>) -> Result<()> {
    let top = fs::canonicalize(code).with_context(|| format!("cannot look at `{}`", code.display()))?;
    for file in files {
        let shown = file.file_name().unwrap_or_default().display();
        let text = durable::read(file)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let documents = documents(&text).with_context(|| format!("`{shown}` cannot be read"))?;
        let mut named = Vec::new();
        for document in &documents {
            environment_files(document, &mut named);
        }
        for name in named {
            let meant = interpolated(name, variables);
            let meant = meant.with_context(|| format!("`{shown}`: it cannot be told which file `{name}` is"))?;
            let Ok(real) = fs::canonicalize(code.join(meant)) else { continue };
            if real.starts_with(&top) {
                continue;
            }
            let plain = !NOT_ON_DISK.iter().any(|folder| real.starts_with(folder)) && fs::metadata(&real)?.is_file();
            ensure!(plain, "`{shown}` names `{}` as an environment file, which is no regular file", real.display());
        }
    }
    Ok(())
}

/// What docker reads is the first document only; of the others, nothing is asked more than of that one. A few anchors may be
/// used as often as a recipe likes: what that comes to is limited all the same.
fn documents(text: &str) -> Result<Vec<Value>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false },
    };
    Ok(serde_saphyr::from_multiple_with_options(text, options)?)
}

/// Every `env_file`, at whatever depth: what is merged in may be written anywhere.
fn environment_files<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| environment_files(item, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "env_file" {
                    found.extend(texts(value));
                }
                environment_files(value, found);
            }
        }
        _ => {}
    }
}

/// `text` with the variables that it names; `None` where it is not written plainly.
fn interpolated(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
            continue;
        }
        let (name, default, after) = if let Some(inner) = after.strip_prefix('{') {
            let (inner, after) = inner.split_once('}')?;
            let (name, default) = inner.split_once('-').unwrap_or((inner, ""));
            (name, default, after)
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            (&after[..end], "", &after[end..])
        };
        let (name, or_empty) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
        let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !is_name || default.contains('$') {
            return None;
        }
        let value = variables.get(name).filter(|value| !or_empty || !value.is_empty());
        done.push_str(value.map_or(default, String::as_str));
        rest = after;
    }
    done.push_str(rest);
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recipe's folder, beside a file that is not of it.
    fn recipe() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        fs::create_dir_all(code.join("sub")).unwrap();
        fs::write(code.join("app.env"), "A=1\n").unwrap();
        fs::write(dir.path().join("secret"), "A=2\n").unwrap();
        (dir, code)
    }

    #[test]
    fn a_recipe_as_they_are_written_can_be_read() {
        let (_dir, code) = recipe();
        let text = r#"---
version: "3.8"
x-environment: &env
  - A=${A:-1}
x-base: &base
  image: ${IMAGE:-example.org/app}:1.2
  environment: &vars {A: "1", B: null}
x-more: &more
  networks: [proxy]
services:
  app: &app
    <<: [*base, *more]
    environment:
      <<: *vars
      A: "${B:?must be set}"
    deploy:
      labels:
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`${EXTRA_DOMAINS})"
        - 'caddy={{ .Node }}'
    healthcheck: {test: ["CMD", "x"], interval: 1m30s, retries: 0x0A}
    ports: [ 80:80, 22:22 ]
  worker:
    <<: *app
    environment: *env
    command: |
      a: b
configs: { c: { name: "${STACK_NAME}_c_${C_VERSION}", file: app.env, template_driver: golang } }
"#;
        fs::write(code.join("compose.yml"), text).unwrap();
        can_be_read(&[code.join("compose.yml")], &code, &BTreeMap::new()).unwrap();
    }

    #[test]
    fn what_docker_reads_of_a_file_is_not_refused_for_its_shape() {
        let (_dir, code) = recipe();
        let compose = code.join("compose.yml");
        let read = |text: &str| {
            fs::write(&compose, text).unwrap();
            can_be_read(std::slice::from_ref(&compose), &code, &BTreeMap::new())
        };
        let services = |count: usize| {
            let each = (0..count).map(|number| format!("  s{number}:\n    <<: *base\n    logging: *log\n"));
            format!(
                "x-log: &log {{driver: local}}\nx-base: &base {{image: x}}\nservices:\n{}",
                each.collect::<String>()
            )
        };
        let two = "services: {app: {image: x}}\n---\nservices: {}\n";
        for text in [&services(200), two, "services: {app: {image: x}}\n---\n", "\u{feff}services: {}\r\n...\r\n"] {
            read(text).unwrap();
        }
        read(&format!("{two}x: {{env_file: /dev/zero}}\n")).unwrap_err();
        let bomb = (1..9).map(|n| format!("x-{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        read(&format!("x-0: &a0 [lol]\n{}services: {{}}\n", bomb.collect::<String>())).unwrap_err();
    }

    #[test]
    fn an_environment_file_that_might_never_end_is_not_read() {
        let (dir, code) = recipe();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let compose = code.join("compose.yml");
        let variables = BTreeMap::from([("UP".to_owned(), "../fifo".to_owned()), ("NONE".to_owned(), String::new())]);
        for (named, is_right) in [
            ("./app.env", true),
            ("[app.env, ../secret]", true),
            ("missing", true),
            ("${NONE:-app.env}", true),
            ("../fifo", false),
            ("$UP", false),
            ("[app.env, '${NO-../fifo}']", false),
            ("${NONE:-/proc/kmsg}", false),
            ("/dev/zero", false),
            ("'${UP:+../fifo}'", false),
        ] {
            let text = format!("x-base: &base\n  env_file: {named}\nservices:\n  app:\n    <<: *base\n    image: x\n");
            fs::write(&compose, text).unwrap();
            assert_eq!(can_be_read(std::slice::from_ref(&compose), &code, &variables).is_ok(), is_right, "{named}");
        }
    }
}
