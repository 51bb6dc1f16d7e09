//! A sandbox whose app is a shell script, on each rung of how strongly an app can be kept together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_warm::config::{App, Config};
use cc_warm::demo::sandbox::APP;
use cc_warm::deployer::{self, Deployment, Observed};
use cc_warm::host::Host;
use cc_warm::lock::{AppLock, Wait};
use cc_warm::sys::clock::{Clock, Deadline};
use cc_warm::sys::dirs::Dirs;
use cc_warm::sys::procfs::{self, ProcessId};
use cc_warm::sys::signals::Interrupt;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Ran};

/// The user without rights as which the tests that need one run, where they are root.
pub(super) const NOBODY: u32 = 65534;

/// How strongly an app is kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// The strongest for the user who runs the tests.
    Own,
    /// No namespace can be had.
    Session,
    /// Not root.
    Unprivileged,
    /// Not root, and no namespace can be had.
    UnprivilegedSession,
}

pub(super) const RUNGS: [Rung; 4] = [Rung::Own, Rung::Session, Rung::Unprivileged, Rung::UnprivilegedSession];

/// A sandbox whose app is a shell script.
pub(super) struct Scripted {
    pub(super) fixture: Fixture,
    rung: Rung,
}

impl Scripted {
    /// Deployed, and past both gates. `script` is run by `sh` in the app's place.
    pub(super) fn running(rung: Rung, script: &str) -> Self {
        let this = Self::prepared(rung, script);
        this.run(&["update", APP]).expect(0);
        this
    }

    pub(super) fn prepared(rung: Rung, script: &str) -> Self {
        let fixture = Fixture::empty();
        let maker = &fixture.sandbox.maker;
        maker.write("Procfile", "web: sh run.sh\n").unwrap();
        maker.write("Volumes", "data: DATA_DIR\n").unwrap();
        maker.write("run.sh", script).unwrap();
        maker.git(&["add", "--all"]).unwrap();
        maker.git(&["commit", "--quiet", "--message", "1.0.0+1"]).unwrap();
        maker.git(&["tag", "1.0.0+1"]).unwrap();
        fixture
            .sandbox
            .configure(|config| {
                let app = &mut config["apps"][APP];
                app["env"] = json!({ "TIMEOUT": "1", "STATE": fixture.sandbox.state_dir() });
                app["health"]["probes"] = json!([{ "command": { "argv": ["true"] } }]);
                app["health"]["soak"] = json!("0s");
            })
            .unwrap();
        let this = Self { fixture, rung };
        if this.user().is_some() {
            give(this.fixture.sandbox.dir(), NOBODY);
        }
        this
    }

    pub(super) fn user(&self) -> Option<u32> {
        let unprivileged = matches!(self.rung, Rung::Unprivileged | Rung::UnprivilegedSession);
        (unprivileged && rustix::process::geteuid().is_root()).then_some(NOBODY)
    }

    pub(super) fn run(&self, words: &[&str]) -> Ran {
        let mut program = self.fixture.sandbox.cc_warm(words);
        if matches!(self.rung, Rung::Session | Rung::UnprivilegedSession) {
            program = program.env("CC_WARM_SUPERVISOR_FAULT", "process.start.namespace=fail");
        }
        if let Some(user) = self.user() {
            program = program.user(user, user);
        }
        Ran::of(&program.run().unwrap())
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.fixture.sandbox.state_dir()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.state_dir().join("process/volumes/notes_example_org_data/_data")
    }

    /// What the app wrote to `name` in its volume, once it is there.
    pub(super) fn written(&self, name: &str) -> String {
        let path = self.data().join(name);
        wait_for(&format!("the app to write `{name}`"), || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    pub(super) fn status_file(&self) -> Value {
        serde_json::from_slice(&fs::read(app_folder(&self.state_dir()).join("status.json")).unwrap()).unwrap()
    }

    pub(super) fn supervisor(&self) -> ProcessId {
        serde_json::from_value(self.status_file()["supervisor"].clone()).unwrap()
    }

    /// Host and app, as the library sees them; for the user who runs the tests.
    pub(super) fn library(&self) -> (Host, App) {
        library(&self.fixture)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.run(&["undeploy", APP, "--wait"]);
    }
}

pub(super) fn library(fixture: &Fixture) -> (Host, App) {
    let host = Host {
        dirs: Dirs::new(fixture.sandbox.state_dir()),
        clock: Clock::system(),
        interrupt: Interrupt::never(),
        exe: fixture.sandbox.program().to_owned(),
        reserve: 0,
        command: "a test".to_owned(),
    };
    let config = Config::load(&fixture.sandbox.config()).unwrap();
    let app = config.app(&APP.parse().unwrap()).unwrap().clone();
    (host, app)
}

pub(super) fn lock(host: &Host, app: &App) -> AppLock {
    AppLock::take(&host.dirs, &app.name, "a test", host.clock, Wait::For(Duration::from_secs(20)), &mut |_| {}).unwrap()
}

pub(super) fn present(host: &Host, app: &App) -> Deployment {
    match deployer::open(host, app).unwrap().observe().unwrap() {
        Observed::Present(deployment) => deployment,
        Observed::Absent { .. } => panic!("nothing is deployed"),
    }
}

pub(super) fn app_folder(state: &Path) -> PathBuf {
    state.join("process/apps").join(APP)
}

pub(super) fn give(path: &Path, user: u32) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path(), user);
        } else if entry.file_name() != "cc-warm" {
            std::os::unix::fs::lchown(entry.path(), Some(user), Some(user)).unwrap();
        }
    }
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

/// Asks until there is an answer.
#[track_caller]
pub(super) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!deadline.is_over(), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes with `word` in their command line.
pub(super) fn with_word(word: &str) -> Vec<i32> {
    let has = |pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).any(|found| found == word.as_bytes())
    };
    procfs::all().into_iter().map(|process| process.id.pid).filter(|&pid| has(pid)).collect()
}

/// A number of seconds to sleep for that no other test has.
pub(super) fn unique() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    format!("{}", 1_000_000_000 + u64::from(std::process::id()) * 100 + u64::from(next))
}

/// One that left its parents, its session and its signals behind.
pub(super) fn daemon(sleep: &str) -> String {
    format!(
        "setsid sh -c 'trap \"\" TERM HUP; (setsid sleep {sleep} </dev/null >/dev/null 2>&1 &) &' &\nexec sleep {sleep}\n"
    )
}

pub(super) fn on_each_rung(claim: impl Fn(Rung) + Sync) {
    std::thread::scope(|scope| {
        let claim = &claim;
        for handle in RUNGS.map(|rung| (rung, scope.spawn(move || claim(rung)))) {
            assert!(handle.1.join().is_ok(), "on {:?}", handle.0);
        }
    });
}
