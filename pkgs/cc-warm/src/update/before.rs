//! What an update asks before it looks at the app: the apps that come before it, and its recipe's remote.

use std::time::Duration;

use anyhow::Result;

use super::assess;
use super::context::Context;
use super::journal;
use super::notice;
use super::outcome::Outcome;
use super::saga::EventName;
use super::unit;
use crate::alert::Kind as AlertKind;
use crate::config::App;
use crate::config::names::AppName;
use crate::deployer::{self, Convergence, Observed};
use crate::lock;
use crate::state::AppState;
use crate::sys::clock::Deadline;
use crate::sys::untrusted::Untrusted;

/// The longest that an update of an app that comes before is waited for, beyond its own deadlines.
const MOVING_DATA: Duration = Duration::from_hours(2);

/// How often it is asked whether another unit has begun, or ended.
const PAUSE: Duration = Duration::from_millis(300);

/// Why an app that this one comes after is not as it should be. One that is being worked on, or is to be, is waited for:
/// units of a night or a switch start in any order.
pub fn infrastructure(context: &Context<'_>, app: &App) -> Result<Option<String>> {
    for before in &app.after {
        if !is_done(context, app, before)? {
            return Ok(Some(format!("`{before}`, which comes before it, is still being worked on")));
        }
        if let Some(why) = what_is_wrong(context, before)? {
            return Ok(Some(format!("infrastructure not healthy: `{before}`, which comes before it, {why}")));
        }
    }
    Ok(None)
}

/// Waits until nobody works on `before`, and its unit is not about to. False: that took too long, or we are asked to end.
fn is_done(context: &Context<'_>, app: &App, before: &AppName) -> Result<bool> {
    let interrupt = &context.host.interrupt;
    let deadline = context.config.apps.get(before).map_or(Duration::ZERO, |app| app.health.deadline.duration());
    let limit = Deadline::after(deadline.saturating_mul(2).saturating_add(MOVING_DATA));
    let mut told = false;
    let mut say = |why: &str| {
        if !std::mem::replace(&mut told, true) {
            context.narrator.say(&format!("waiting for `{before}`, which comes first: {why}"));
        }
    };
    loop {
        if !lock::wait_until_free(&context.host.dirs, before, limit.left(), interrupt, &mut say)? {
            return Ok(false);
        }
        if !unit::is_to_come(before, &app.name) {
            return Ok(true);
        }
        say("its update is to run now");
        if interrupt.is_set_within(PAUSE.min(limit.left())) || limit.is_over() {
            return Ok(false);
        }
    }
}

/// What is wrong with an app that others come after. A file of it that cannot be used is a fault of this app and not of
/// those.
fn what_is_wrong(context: &Context<'_>, name: &AppName) -> Result<Option<&'static str>> {
    let dirs = &context.host.dirs;
    let Ok(state) = AppState::load(dirs, name) else { return Ok(Some("has a state that cannot be used")) };
    let Ok(under_way) = journal::peek(dirs, name) else { return Ok(Some("has a journal that cannot be used")) };
    let is_left = under_way.is_some_and(|progress| progress.last != EventName::Begun);
    let last = state.last_run.as_ref().map(|run| run.outcome.as_str());
    if is_left || state.stuck.is_some() || matches!(last, Some("rolled-back" | "stuck" | "stuck-already")) {
        return Ok(Some("is not as it should be"));
    }
    let Some(app) = context.config.apps.get(name) else { return Ok(None) };
    let runs = match deployer::open(context.host, app)?.observe()? {
        Observed::Present(deployment) => !matches!(deployment.state, Convergence::Died(_) | Convergence::Down),
        Observed::Absent { .. } => true,
    };
    Ok((!runs).then_some("does not run"))
}

/// Asks the recipe's remote. A failure touches nothing; after some in a row the operator is told.
pub fn fetch(context: &Context<'_>, app: &App, state: &mut AppState) -> Result<Option<Outcome>> {
    let (dirs, name) = (&context.host.dirs, &app.name);
    match context.recipes.published(&app.remote) {
        Ok(published) => {
            let new = assess::note_seen(state, &published, context.host.clock.now());
            if state.fetch_failures > 0 {
                state.fetch_failures = 0;
                context.resolve(name, &[AlertKind::FetchFailing])?;
                state.save(dirs, name)?;
            } else if new {
                state.save(dirs, name)?;
            }
            Ok(None)
        }
        Err(_) if context.host.interrupt.is_set() => Ok(Some(Outcome::Cancelled)),
        Err(error) => {
            let reason = Untrusted::new(format!("{error:#}"));
            state.fetch_failures = state.fetch_failures.saturating_add(1);
            state.save(dirs, name)?;
            if state.fetch_failures >= context.config.fetch_failures {
                notice::fetch_failing(context, app, state.fetch_failures, &reason)?;
            }
            Ok(Some(Outcome::FetchFailed { reason }))
        }
    }
}
