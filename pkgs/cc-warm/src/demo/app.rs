//! The little stateful server that the demo and the tests update: it keeps notes in a file whose format goes forward only.
//!
//! `DATA_DIR/notes` begins with a line `format <n>`; then come notes, a line each, durable before they are acknowledged. A
//! program of a newer format migrates the file when it starts; one of an older format refuses it, and ends.
//!
//! `GET /health`: `ok <release>`. `GET /notes`: all of them. `POST /notes`: one more.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::sys::durable;
use crate::sys::out::show;

/// The longest note.
const NOTE_CAP: u64 = 64 << 10;

/// What the recipe's `Procfile` says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it says it is.
    #[arg(long)]
    release: String,
    /// The format that its data has.
    #[arg(long)]
    format: u32,
    /// `healthy`, `broken` (every answer is 500) or `dies` (after the migration).
    #[arg(long, default_value = "healthy")]
    behaviour: String,
}

/// Serves until it is asked to end.
pub fn serve(args: &Args) -> Result<()> {
    let data: PathBuf = std::env::var_os("DATA_DIR").context("DATA_DIR is not set")?.into();
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).context("PORT is no port")?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let notes = Notes { path: data.join("notes") };
    notes.migrate(args.format)?;
    show!("{} runs on data of format {}", args.release, args.format);
    if args.behaviour == "dies" {
        bail!("{} cannot go on", args.release);
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port} cannot be had"))?;
    listener.set_nonblocking(true)?;
    while !ended.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(&stream, args, &notes) {
                    show!("a request failed: {error:#}");
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e.into()),
        }
    }
    show!("{} ends", args.release);
    Ok(())
}

struct Notes {
    path: PathBuf,
}

impl Notes {
    fn migrate(&self, format: u32) -> Result<()> {
        let Some(bytes) = durable::read(&self.path)? else {
            return durable::replace(&self.path, format!("format {format}\n").as_bytes());
        };
        let text = String::from_utf8(bytes)?;
        let (head, rest) = text.split_once('\n').context("the notes have no format")?;
        let found: u32 =
            head.strip_prefix("format ").and_then(|n| n.parse().ok()).context("the notes have no format")?;
        ensure!(found <= format, "it refuses the data: it has format {found}, this program reads up to {format}");
        if found < format {
            durable::replace(&self.path, format!("format {format}\n{rest}").as_bytes())?;
            show!("migrated the data from format {found} to {format}");
        }
        Ok(())
    }

    fn all(&self) -> Result<String> {
        let text = fs::read_to_string(&self.path)?;
        Ok(text.split_once('\n').map_or(String::new(), |(_, notes)| notes.to_owned()))
    }

    fn add(&self, note: &str) -> Result<()> {
        ensure!(!note.is_empty() && !note.contains(['\n', '\r']), "a note is one line");
        durable::append(Path::new(&self.path), format!("{note}\n").as_bytes())
    }
}

fn answer(mut stream: &TcpStream, args: &Args, notes: &Notes) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream.take(2 * NOTE_CAP));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("a length that is no number")?;
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    let mut words = first.split(' ');
    let (status, text) = match (args.behaviour.as_str(), words.next(), words.next()) {
        ("broken", ..) => ("500 Internal Server Error", "the new storage engine is not there\n".to_owned()),
        (_, Some("GET"), Some("/health")) => ("200 OK", format!("ok {}\n", args.release)),
        (_, Some("GET"), Some("/notes")) => ("200 OK", notes.all()?),
        (_, Some("POST"), Some("/notes")) => {
            notes.add(&body)?;
            ("201 Created", String::new())
        }
        _ => ("404 Not Found", "no such page\n".to_owned()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())?;
    Ok(())
}
