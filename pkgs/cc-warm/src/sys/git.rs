//! The one function that builds every git argv.
//!
//! No user or system configuration, no hooks, filters, submodules, LFS or prompts; protocols https and ssh, and `file`
//! only for configured paths; no background maintenance and no shared ssh connection, so that no child outlives us.
//! Values stand only after `--end-of-options`. Who runs it kills it, group and all, at its deadline ([`super::command`]).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{CommandError, Output, Program};
use super::signals::Interrupt;

/// Settings of every call. They outrank what a repository's own configuration says. They travel in the environment, so
/// that a command line in an error message can be read.
const SETTINGS: &[&str] = &[
    "advice.detachedHead=false",
    "core.alternateRefsCommand=false",
    "core.askPass=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    // What is larger is no text: neither diffed nor held in memory as deltas.
    "core.bigFileThreshold=1m",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=committed",
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "core.pager=cat",
    "core.symlinks=true",
    "credential.helper=",
    "diff.external=",
    "fetch.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    // One pack a fetch: one file to sync.
    "fetch.unpackLimit=1",
    "fetch.writeCommitGraph=false",
    "filter.lfs.process=",
    "filter.lfs.smudge=",
    "gc.auto=0",
    "http.followRedirects=initial",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",
    "init.defaultBranch=none",
    "init.defaultRefFormat=files",
    "maintenance.auto=false",
    "safe.bareRepository=all",
    "safe.directory=*",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
    // Old repositories have these; they harm nobody.
    "fetch.fsck.badTimezone=warn",
    "fetch.fsck.missingSpaceBeforeDate=warn",
    "fetch.fsck.zeroPaddedFilemode=warn",
];

/// The environment of every call.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("GIT_ASKPASS", "false"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("GIT_SSH_COMMAND", SSH),
    ("GIT_SSH_VARIANT", "ssh"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("SSH_ASKPASS", "false"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
];

/// No prompts, no connection that is shared or outlives us, nothing forwarded, no command of the user's configuration.
const SSH: &str = "ssh -oBatchMode=yes -oControlMaster=no -oControlPath=none -oControlPersist=no -oClearAllForwardings=yes \
                   -oForwardAgent=no -oForwardX11=no -oPermitLocalCommand=no -oConnectTimeout=20";

/// What of our own environment a transport may need: an agent, certificates, a proxy.
const PASSED_ON: &[&str] = &[
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "NIX_SSL_CERT_FILE",
    "NO_PROXY",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "https_proxy",
    "no_proxy",
];

/// What a call may reach besides the repository it works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Nothing.
    Nothing,
    /// A remote by https or ssh.
    Network,
    /// A repository on this machine that the configuration names. git refuses one that belongs to somebody else unless a
    /// *file* names it ([`trust`]): what stands on the command line does not get to the process that reads it.
    Path(PathBuf),
}

/// One call of git.
#[derive(Debug)]
pub struct Git {
    program: Program,
}

impl Git {
    /// `git <subcommand>` in the bare repository `dir` (or, without one, nowhere).
    #[must_use]
    pub fn new(dir: Option<&Path>, subcommand: &str, reach: &Reach) -> Self {
        let mut program = Program::new("git");
        for (key, value) in ENVIRONMENT {
            program = program.env(key, value);
        }
        for key in PASSED_ON {
            program = program.env_from_ours(key);
        }
        let (protocols, global) = match reach {
            // Not empty: an empty list would be read as none given by some versions.
            Reach::Nothing => ("none", Path::new("/dev/null")),
            Reach::Network => ("https:ssh", Path::new("/dev/null")),
            Reach::Path(trusted) => ("file", trusted.as_path()),
        };
        program = program.env("GIT_ALLOW_PROTOCOL", protocols).env("GIT_CONFIG_GLOBAL", global);
        // Nowhere: not in a repository that happens to lie around us, either.
        program = match dir {
            Some(dir) => program.arg("--git-dir").arg(dir).cwd(dir),
            None => program.env("GIT_CEILING_DIRECTORIES", "/").cwd("/"),
        };
        program = program.env("GIT_CONFIG_COUNT", SETTINGS.len().to_string());
        for (number, setting) in SETTINGS.iter().enumerate() {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            program =
                program.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        Self { program: program.args(["--no-pager", subcommand]) }
    }

    /// `git <subcommand>` in the repository of the work tree `dir`.
    #[must_use]
    pub fn in_work_tree(dir: &Path, subcommand: &str, reach: &Reach) -> Self {
        let Self { program } = Self::new(Some(&dir.join(".git")), subcommand, reach);
        Self { program: program.env("GIT_WORK_TREE", dir).cwd(dir) }
    }

    /// Adds fixed words: options and the like, never foreign text.
    #[must_use]
    pub fn words(self, words: &[&'static str]) -> Self {
        Self { program: self.program.args(words) }
    }

    /// Ends the options; what follows cannot be one.
    #[must_use]
    pub fn values<S: AsRef<OsStr>>(self, values: impl IntoIterator<Item = S>) -> Self {
        Self { program: self.program.arg("--end-of-options").args(values) }
    }

    /// Feeds stdin.
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self { program: self.program.stdin(bytes) }
    }

    /// Keeps at most so many bytes of output.
    #[must_use]
    pub fn cap(self, bytes: usize) -> Self {
        Self { program: self.program.cap(bytes) }
    }

    /// Ends it early when `interrupt` is set.
    #[must_use]
    pub fn ends_with(self, interrupt: &Interrupt) -> Self {
        Self { program: self.program.ends_with(interrupt) }
    }

    /// Runs it; anything but success is an error.
    pub fn run(self, deadline: Duration) -> Result<Output, CommandError> {
        self.program.deadline(deadline).run_ok()
    }

    /// The command line.
    #[must_use]
    pub fn display(&self) -> String {
        self.program.display()
    }
}

/// The content of a configuration file that lets git read the repository at `path` (with or without work tree), whoever
/// owns it, and no other.
#[must_use]
pub fn trust(path: &Path) -> Vec<u8> {
    let mut text = b"[safe]\n".to_vec();
    let mut paths = vec![path.to_owned()];
    paths.extend(std::fs::canonicalize(path));
    for path in paths {
        let with_suffix = {
            let mut name = path.clone().into_os_string();
            name.push(".git");
            PathBuf::from(name)
        };
        for path in [path.clone(), path.join(".git"), with_suffix] {
            text.extend_from_slice(b"\tdirectory = \"");
            for &byte in path.as_os_str().as_encoded_bytes() {
                match byte {
                    b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
                    b'\n' => text.extend_from_slice(b"\\n"),
                    byte => text.push(byte),
                }
            }
            text.extend_from_slice(b"\"\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    #[test]
    fn builds_these_command_lines() {
        let mirror = Some(Path::new("/m"));
        let table = [
            (
                Git::new(None, "ls-remote", &Reach::Network).words(&["--tags"]).values(["https://h/r"]),
                "git --no-pager ls-remote --tags --end-of-options https://h/r",
            ),
            (
                Git::new(mirror, "fetch", &Reach::Network).values(["--upload-pack=evil", "+refs/tags/*:refs/tags/*"]),
                "git --git-dir /m --no-pager fetch --end-of-options --upload-pack=evil +refs/tags/*:refs/tags/*",
            ),
            (
                Git::new(mirror, "cat-file", &Reach::Nothing).words(&["--batch"]),
                "git --git-dir /m --no-pager cat-file --batch",
            ),
        ];
        for (git, expected) in table {
            assert_eq!(git.display(), expected);
        }
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let init = Git::new(None, "init", &Reach::Nothing).words(&["--bare", "--quiet", "--template="]);
        init.values([dir.path()]).run(TIME).unwrap();
        dir
    }

    #[test]
    fn the_environment_is_fixed() {
        let dir = repository();
        // An alias is the one way to make git show the environment it runs in.
        let config = dir.path().join("config");
        let text = std::fs::read_to_string(&config).unwrap() + "[alias]\n\tshowenv = !env\n";
        std::fs::write(&config, text).unwrap();
        let ask = |reach: &Reach| {
            let shown = Git::new(Some(dir.path()), "showenv", reach).run(TIME).unwrap().stdout;
            String::from_utf8(shown).unwrap()
        };
        let shown = ask(&Reach::Network);
        for (key, value) in ENVIRONMENT {
            assert!(shown.contains(&format!("{key}={value}\n")), "{key} in {shown}");
        }
        assert!(shown.contains("GIT_ALLOW_PROTOCOL=https:ssh\n") && shown.contains("GIT_CONFIG_GLOBAL=/dev/null\n"));
        assert!(ask(&Reach::Nothing).contains("GIT_ALLOW_PROTOCOL=none\n"));
        let ours: Vec<&str> = shown.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
        for key in ours {
            let known = ENVIRONMENT.iter().any(|(known, _)| *known == key)
                || PASSED_ON.contains(&key)
                || ["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&key)
                || key.starts_with("GIT_");
            assert!(known, "{key} came from somewhere");
        }
    }

    #[test]
    fn every_setting_is_in_force_and_none_but_the_repositorys_own_beside_them() {
        let dir = repository();
        let show = Git::new(Some(dir.path()), "config", &Reach::Nothing).words(&["--list", "--show-origin"]);
        let text = String::from_utf8(show.run(TIME).unwrap().stdout).unwrap();
        let (given, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("command line:"));
        let given: Vec<String> = given.iter().map(|line| line["command line:".len()..].trim().to_lowercase()).collect();
        assert_eq!(given, SETTINGS.iter().map(|setting| setting.to_lowercase()).collect::<Vec<_>>());
        for line in others {
            assert!(line.starts_with("file:config\t") || line.contains(dir.path().to_str().unwrap()), "{line}");
        }
        for needed in ["core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false", "transfer.fsckObjects=true"] {
            assert!(SETTINGS.contains(&needed), "{needed}");
        }
    }

    #[test]
    fn hooks_are_not_run() {
        let dir = repository();
        let hooks = dir.path().join("hooks");
        std::fs::create_dir(&hooks).unwrap();
        let ran = dir.path().join("ran");
        let hook = hooks.join("reference-transaction");
        std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        let change = |git: Git| git.words(&["HEAD", "refs/heads/other"]).run(TIME).unwrap();
        change(Git::new(Some(dir.path()), "symbolic-ref", &Reach::Nothing));
        let tree = Git::new(Some(dir.path()), "hash-object", &Reach::Nothing).words(&["-t", "tree", "-w", "--stdin"]);
        let id = String::from_utf8(tree.run(TIME).unwrap().stdout).unwrap();
        let update = |program: Program| {
            program
                .args(["--git-dir", dir.path().to_str().unwrap(), "update-ref", "refs/x/y", id.trim()])
                .run_ok()
                .unwrap()
        };
        let ours = Git::new(Some(dir.path()), "update-ref", &Reach::Nothing).values(["refs/x/z", id.trim()]);
        ours.run(TIME).unwrap();
        assert!(!ran.exists(), "a hook ran");
        // The hook is a real one: plain git runs it.
        update(Program::new("git"));
        assert!(ran.exists());
    }

    #[test]
    fn a_path_is_read_only_where_it_is_configured_and_then_whoever_owns_it() {
        let dir = repository();
        let ask = |reach: &Reach| Git::new(None, "ls-remote", reach).values([dir.path()]).run(TIME);
        for reach in [Reach::Nothing, Reach::Network] {
            let error = ask(&reach).unwrap_err().to_string();
            assert!(error.contains("not allowed"), "{error}");
        }
        let trusted = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(trusted.path(), trust(dir.path())).unwrap();
        let reach = Reach::Path(trusted.path().to_owned());
        ask(&reach).unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(dir.path(), Some(12_345), Some(12_345)).unwrap();
        ask(&reach).unwrap();
        // Another repository is not trusted by the same file.
        let other = repository();
        std::os::unix::fs::chown(other.path(), Some(12_345), Some(12_345)).unwrap();
        let error = Git::new(None, "ls-remote", &reach).values([other.path()]).run(TIME).unwrap_err().to_string();
        assert!(error.contains("safe.directory"), "{error}");
    }

    #[test]
    fn other_transports_are_refused() {
        for remote in ["ext::sh -c false", "git://127.0.0.1:9/x", "http://127.0.0.1:9/x", "ftp://127.0.0.1/x"] {
            let error =
                Git::new(None, "ls-remote", &Reach::Network).values([remote]).run(TIME).unwrap_err().to_string();
            assert!(error.contains("not allowed"), "{remote}: {error}");
        }
    }
}
