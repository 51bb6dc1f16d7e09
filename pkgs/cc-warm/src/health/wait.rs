//! Performs rounds and waits between them.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::course::{Course, Next, Outcome, Rules};
use super::probe::{self, Answer, Condition};
use super::report::{Phase, Progress, Report, Verdict};
use crate::config::App;
use crate::deployer::{Convergence, DeployError};
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;

/// How often the interrupt is looked at between rounds.
const TICK: Duration = Duration::from_millis(50);
/// A round that begins right before the deadline still gets so long: being asked late is not the app's fault.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);

/// What is watched, and who is told.
pub struct Watch<'a> {
    /// The app.
    pub app: &'a App,
    /// Apps that must be healthy before this one can be: while one of them fails its own probes, a failure of this
    /// app is not held against it.
    pub predecessors: &'a [&'a App],
    /// What the deployer says of the app now.
    pub observe: &'a mut dyn FnMut() -> Result<Convergence, DeployError>,
    /// Ends the wait within 100 ms, or when the round under way is over.
    pub interrupt: &'a Interrupt,
    /// Told after each round.
    pub progress: &'a mut dyn FnMut(&Progress),
}

/// Waits until `rules` are met or cannot be met any more.
///
/// An error means that nothing is known of the app's health: the deployer (or a predecessor) was not ready for as long
/// as the deadline, or the deployer said that something is wrong with the deployment itself.
pub fn wait(watch: &mut Watch, rules: &Rules) -> Result<Verdict, DeployError> {
    let mut course = Course::new(*rules);
    let began = Instant::now();
    for attempts in 1.. {
        if watch.interrupt.is_set() {
            return Ok(Verdict::Interrupted);
        }
        let from = began.elapsed();
        let Round { answer, not_ready } = round(watch, course.left(from).max(SHORTEST_ROUND))?;
        let elapsed = began.elapsed();
        let next = course.round(outcome(answer.condition), from, elapsed);
        (watch.progress)(&Progress {
            elapsed,
            round: attempts,
            phase: phase(&course, rules, elapsed),
            answer: &answer,
        });
        let serves_since = course.row_since().map(|after| began + after);
        let report = |answer| Report { answer, attempts, elapsed, serves_since };
        match next {
            Next::Healthy => return Ok(Verdict::Healthy(report(answer))),
            Next::Unhealthy if answer.ok() => return Ok(Verdict::Unhealthy(report(too_late(rules, &answer)))),
            Next::Unhealthy => return Ok(Verdict::Unhealthy(report(answer))),
            Next::Died => return Ok(Verdict::Died(report(answer))),
            Next::NotReady => return Err(not_ready.unwrap_or_else(|| DeployError::not_ready(anyhow!(answer.summary)))),
            Next::Round(at) => {
                while !watch.interrupt.is_set() && began.elapsed() < at {
                    std::thread::sleep(TICK.min(at.saturating_sub(began.elapsed())));
                }
            }
        }
    }
    Ok(Verdict::Interrupted)
}

/// One round, now.
///
/// [`Condition::Starting`] in the report of an unhealthy app means that it needs more time.
pub fn check_now(watch: &mut Watch) -> Result<Verdict, DeployError> {
    let began = Instant::now();
    let Round { answer, not_ready } = round(watch, Duration::MAX)?;
    if let Some(error) = not_ready {
        return Err(error);
    }
    let condition = answer.condition;
    let serves_since = answer.ok().then(Instant::now);
    let report = Report { answer, attempts: 1, elapsed: began.elapsed(), serves_since };
    Ok(match condition {
        Condition::Passed => Verdict::Healthy(report),
        Condition::Died => Verdict::Died(report),
        _ => Verdict::Unhealthy(report),
    })
}

/// Whether the app is healthy before an update: one round, but tasks that are still starting are waited for, up to
/// the app's deadline.
pub fn before_update(watch: &mut Watch) -> Result<Verdict, DeployError> {
    let verdict = check_now(watch)?;
    match &verdict {
        Verdict::Unhealthy(report) if report.answer.condition == Condition::Starting => {
            let rules = Rules::one_success(&watch.app.health);
            wait(watch, &rules)
        }
        _ => Ok(verdict),
    }
}

struct Round {
    answer: Answer,
    /// Why nothing can be known.
    not_ready: Option<DeployError>,
}

fn round(watch: &mut Watch, limit: Duration) -> Result<Round, DeployError> {
    if let Some(round) = observed(watch)? {
        return Ok(round);
    }
    let answer = ask_all(watch.app, limit);
    if answer.ok() {
        return Ok(Round { answer, not_ready: None });
    }
    // A probe that failed because the app died must not be waited out.
    if let Some(round) = observed(watch)? {
        return Ok(round);
    }
    for &before in watch.predecessors {
        let theirs = ask_all(before, limit);
        if !theirs.ok() {
            let why = format!("`{}`, which `{}` comes after, is not healthy", before.name, watch.app.name);
            let error = anyhow!(theirs.summary.clone()).context(why.clone());
            let answer =
                Answer { condition: Condition::Unknown, summary: format!("{why}: {}", theirs.summary), ..theirs };
            return Ok(Round { answer, not_ready: Some(DeployError::NotReady(error)) });
        }
    }
    Ok(Round { answer, not_ready: None })
}

/// What the deployer says, unless that is that everything runs.
fn observed(watch: &mut Watch) -> Result<Option<Round>, DeployError> {
    let answer = |condition, summary: &str, detail: Untrusted| {
        let summary =
            if detail.raw().is_empty() { summary.to_owned() } else { format!("{summary}: {}", detail.terminal()) };
        Ok(Some(Round { answer: Answer::new(condition, summary), not_ready: None }))
    };
    match (watch.observe)() {
        Ok(Convergence::Converged) => Ok(None),
        Ok(Convergence::Starting(detail)) => answer(Condition::Starting, "not all of it runs yet", detail),
        Ok(Convergence::Died(detail)) => answer(Condition::Died, "it died", detail),
        Ok(Convergence::Down) => answer(Condition::Died, "nothing of it runs", Untrusted::default()),
        Err(DeployError::NotReady(error)) => {
            let summary = format!("nothing can be known of it: {}", Untrusted::new(format!("{error:#}")).terminal());
            let answer = Answer::new(Condition::Unknown, summary);
            Ok(Some(Round { answer, not_ready: Some(DeployError::NotReady(error)) }))
        }
        Err(error) => Err(error),
    }
}

/// All probes of `app`, at once; the answer is the first failure in the order of the configuration.
fn ask_all(app: &App, limit: Duration) -> Answer {
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            app.health.probes.iter().map(|probe| scope.spawn(move || probe::ask(app, probe, limit))).collect();
        asked
            .into_iter()
            .map(|asking| {
                asking.join().unwrap_or_else(|_| Answer::new(Condition::Failed, "a probe ended by a fault of cc-warm"))
            })
            .collect()
    });
    let count = answers.len();
    let failure = answers.iter().find(|answer| !answer.ok()).cloned();
    failure.unwrap_or_else(|| match answers.into_iter().last() {
        None => Answer::new(Condition::Passed, "everything runs (no probe is configured)"),
        Some(only) if count == 1 => only,
        Some(_) => Answer::new(Condition::Passed, format!("all {count} probes passed")),
    })
}

/// The answer of an app that passes its probes with no time left to prove that it stays so.
fn too_late(rules: &Rules, answer: &Answer) -> Answer {
    let Rules { successes, soak, deadline, .. } = rules;
    let summary = format!(
        "it passes now, but too late for {successes} rounds in a row and a soak of {soak:?} before its deadline of \
         {deadline:?}: {}",
        answer.summary
    );
    Answer::new(Condition::Failed, summary)
}

fn outcome(condition: Condition) -> Outcome {
    match condition {
        Condition::Passed => Outcome::Passed,
        Condition::Failed | Condition::Starting => Outcome::Failed,
        Condition::Died => Outcome::Died,
        Condition::Unknown => Outcome::Unknown,
    }
}

fn phase(course: &Course, rules: &Rules, now: Duration) -> Phase {
    course
        .soak_left(now)
        .map_or(Phase::Counting { passed: course.row(), wanted: rules.successes }, |left| Phase::Soaking { left })
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
