//! What the integration tests build on: a sandbox (the demo's), with cc-warm under test, that cleans up after itself.

use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use cc_warm::demo::maker::{Behaviour, Release};
use cc_warm::demo::sandbox::{APP, Sandbox};
use cc_warm::sys::command::Output;
use serde_json::Value;

/// A sandbox in which `1.0.0+1` runs, with two notes in data of format 1.
pub(crate) struct Fixture {
    pub(crate) sandbox: Sandbox,
    _dir: tempfile::TempDir,
}

/// What cc-warm printed and how it ended, for messages.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Self { code: output.status.code(), text }
    }

    /// Waits until it ends.
    pub(crate) fn of_child(child: std::process::Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Self { code: output.status.code(), text }
    }

    /// Fails unless it exited with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.text);
        self.text
    }
}

/// Faults with which the version that ran before does not become healthy any more, whatever is tried.
pub(crate) const NEVER_WELL: &str = "act.redeploy#1=fail,act.redeploy#2=fail";

/// What users wrote before any test begins.
pub(crate) const NOTES: [&str; 2] = ["buy milk", "call home"];

impl Fixture {
    /// The sandbox, with nothing deployed yet.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("cc-warm-sandbox-").tempdir().unwrap();
        let sandbox = Sandbox::new(dir.path(), &cargo_bin("cc-warm")).unwrap();
        let fixture = Self { sandbox, _dir: dir };
        // Hundreds of sandboxes wait for an app to be well, or not to be.
        fixture.configure_deadline("2s");
        fixture
    }

    /// The usual configuration, with so much time to be healthy.
    pub(crate) fn configure_deadline(&self, deadline: &str) {
        self.sandbox
            .configure(|config| {
                let health = &mut config["apps"][APP]["health"];
                health["interval"] = "50ms".into();
                health["soak"] = "200ms".into();
                health["deadline"] = deadline.into();
            })
            .unwrap();
    }

    /// The sandbox, with `1.0.0+1` deployed and [`NOTES`] written.
    pub(crate) fn running() -> Self {
        let fixture = Self::empty();
        fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
        fixture.run(&["update"]).expect(0);
        for note in NOTES {
            fixture.sandbox.write_note(note).unwrap();
        }
        fixture
    }

    pub(crate) fn publish(&self, version: &str, format: u32, behaviour: Behaviour) {
        self.sandbox.maker.publish(&Release { version, format, behaviour, note: None }).unwrap();
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.sandbox.run(words).unwrap())
    }

    /// Runs cc-warm with fault rules (see `sys/fault.rs`).
    pub(crate) fn run_with_fault(&self, fault: &str, words: &[&str]) -> Ran {
        Ran::of(&self.sandbox.cc_warm(words).env("CC_WARM_FAULT", fault).run().unwrap())
    }

    /// A command's result as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = self.sandbox.run(&words).unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", Ran::of(&output).text))
    }

    /// What `status` says of the app.
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])["apps"][0].clone()
    }

    pub(crate) fn app_dir(&self) -> std::path::PathBuf {
        self.sandbox.state_dir().join("apps").join(APP)
    }

    /// What the operator was told.
    pub(crate) fn alerts(&self) -> String {
        std::fs::read_to_string(self.sandbox.dir().join("alerts.jsonl")).unwrap_or_default()
    }

    /// The app has no data that has to go back: what it writes to its volume is `unmanaged`.
    pub(crate) fn configure_stateless(&self, change: impl FnOnce(&mut Value)) {
        let volume = self.sandbox.volume().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let stateless = |config: &mut Value| {
            config["apps"][APP]["stateful"] = false.into();
            config["apps"][APP]["update"]["unmanaged"] = vec![volume].into();
            change(config);
        };
        self.sandbox.configure(stateless).unwrap();
    }

    pub(crate) fn journal(&self) -> String {
        std::fs::read_to_string(self.app_dir().join("journal.jsonl")).unwrap_or_default()
    }

    /// The version that answers, if any does and is well.
    pub(crate) fn answering(&self) -> Option<String> {
        let (status, body) = self.sandbox.get("/health").ok()?;
        (status == 200).then(|| body.trim().strip_prefix("ok ").unwrap_or_default().to_owned())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if Path::new(&self.sandbox.config()).exists() {
            let _ = self.sandbox.run(&["undeploy", APP, "--wait"]);
        }
    }
}
