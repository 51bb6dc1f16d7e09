//! What must be so before an app is touched: healthy, nobody else in its data, volumes that can be copied, a snapshot that is
//! whole, room.

use anyhow::Result;

use super::context::Context;
use super::staging;
use crate::config::App;
use crate::deployer::{Convergence, Deployer, Observed, Release};
use crate::error::{Exit, Problem};
use crate::health::{self, Verdict, Watch};
use crate::snapshot::{Depth, Finding, Snapshot, Staged, Store, Totals, Unsuitable};
use crate::sys::untrusted::Untrusted;

/// Refuses an unhealthy app: it is never snapshotted over its known-good, and never last-good.
pub(super) fn must_be_healthy(context: &Context<'_>, app: &App, deployer: &dyn Deployer) -> Result<()> {
    match healthy_now(context, app, deployer)? {
        Now::Healthy => Ok(()),
        Now::Unhealthy(reason) => {
            Err(Problem::new(format!("`{}` is not healthy; nothing was touched: {}", app.name, reason.terminal()))
                .hint("cc-warm doctor")
                .into())
        }
        Now::Interrupted => Err(Problem::cancelled().into()),
    }
}

/// How an app is before anything is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// Healthy.
    Healthy,
    /// Not, and why.
    Unhealthy(Untrusted),
    /// We were asked to end before that was known.
    Interrupted,
}

/// Whether `app` is healthy, without a soak; tasks that are still starting are waited for up to the deadline.
pub fn healthy_now(context: &Context<'_>, app: &App, deployer: &dyn Deployer) -> Result<Now> {
    let mut observe = || match deployer.observe()? {
        Observed::Present(deployment) => Ok(deployment.state),
        Observed::Absent { .. } => Ok(Convergence::Died(Untrusted::new("it is not deployed"))),
    };
    let verdict = health::before_update(&mut Watch {
        app,
        predecessors: &context.predecessors(app),
        observe: &mut observe,
        interrupt: &context.host.interrupt,
        progress: &mut |_| {},
    })?;
    Ok(match verdict {
        Verdict::Healthy(_) => Now::Healthy,
        Verdict::Unhealthy(report) | Verdict::Died(report) => Now::Unhealthy(Untrusted::new(report.sentence())),
        Verdict::Interrupted => Now::Interrupted,
    })
}

/// Who uses the data of a stateful app besides it: nothing could be snapshotted or restored, and the app would be down
/// until they are gone.
pub fn in_use(app: &App, deployer: &dyn Deployer) -> Result<Option<String>> {
    let users = if app.stateful { deployer.outsiders()? } else { Vec::new() };
    Ok((!users.is_empty())
        .then(|| format!("its data is in use, so it is not stopped: {}; end that first", users.join(", "))))
}

/// Refuses data that could not be brought back with `release`, before the app is stopped for it.
pub(super) fn must_go_back(app: &App, deployer: &dyn Deployer, release: &Release) -> Result<()> {
    must_be_suitable(app, deployer, release)?;
    in_use(app, deployer)?.map_or(Ok(()), |users| Err(untouched(app, &users)))
}

/// Refuses volumes of `release` that cannot be snapshotted whoever uses them.
pub(super) fn must_be_suitable(app: &App, deployer: &dyn Deployer, release: &Release) -> Result<()> {
    let reasons = if app.stateful { deployer.unsuitable_volumes(release)? } else { Vec::new() };
    if reasons.is_empty() { Ok(()) } else { Err(untouched(app, &reasons.join("; "))) }
}

fn untouched(app: &App, why: &str) -> anyhow::Error {
    Problem::new(format!("`{}` was not touched: {why}", app.name)).exit(Exit::Refused).into()
}

/// Refuses a damaged snapshot before the app is stopped for it: what runs is better than nothing.
pub(super) fn must_be_whole(context: &Context<'_>, app: &App, store: &Store, chosen: &Snapshot) -> Result<()> {
    context.narrator.say(&format!("checking snapshot {}", chosen.id));
    let audit = store.audit(chosen, Depth { content: true, rate: None }, context.work())?;
    let problems = match audit.finding() {
        Finding::Whole => return Ok(()),
        Finding::Damaged(problems) => problems,
        Finding::Unfinished => {
            return Err(Problem::cancelled().into());
        }
    };
    let problem = format!("snapshot {} of app `{}` is damaged; nothing was touched", chosen.id, app.name);
    let problem = Problem::new(problem).hint(format!("cc-warm verify {}", app.name));
    // Where it is whole, for all that is known.
    let previous =
        store.previous().unwrap_or_default().filter(|other| other.id != chosen.id && !store.is_damaged(&other.id));
    let problem = match previous {
        Some(previous) => problem.hint(format!("cc-warm restore {} --snapshot {}", app.name, previous.id)),
        None => problem,
    };
    Err(problem.because(anyhow::anyhow!(problems.join("; "))).into())
}

/// Refuses a restore for which there is no room beside data that is good, before any downtime.
pub(super) fn must_fit_beside(app: &App, deployer: &dyn Deployer, store: &Store, chosen: &Snapshot) -> Result<()> {
    let Some(reason) = store.preflight_back(&deployer.volumes()?, chosen)?.refusal() else { return Ok(()) };
    let problem = format!("snapshot {} of `{}` cannot be restored; nothing was touched: {reason}", chosen.id, app.name);
    Err(Problem::new(problem)
        .hint(format!("make room, then `cc-warm restore {} --snapshot {}`", app.name, chosen.id))
        .into())
}

/// Refuses what cannot be snapshotted, before any downtime; else how much the volumes hold.
pub(super) fn must_fit(
    context: &Context<'_>,
    app: &App,
    deployer: &dyn Deployer,
    store: &Store,
    staged: &mut Option<Staged>,
) -> Result<Totals> {
    let preflight = match staging::preflight(context, store, &deployer.volumes()?, staged) {
        Err(error) if error.is::<Unsuitable>() => {
            let problem = format!("no snapshot of `{}` can be taken; nothing was touched", app.name);
            return Err(Problem::new(problem).exit(Exit::Refused).because(error).into());
        }
        counted => counted?,
    };
    match preflight.refusal() {
        None => Ok(preflight.content()),
        Some(reason) => {
            Err(Problem::new(format!("no snapshot of `{}` can be taken; nothing was touched: {reason}", app.name))
                .hint(format!("cc-warm snapshot --dry-run {}", app.name))
                .into())
        }
    }
}
