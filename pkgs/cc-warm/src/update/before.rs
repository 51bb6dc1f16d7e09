//! What an update asks before it looks at the app: the apps that come before it, and its recipe's remote.

use std::time::Duration;

use anyhow::Result;

use super::assess;
use super::context::Context;
use super::journal;
use super::notice;
use super::outcome::Outcome;
use super::saga::EventName;
use crate::alert::Kind as AlertKind;
use crate::config::App;
use crate::deployer::{self, Convergence, Observed};
use crate::lock;
use crate::state::AppState;
use crate::sys::untrusted::Untrusted;

/// The longest that an update of an app that comes before is waited for, beyond its own deadlines.
const MOVING_DATA: Duration = Duration::from_hours(2);

/// Why an app that this one comes after is not as it should be. One that is being worked on is waited for: units of a
/// switch start in any order.
pub fn infrastructure(context: &Context<'_>, app: &App) -> Result<Option<String>> {
    for before in &app.after {
        let deadline = context.config.apps.get(before).map_or(Duration::ZERO, |app| app.health.deadline.duration());
        let say =
            &mut |holder: &str| context.narrator.say(&format!("waiting for `{before}`, which comes first: {holder}"));
        let limit = deadline.saturating_mul(2).saturating_add(MOVING_DATA);
        if !lock::wait_until_free(&context.host.dirs, before, limit, &context.host.interrupt, say)? {
            return Ok(Some(format!("`{before}`, which comes before it, is still being worked on")));
        }
        let state = AppState::load(&context.host.dirs, before)?;
        let under_way = journal::peek(&context.host.dirs, before).map_err(|error| error.into_problem(before))?;
        let is_left = under_way.is_some_and(|progress| progress.last != EventName::Begun);
        let last = state.last_run.as_ref().map(|run| run.outcome.as_str());
        if is_left || state.stuck.is_some() || matches!(last, Some("rolled-back" | "stuck" | "stuck-already")) {
            return Ok(Some(format!(
                "infrastructure not healthy: `{before}`, which comes before it, is not as it should be"
            )));
        }
        if let Some(before) = context.config.apps.get(before) {
            let deployer = deployer::open(context.host, before)?;
            if let Observed::Present(deployment) = deployer.observe()?
                && matches!(deployment.state, Convergence::Died(_) | Convergence::Down)
            {
                return Ok(Some(format!(
                    "infrastructure not healthy: `{}`, which comes before it, does not run",
                    before.name
                )));
            }
        }
    }
    Ok(None)
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
