//! Whether the apps that an app comes after are as they should be.

use std::time::Duration;

use anyhow::Result;

use super::context::Context;
use super::journal;
use super::saga::EventName;
use crate::config::App;
use crate::deployer::{self, Convergence, Observed};
use crate::lock;
use crate::state::AppState;

/// The longest that an update of an app that comes before is waited for, beyond its own deadlines.
const MOVING_DATA: Duration = Duration::from_hours(2);

/// Why an app that this one comes after is not as it should be. One that is being worked on is waited for: units of a
/// switch start in any order.
pub(super) fn infrastructure(context: &Context<'_>, app: &App) -> Result<Option<String>> {
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
