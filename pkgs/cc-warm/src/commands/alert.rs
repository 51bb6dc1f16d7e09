//! `cc-warm alert`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::alert::routes::Routes;
use crate::alert::{Alert, Kind, Options};
use crate::cli::Global;
use crate::error::{Exit, Problem};
use crate::sys::random;

/// Delivers alerts, or sends a test.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Delivers what waits in the outbox. Runs every few minutes.
    Deliver,
    /// Sends a test alert to every sink.
    Test,
}

/// Runs it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    let session = Session::open(global)?;
    if matches!(command, Command::Test) {
        if session.config.alerts.is_empty() {
            return Err(Problem::new("no alert is configured, so nobody would be told")
                .exit(Exit::Usage)
                .hint("set `services.ccWarm.alerts`")
                .into());
        }
        let alert = Alert::new(Kind::Test, random::id()?, "a test: alerts of this host arrive here");
        session.outbox.raise(alert, session.host.clock.now())?;
    }
    let options = Options {
        interrupt: session.host.interrupt.clone(),
        routes: Routes::of(&session.config),
        ..Options::default()
    };
    let delivery = session.outbox.deliver(&session.config.alerts, session.host.clock.now(), &options)?;
    if session.json {
        print_json(&serde_json::json!({
            "format": 1, "sent": delivery.sent, "left": delivery.left, "failures": delivery.failures, "busy": delivery.busy,
        }))?;
    } else if delivery.busy {
        println!("another process delivers them");
    } else {
        println!("{} message(s) sent, {} alert(s) left", delivery.sent, delivery.left);
    }
    for problem in &delivery.unreadable {
        eprintln!("warning: {problem}");
    }
    for (sink, why) in &delivery.failures {
        eprintln!("warning: `{sink}` does not take them: {why}");
    }
    Ok(if delivery.failures.is_empty() { Exit::Done } else { Exit::Failed })
}
