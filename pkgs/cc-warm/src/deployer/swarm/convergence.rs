//! How far a stack is, from its services and tasks.

use jiff::{SignedDuration, Timestamp};

use super::{Service, Task, is_of};
use crate::deployer::Convergence;
use crate::sys::untrusted::Untrusted;

/// A task that fails is started again by the swarm, and many an app only waits for its database that way. It is called
/// dead when it failed so often…
const FAILURES: usize = 3;
/// …and for so long since the deployment nothing of it has come to run.
const PATIENCE: SignedDuration = SignedDuration::from_secs(45);

/// How far the stack is. `since`: when its deployment began, if that is known; what happened before is of no account.
#[must_use]
pub fn convergence(services: &[Service], tasks: &[Task], since: Option<Timestamp>, now: Timestamp) -> Convergence {
    let mut waiting = Vec::new();
    for service in services {
        let own: Vec<&Task> = tasks.iter().filter(|task| task.service_id == service.id).collect();
        match of(service, &own, since, now) {
            Convergence::Converged => {}
            Convergence::Starting(what) => waiting.push(what.raw().to_owned()),
            dead => return dead,
        }
    }
    if waiting.is_empty() { Convergence::Converged } else { Convergence::Starting(Untrusted::new(waiting.join("; "))) }
}

fn of(service: &Service, tasks: &[&Task], since: Option<Timestamp>, now: Timestamp) -> Convergence {
    let name = service.name();
    let starting = |what: String| Convergence::Starting(Untrusted::new(format!("{name} {what}")));
    let died = |what: String| Convergence::Died(Untrusted::new(format!("{name} {what}")));
    if let Some(status) = &service.update_status {
        let is_newer = since.is_some_and(|since| status.started_at.is_some_and(|at| at >= since));
        match status.state.as_str() {
            // The swarm has made up its mind when it begins to go back, and the rest is lost time. What is older than this
            // deployment says nothing of it: `paused` stays for ever.
            "paused" | "rollback_started" | "rollback_paused" | "rollback_completed" if is_newer => {
                return died(format!("was given up by the swarm ({}): {}", status.state, status.message));
            }
            "updating" | "rollback_started" => return starting(format!("is being updated ({})", status.state)),
            _ => {}
        }
    }
    let mode = &service.spec["Mode"];
    let (current, live): (Vec<&&Task>, Vec<&&Task>) = (
        tasks.iter().filter(|task| is_of(service, task)).collect(),
        tasks.iter().filter(|task| matches!(task.desired_state.as_str(), "running" | "ready")).collect(),
    );
    let completed = current.iter().filter(|task| task.status.state == "complete").count();
    if let Some(job) = mode.get("ReplicatedJob").or_else(|| mode.get("GlobalJob")) {
        let wanted = job["TotalCompletions"].as_u64().unwrap_or(1);
        return if completed as u64 >= wanted { Convergence::Converged } else { starting("has not completed".into()) };
    }
    let wanted = match mode.get("Global") {
        Some(_) => live.len().max(1),
        None => usize::try_from(mode["Replicated"]["Replicas"].as_u64().unwrap_or(1)).unwrap_or(usize::MAX),
    };
    let runs = |task: &&&&Task| task.desired_state == "running" && task.status.state == "running";
    let running = current.iter().filter(runs).count();
    let leftover = live.iter().any(|task| task.status.state == "running" && !is_of(service, task));
    // With another condition, a task that completed is started again.
    let condition = service.spec["TaskTemplate"]["RestartPolicy"]["Condition"].as_str().unwrap_or("any");
    let done = if condition == "any" { 0 } else { completed };
    if running + done >= wanted && !leftover {
        return Convergence::Converged;
    }
    let counts = |task: &&&&Task| since.is_none_or(|since| task.created_at.is_none_or(|at| at >= since));
    let ended = |task: &&&&Task| matches!(task.status.state.as_str(), "failed" | "rejected");
    let failed: Vec<_> = current.iter().filter(|task| counts(task) && ended(task)).collect();
    let newest = failed.iter().max_by_key(|task| task.created_at);
    let why = newest.map_or_else(String::new, |task| reason(task));
    let oldest = since.or_else(|| failed.iter().filter_map(|task| task.created_at).min());
    let long = oldest.is_some_and(|oldest| now.duration_since(oldest) >= PATIENCE);
    if failed.len() >= FAILURES && long {
        return died(format!("fails again and again ({} times that are known of): {why}", failed.len()));
    }
    if live.is_empty() && !current.is_empty() && wanted > 0 {
        return died(format!("has ended, and the swarm does not start it again: {why}"));
    }
    let state = live.iter().map(|task| task.status.state.as_str()).collect::<Vec<_>>().join(", ");
    let state = if state.is_empty() { "nothing yet".to_owned() } else { state };
    let why = if why.is_empty() { String::new() } else { format!("; before that: {why}") };
    starting(format!("has {running} of {wanted} running ({state}{why})"))
}

fn reason(task: &Task) -> String {
    let status = &task.status;
    let text = if status.err.is_empty() { &status.message } else { &status.err };
    format!("{} ({})", status.state, text.trim())
}
