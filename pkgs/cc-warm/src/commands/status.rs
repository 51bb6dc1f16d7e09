//! `cc-warm status`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::error::Exit;
use crate::status::{self, AppStatus};
use crate::sys::out::show;

/// Shows every app: what runs, what waits, what is wrong.
///
/// Touches nothing, and asks no remote.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these apps.
    #[arg(value_name = "APP")]
    apps: Vec<AppName>,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::look(global)?;
    for app in &args.apps {
        session.must_be_known(app)?;
    }
    let mut rows = status::all(&session.host, &session.config)?;
    if !args.apps.is_empty() {
        rows.retain(|row| args.apps.contains(&row.app));
    }
    let alerts = session.outbox.list()?;
    let waiting: Vec<_> = alerts.alerts.iter().filter(|shown| shown.pending).collect();
    if session.json {
        print_json(&serde_json::json!({ "format": 1, "apps": rows, "alertsWaiting": waiting.len() }))?;
        return Ok(Exit::Done);
    }
    show!("{}", table(&rows).trim_end());
    if !waiting.is_empty() {
        show!("\n{} alert(s) not delivered yet:", waiting.len());
        for shown in &waiting {
            show!(
                "  {}  {}",
                shown.record.first_at.strftime("%Y-%m-%d %H:%M UTC"),
                shown.record.alert.title.terminal()
            );
        }
    }
    for problem in &alerts.unreadable {
        show!("! {problem}");
    }
    Ok(Exit::Done)
}

fn table(rows: &[AppStatus]) -> String {
    if rows.is_empty() {
        return "no app is declared\n".to_owned();
    }
    let version = |row: &AppStatus| row.version.clone().unwrap_or_else(|| "-".to_owned());
    let width = |text: &dyn Fn(&AppStatus) -> usize, least: usize| rows.iter().map(text).max().unwrap_or(0).max(least);
    let (app, ver) = (width(&|row| row.app.as_str().len(), 3), width(&|row| version(row).len(), 7));
    let mut text = format!("  {:<app$}  {:<8}  {:<ver$}  KNOWN-GOOD\n", "APP", "STATE", "VERSION");
    for row in rows {
        let mark = if row.ok { ' ' } else { '!' };
        let known_good = row.known_good.as_ref().map_or("-".to_owned(), |known| {
            format!("{} of {}", known.version, known.taken_at.strftime("%Y-%m-%d %H:%M UTC"))
        });
        text.push_str(&format!(
            "{mark} {:<app$}  {:<8}  {:<ver$}  {known_good}\n",
            row.app.as_str(),
            row.state,
            version(row)
        ));
        for note in &row.notes {
            text.push_str(&format!("    {note}\n"));
        }
        for hint in &row.hints {
            text.push_str(&format!("    hint: {hint}\n"));
        }
    }
    text
}
