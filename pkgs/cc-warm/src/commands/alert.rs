//! `cc-warm alert`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::session::{Session, print_json};
use crate::alert::routes::Routes;
use crate::alert::{Alert, Delivery, Hearing, Kind, Options};
use crate::cli::Global;
use crate::error::{Because, Exit, Problem};
use crate::sys::command::Program;
use crate::sys::out::{say, show};
use crate::sys::random;
use crate::sys::untrusted::Untrusted;

/// What delivers alerts on a host that the NixOS module has set up.
const UNIT: &str = "cc-warm-alerts.service";
/// Longer than the unit itself may take.
const DELIVERY: Duration = Duration::from_mins(11);

/// Delivers alerts, or sends a test.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Delivers what waits in the outbox. Runs every few minutes.
    Deliver,
    /// Sends a test alert to every sink.
    ///
    /// Where `cc-warm-alerts.service` is, that delivers it: a sink may work in a shell and not in the unit.
    Test,
    /// Tells that a systemd unit of cc-warm failed; the units' `OnFailure=` starts it.
    UnitFailed {
        /// The unit.
        unit: String,
    },
}

/// Runs it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    let session = Session::telling(global)?;
    if matches!(command, Command::Test) {
        return test(&session);
    }
    if let Command::UnitFailed { unit } = command
        && let Some(alert) = unit_failed(unit, &|key| std::env::var(key).ok())?
    {
        // Not the code of a receiver that is down, with which the unit may end.
        let problem = || Problem::new("nobody is told: the alert cannot be written down").exit(Exit::NotReady);
        session.outbox.raise(alert, session.host.clock.now()).problem(problem)?;
    }
    let delivery = deliver(&session)?;
    if session.json {
        print_json(&serde_json::json!({
            "format": 1, "sent": delivery.sent, "left": delivery.left, "failures": delivery.failures, "busy": delivery.busy,
        }))?;
    } else if delivery.busy {
        show!("another process delivers them");
    } else {
        show!("{} message(s) sent, {} alert(s) left", delivery.sent, delivery.left);
    }
    for (sink, why) in &delivery.failures {
        say!("warning: `{sink}` does not take them: {why}");
    }
    Ok(if delivery.failures.is_empty() { Exit::Done } else { Exit::Failed })
}

fn deliver(session: &Session) -> Result<Delivery> {
    let options = Options {
        interrupt: session.host.interrupt.clone(),
        routes: Routes::of(&session.config),
        ..Options::default()
    };
    let delivery = session.outbox.deliver(&session.config.alerts, session.host.clock.now(), &options)?;
    for problem in &delivery.unreadable {
        say!("warning: {problem}");
    }
    Ok(delivery)
}

/// Raises a test alert, has it delivered by whoever delivers alerts here, and says what became of it at each sink.
fn test(session: &Session) -> Result<Exit> {
    let sinks = &session.config.alerts;
    if sinks.is_empty() {
        return Err(Problem::new("no alert is configured, so nobody would be told")
            .exit(Exit::Usage)
            .hint("set `services.ccWarm.alerts`")
            .into());
    }
    let alert = Alert::new(Kind::Test, random::id()?, "a test: alerts of this host arrive here");
    session.outbox.raise(alert.clone(), session.host.clock.now())?;
    let is_tried = || -> Result<bool> {
        Ok(session.outbox.told(&alert, sinks.keys())?.values().any(|hearing| *hearing != Hearing::NotTried))
    };
    let mut busy = false;
    let by_unit = has_unit() && started(session, &is_tried)?;
    if !by_unit {
        if !session.json {
            show!("delivered by this process: {UNIT} is not here, or did not come to it");
        }
        busy = deliver(session)?.busy;
    }
    let told = session.outbox.told(&alert, sinks.keys())?;
    let heard = told.values().filter(|hearing| **hearing == Hearing::Heard).count();
    let failures: BTreeMap<&str, &str> =
        told.iter().filter_map(|(sink, hearing)| Some((sink.as_str(), why_not(hearing)?))).collect();
    if session.json {
        print_json(&serde_json::json!({
            "format": 1, "sent": heard, "left": usize::from(!failures.is_empty()), "failures": failures, "busy": busy,
            "by": if by_unit { "unit" } else { "process" },
        }))?;
    } else {
        for (sink, hearing) in &told {
            match why_not(hearing) {
                None => show!("`{sink}`: delivered"),
                Some(why) => show!("`{sink}`: NOT delivered: {}", Untrusted::new(why).terminal()),
            }
        }
    }
    if failures.is_empty() {
        return Ok(Exit::Done);
    }
    say!("hint: {}", if by_unit { "journalctl -u cc-warm-alerts" } else { "cc-warm alert test" });
    Ok(if busy { Exit::Busy } else { Exit::Failed })
}

fn why_not(hearing: &Hearing) -> Option<&str> {
    match hearing {
        Hearing::Heard => None,
        Hearing::Failed(why) => Some(why),
        Hearing::NotTried => {
            Some("it was not tried: the sink did not take an earlier alert, or another process delivers")
        }
    }
}

/// Whether alerts are delivered by a unit here.
fn has_unit() -> bool {
    let asked = Program::new("systemctl")
        .args(["show", "--property=LoadState", "--value", UNIT])
        .deadline(Duration::from_secs(5))
        .run();
    asked.is_ok_and(|said| said.stdout.trim_ascii() == b"loaded")
}

/// Has the unit deliver, and waits for its end. `false`: it serves another state folder.
fn started(session: &Session, is_tried: &dyn Fn() -> Result<bool>) -> Result<bool> {
    say!("{UNIT} delivers it, as it does every alert");
    // It may have been at it already, without this one; then it is started once more.
    for _ in 0..2 {
        let start =
            Program::new("systemctl").args(["start", UNIT]).deadline(DELIVERY).ends_with(&session.host.interrupt);
        let done = start.run_ok();
        if is_tried()? {
            return Ok(true);
        }
        done.map_err(|error| {
            let problem = Problem::new(format!("{UNIT} failed, so no alert of this host is delivered by it"));
            problem.hint("journalctl -u cc-warm-alerts").because(error)
        })?;
    }
    Ok(false)
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
