//! `cc-warm history`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::downtime::seconds;
use crate::error::Exit;
use crate::history::{self, Entry};
use crate::sys::out::show;

/// Shows what was done to an app, the newest last.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// Show so many operations.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    lines: usize,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::look(global)?;
    session.must_be_known(&args.app)?;
    let entries = history::read(&session.host.dirs, &args.app)?;
    let shown = &entries[entries.len().saturating_sub(args.lines)..];
    if session.json {
        print_json(&serde_json::json!({ "format": 1, "app": args.app, "operations": shown }))?;
    } else if shown.is_empty() {
        show!("{}: nothing was done yet", args.app);
    } else {
        for entry in shown {
            show!("{}", line(entry));
        }
    }
    Ok(Exit::Done)
}

fn line(entry: &Entry) -> String {
    let version = |identity: &Option<crate::identity::Identity>| {
        identity.as_ref().map_or("nothing".to_owned(), |identity| identity.version.to_string())
    };
    let mut text = format!(
        "{}  {:<12} {:<12} {} → {}",
        entry.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        entry.kind,
        entry.outcome,
        version(&entry.from),
        version(&entry.to)
    );
    if let Some(ms) = entry.downtime_ms {
        let parts = entry.downtime_parts.map(|parts| parts.describe()).filter(|parts| !parts.is_empty());
        let parts = parts.map_or(String::new(), |parts| format!(": {parts}"));
        text.push_str(&format!("  (down {}{parts})", seconds(ms)));
    }
    if let Some(reason) = &entry.reason {
        text.push_str(&format!("\n    {}", reason.terminal_lines().replace('\n', "\n    ")));
    }
    text
}
