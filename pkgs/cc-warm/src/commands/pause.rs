//! `cc-warm pause`

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Map;

use super::results::{Done, Results};
use super::session::Session;
use crate::cli::{Global, WaitFlag};
use crate::config::duration::Span;
use crate::config::names::AppName;
use crate::error::{Because, Exit, Problem};
use crate::state::{AppState, Paused};

/// Stops updates of an app until `resume`.
///
/// Survives reboots. What is under way is not touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps.
    #[arg(required_unless_present = "all", value_name = "APP")]
    apps: Vec<AppName>,
    /// Every declared app.
    #[arg(long, conflicts_with = "apps")]
    all: bool,
    /// Until then: a time (`2026-12-24T18:00Z`) or a duration from now (`3d`).
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Why; shown wherever the pause is.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let now = session.host.clock.now();
    let until = args.until.as_deref().map(|text| parse_until(text, now)).transpose()?;
    let mut results = Results::new(session.json);
    for app in session.select(&args.apps)? {
        let pause = || -> Result<()> {
            let _lock = session.lock(&app, args.wait.wait())?;
            let mut state = AppState::load(&session.host.dirs, &app)?;
            state.paused = Some(Paused { since: now, until, reason: args.reason.clone(), unknown: Map::new() });
            state.save(&session.host.dirs, &app)
        };
        // One that is busy keeps no other from being paused.
        if let Err(error) = pause() {
            results.error(&app, error);
            continue;
        }
        let mut done = Done::new(
            "paused",
            format!("paused {}", until.map_or("until `cc-warm resume`".to_owned(), |until| format!("until {until}"))),
        );
        if let Some(until) = until {
            done = done.with("until", until.to_string());
        }
        results.done(&app, done);
    }
    results.finish()
}

fn parse_until(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let problem = || {
        Problem::new(format!("`--until {text}` is neither a time nor a duration"))
            .exit(Exit::Usage)
            .hint("write `--until 2026-12-24T18:00Z` or `--until 3d`")
    };
    let span = Span::parse(text).map_err(anyhow::Error::msg).problem(problem)?;
    now.checked_add(jiff::SignedDuration::try_from(span.duration())?).context("that is too far away").problem(problem)
}
