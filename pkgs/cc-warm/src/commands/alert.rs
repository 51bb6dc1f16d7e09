//! `cc-warm alert`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::alert::routes::Routes;
use crate::alert::{Alert, Kind, Options};
use crate::cli::Global;
use crate::error::{Exit, Problem};
use crate::sys::out::{say, show};
use crate::sys::random;

/// Delivers alerts, or sends a test.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Delivers what waits in the outbox. Runs every few minutes.
    Deliver,
    /// Sends a test alert to every sink.
    Test,
    /// Tells that a systemd unit of cc-warm failed; the units' `OnFailure=` starts it.
    UnitFailed {
        /// The unit.
        unit: String,
    },
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
    if let Command::UnitFailed { unit } = command
        && let Some(alert) = unit_failed(unit, &|key| std::env::var(key).ok())?
    {
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
        show!("another process delivers them");
    } else {
        show!("{} message(s) sent, {} alert(s) left", delivery.sent, delivery.left);
    }
    for problem in &delivery.unreadable {
        say!("warning: {problem}");
    }
    for (sink, why) in &delivery.failures {
        say!("warning: `{sink}` does not take them: {why}");
    }
    Ok(if delivery.failures.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The alert of a unit that failed, as systemd's `MONITOR_…` variables tell of it. An update's own outcome, like stuck,
/// has an alert already.
fn unit_failed(unit: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Alert>> {
    let status = variable("MONITOR_EXIT_STATUS");
    let code = status.as_ref().and_then(|status| status.parse::<u8>().ok());
    let exited = variable("MONITOR_EXIT_CODE").as_deref() == Some("exited");
    if exited && code.is_some_and(|code| (Exit::Held as u8..=Exit::Busy as u8).contains(&code)) {
        return Ok(None);
    }
    // Each failed run of the unit is an event of its own.
    let run = variable("MONITOR_INVOCATION_ID").map_or_else(random::id, Ok)?;
    let mut alert = Alert::new(Kind::UnitFailed, format!("{unit} {run}"), format!("the unit {unit} failed"));
    for (label, value) in [("result", variable("MONITOR_SERVICE_RESULT")), ("exit status", status)] {
        if let Some(value) = value {
            alert = alert.fact(label, value);
        }
    }
    Ok(Some(alert.hint(format!("journalctl -u {unit}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_crashed_is_told_of_and_an_outcome_only_by_its_own_alert() {
        for (result, code, status, told) in [
            ("signal", "killed", "SEGV", true),
            ("timeout", "killed", "KILL", true),
            ("exit-code", "exited", "101", true),
            ("exit-code", "exited", "2", true),
            ("exit-code", "exited", "1", true),
            ("exit-code", "exited", "12", false),
            ("exit-code", "exited", "11", false),
            // systemd's own: the sandbox or a credential could not be set up.
            ("exit-code", "exited", "226", true),
            ("exit-code", "exited", "243", true),
        ] {
            let variable = |key: &str| {
                Some(match key {
                    "MONITOR_SERVICE_RESULT" => result.to_owned(),
                    "MONITOR_EXIT_CODE" => code.to_owned(),
                    "MONITOR_EXIT_STATUS" => status.to_owned(),
                    _ => "0123".to_owned(),
                })
            };
            let alert = unit_failed("cc-warm-update-a.service", &variable).unwrap();
            assert_eq!(alert.is_some(), told, "{result} {code} {status}");
            if let Some(alert) = alert {
                assert_eq!(alert.fingerprint, "cc-warm-update-a.service 0123");
                assert_eq!(alert.facts.len(), 2);
            }
        }
        let alert = unit_failed("x.service", &|_| None).unwrap();
        assert!(alert.is_some(), "an older systemd says nothing of it");
    }
}
