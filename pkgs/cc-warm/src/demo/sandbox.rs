//! A folder in which cc-warm has a whole host to itself: state, configuration, a recipe, an app, and the operator's view
//! of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::maker::Maker;
use crate::sys::command::{Output, Program};

/// The name of the app in the sandbox.
pub const APP: &str = "notes";

/// A sandbox with one app.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    program: PathBuf,
    port: u16,
    /// The recipe's maintainer.
    pub maker: Maker,
}

impl Sandbox {
    /// Makes the sandbox in the empty folder `dir`; `program` is cc-warm itself.
    pub fn new(dir: &Path, program: &Path) -> Result<Self> {
        // The app runs as another user, and must reach its code and its data.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        // The program itself, too: root's home is closed to it.
        let copy = dir.join("cc-warm");
        if fs::hard_link(program, &copy).is_err() {
            fs::copy(program, &copy).with_context(|| format!("cannot copy `{}`", program.display()))?;
        }
        let maker = Maker::new(&dir.join("recipes/notes"))?;
        let port = free_port()?;
        let sandbox = Self { dir: dir.to_owned(), program: copy, port, maker };
        sandbox.configure(|_| {})?;
        Ok(sandbox)
    }

    /// Writes the configuration, changed by `change`.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = json!({
            "format": 1,
            "stateDir": self.state_dir(),
            "host": "sandbox",
            "disk": { "reserve": 0 },
            "apps": { APP: {
                "recipe": self.maker.remote(),
                "domain": "notes.example.org",
                "deployer": { "process": {} },
                "env": { "PORT": self.port.to_string(), "CC_WARM_PROGRAM": self.program },
                "health": {
                    "probes": [{ "http": { "url": format!("http://127.0.0.1:{}/health", self.port), "body": "^ok " } }],
                    "successes": 2, "interval": "100ms", "soak": "500ms", "deadline": "3s",
                },
            }},
            "alerts": { "operator": { "command": { "argv": ["tee", "-a", self.dir.join("alerts.jsonl")] } } },
        });
        change(&mut config);
        let text = serde_json::to_string_pretty(&config)?;
        fs::write(self.config(), text).context("cannot write the configuration")
    }

    /// The folder of it all.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// The state folder.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// cc-warm, to be run on this sandbox.
    #[must_use]
    pub fn cc_warm(&self, words: &[&str]) -> Program {
        Program::new(&self.program)
            .arg("--config")
            .arg(self.config())
            .args(words)
            .deadline(Duration::from_mins(2))
            .env_from_ours("CC_WARM_LOG")
    }

    /// Runs cc-warm; whatever it exits with.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        Ok(self.cc_warm(words).run()?)
    }

    /// What the app answers to `GET path`: its status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.request("GET", path, "")
    }

    /// cc-warm itself.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder of the app's volume.
    pub fn volume(&self) -> Result<PathBuf> {
        let volumes = self.state_dir().join("process/volumes");
        let first = fs::read_dir(&volumes)?.next().context("the app has no volume")?;
        Ok(first?.path())
    }

    /// Whether the program of `release`, which reads data up to `format`, refuses to start on a copy of the data in `dir`.
    pub fn start_on(&self, dir: &Path, release: &str, format: u32) -> Result<bool> {
        let copy = self.dir.join("copy");
        fs::create_dir(&copy)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        let output = Program::new(&self.program)
            .args(["demo-app", "--release", release, "--format", &format.to_string(), "--behaviour", "healthy"])
            .env("DATA_DIR", &copy)
            .env("PORT", free_port()?.to_string())
            .deadline(Duration::from_secs(5))
            .run();
        Ok(matches!(output, Ok(output) if !output.status.success()))
    }

    /// Lets a user write a note.
    pub fn write_note(&self, note: &str) -> Result<()> {
        match self.request("POST", "/notes", note)? {
            (200..=299, _) => Ok(()),
            (status, body) => bail!("the app answered {status}: {body}"),
        }
    }

    /// Every note, a line each.
    pub fn notes(&self) -> Result<Vec<String>> {
        let (status, body) = self.get("/notes")?;
        if status != 200 {
            bail!("the app answered {status}: {body}");
        }
        Ok(body.lines().map(ToOwned::to_owned).collect())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("the app does not answer")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: notes\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the app's answer has no end")?;
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the app's answer has no status")?;
        Ok((status, body.to_owned()))
    }
}

/// A port of the loopback that nobody has now, and another one each time. It is below those that the kernel gives to
/// connections, of which one could have it by the time that the app starts.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u32 = 20_000;
    for _ in 0..COUNT {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(number)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of the loopback is free")
}
