//! The one function that builds every git argv.
//!
//! No user or system configuration, no hooks, filters, submodules, LFS or prompts; protocols https and ssh, and `file` for
//! configured paths; no background maintenance, so that no child outlives us. Values stand only after
//! `--end-of-options`, or are ids and refs that were checked.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::command::{CommandError, Output, Program};

/// Settings that hold for every call.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.symlinks=true",
    "core.autocrlf=false",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "transfer.fsckObjects=true",
    "submodule.recurse=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "http.followRedirects=initial",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",
    "safe.bareRepository=all",
    "safe.directory=*",
];

/// Whether a call may read repositories by path: only for remotes that the configuration names as a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// `file` is one more protocol.
    Allowed,
    /// It is not.
    Refused,
}

/// One call of git.
#[derive(Debug)]
pub struct Git {
    program: Program,
}

impl Git {
    /// `git <subcommand>` in the bare repository `dir` (or, without one, nowhere).
    #[must_use]
    pub fn new(dir: Option<&Path>, subcommand: &str, files: Files) -> Self {
        let mut program = Program::new("git")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ControlMaster=no -o ControlPath=none -o ConnectTimeout=20")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env_from_ours("SSH_AUTH_SOCK")
            .env_from_ours("SSL_CERT_FILE")
            .env_from_ours("GIT_SSL_CAINFO")
            .env_from_ours("NIX_SSL_CERT_FILE")
            .env_from_ours("HTTPS_PROXY")
            .env_from_ours("https_proxy")
            .env_from_ours("NO_PROXY")
            .env_from_ours("no_proxy");
        for setting in SETTINGS {
            program = program.arg("-c").arg(setting);
        }
        if files == Files::Allowed {
            program = program.args(["-c", "protocol.file.allow=always"]);
        }
        if let Some(dir) = dir {
            program = program.arg("--git-dir").arg(dir);
        }
        Self { program: program.arg(subcommand) }
    }

    /// Adds fixed words: options and the like, never foreign text.
    #[must_use]
    pub fn words(self, words: &[&str]) -> Self {
        Self { program: self.program.args(words) }
    }

    /// Ends the options; what follows cannot be one.
    #[must_use]
    pub fn values<S: AsRef<OsStr>>(self, values: impl IntoIterator<Item = S>) -> Self {
        Self { program: self.program.arg("--end-of-options").args(values) }
    }

    /// One argument that is an option with a value in it, such as `--prefix=…`.
    #[must_use]
    pub fn option(self, option: impl AsRef<OsStr>) -> Self {
        Self { program: self.program.arg(option) }
    }

    /// Feeds stdin.
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self { program: self.program.stdin(bytes) }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(self, key: &str, value: impl AsRef<OsStr>) -> Self {
        Self { program: self.program.env(key, value) }
    }

    /// Keeps at most so many bytes of output.
    #[must_use]
    pub fn cap(self, bytes: usize) -> Self {
        Self { program: self.program.cap(bytes) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_be_options_and_files_are_refused_unless_configured() {
        let line = |files| {
            Git::new(Some(Path::new("/m")), "ls-remote", files)
                .words(&["--tags"])
                .values(["--upload-pack=evil"])
                .display()
        };
        let refused = line(Files::Refused);
        assert!(refused.ends_with("--git-dir /m ls-remote --tags --end-of-options --upload-pack=evil"), "{refused}");
        assert!(refused.contains("-c protocol.allow=never") && !refused.contains("protocol.file"), "{refused}");
        assert!(line(Files::Allowed).contains("-c protocol.file.allow=always"));
    }

    #[test]
    fn a_path_is_not_read_unless_it_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let make = Git::new(None, "init", Files::Allowed).words(&["--bare", "--quiet"]).values([dir.path()]);
        make.run(Duration::from_secs(20)).unwrap();
        let ask = |files| Git::new(None, "ls-remote", files).values([dir.path()]).run(Duration::from_secs(20));
        ask(Files::Allowed).unwrap();
        let error = ask(Files::Refused).unwrap_err().to_string();
        assert!(error.contains("not allowed"), "{error}");
    }
}
