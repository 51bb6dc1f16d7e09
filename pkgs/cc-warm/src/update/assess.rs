//! What would be done about an app, and why: for `plan`, which stops here, and for `update`, which goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use super::context::Context;
use super::parted;
use crate::config::App;
use crate::deployer::{DeployError, Deployer, Deployment, Known, Observed, Release, Rendering};
use crate::gate::{self, Candidate, Decision, Evidence, Skipped, WhySkipped};
use crate::identity::{Env, Identity};
use crate::recipe::published::Published;
use crate::state::{AppState, Seen};
use crate::sys::untrusted::Untrusted;

/// What there is to know before anything is done.
#[derive(Debug)]
pub struct Assessment {
    /// What is deployed.
    pub observed: Observed,
    /// The environment that is configured.
    pub env: Env,
    /// What the recipe publishes.
    pub published: Arc<Published>,
    /// What to do.
    pub next: Next,
}

impl Assessment {
    /// What runs, if that is known.
    #[must_use]
    pub fn current(&self) -> Option<Identity> {
        match &self.observed {
            Observed::Present(Deployment { what: Known::Yes(identity), .. }) => Some(identity.clone()),
            _ => None,
        }
    }

    /// Whether what was observed is this app.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let Next::Gate(Decision::Hold { reasons, .. }) = &self.next else { return true };
        !reasons.iter().any(|reason| matches!(reason, gate::Reason::Moved(_)))
    }
}

/// What to do about an app.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// It was never deployed: deploy this.
    FirstDeploy(Candidate),
    /// It was never deployed, and is only to be adopted.
    NotDeployed,
    /// It runs, and was never seen, or was changed by hand: take it as last-good.
    Adopt(Identity),
    /// It was running, and is not deployed any more: somebody took it down.
    DownByHand {
        /// Why what ran last must not be started on its data, in words.
        doubt: Option<String>,
    },
    /// Somebody took it down, and said `resume`: start this again.
    Resume(Identity),
    /// It is deployed, but the machine was booted since: `recover` starts it.
    Down(Identity),
    /// What the gate says.
    Gate(Decision),
}

/// Notes when versions are first seen. Whether anything was new.
pub fn note_seen(state: &mut AppState, published: &Published, now: jiff::Timestamp) -> bool {
    let mut new = false;
    for (version, found) in &published.versions {
        if !state.seen.contains_key(version) {
            state.seen.insert(version.clone(), Seen { commit: found.commit.clone(), first: now });
            new = true;
        }
    }
    new
}

/// Looks at everything and decides, touching nothing.
pub fn assess(context: &Context<'_>, app: &App, deployer: &dyn Deployer, state: &AppState) -> Result<Assessment> {
    let published = context.recipes.published(&app.remote)?;
    let observed = deployer.observe()?;
    let env = deployer.env()?;
    let next = next(context, app, deployer, state, &published, &observed, &env)?;
    Ok(Assessment { observed, env, published, next })
}

fn next(
    context: &Context<'_>,
    app: &App,
    deployer: &dyn Deployer,
    state: &AppState,
    published: &Published,
    observed: &Observed,
    env: &Env,
) -> Result<Next> {
    if let Some(moved) = parted::moved(deployer, state)? {
        let reasons = vec![gate::Reason::Moved(moved)];
        return Ok(Next::Gate(Decision::Hold { candidate: None, reasons, skipped: Vec::new() }));
    }
    let last_good = state.last_good.as_ref().map(|good| &good.identity);
    let current = match observed {
        Observed::Absent { .. } => {
            let Some(identity) = last_good else {
                return Ok(if app.ensure { first_deploy(app, state, published, env) } else { Next::NotDeployed });
            };
            let facts = parted::Facts { host: context.host, app, deployer, state, observed };
            let doubt = facts.doubt(identity.into())?;
            return Ok(match doubt {
                doubt if !state.resumed => Next::DownByHand { doubt },
                None => Next::Resume(identity.clone()),
                Some(why) => {
                    let reasons = vec![gate::Reason::Parted { why, ways_out: parted::ways_out(&app.name) }];
                    Next::Gate(Decision::Hold { candidate: None, reasons, skipped: Vec::new() })
                }
            });
        }
        Observed::Present(deployment) => &deployment.what,
    };
    if let (Known::Yes(identity), Observed::Present(deployment)) = (current, observed) {
        if deployment.state == crate::deployer::Convergence::Down {
            return Ok(Next::Down(identity.clone()));
        }
        // An operator may have brought back what was stuck, with the version that it had.
        if !last_good.is_some_and(|good| good.has_code_of(identity)) || state.stuck.is_some() {
            return Ok(Next::Adopt(identity.clone()));
        }
    }
    let decision = decide(context, app, deployer, state, published, current, env)?;
    Ok(Next::Gate(decision))
}

/// The highest version that may be a target at all; there is nothing yet that a note or a major step could harm.
fn first_deploy(app: &App, state: &AppState, published: &Published, env: &Env) -> Next {
    let mut skipped = Vec::new();
    for (version, found) in published.versions.iter().rev() {
        let identity = Identity {
            version: version.clone(),
            commit: found.commit.clone(),
            env: env.digest(),
            secrets: BTreeMap::new(),
        };
        let why = if app.update.pin.as_ref().is_some_and(|pin| pin != version) {
            WhySkipped::NotPinned
        } else if app.update.pin.is_none() && !version.recipe().pre.is_empty() {
            WhySkipped::PreRelease
        } else if app.update.ignore.contains(version) {
            WhySkipped::Ignored
        } else if state.is_rejected(&identity) {
            WhySkipped::Rejected
        } else {
            return Next::FirstDeploy(Candidate { version: version.clone(), commit: found.commit.clone() });
        };
        skipped.push(Skipped { version: version.clone(), why });
    }
    let reason = if skipped.is_empty() { gate::Reason::NothingPublished } else { gate::Reason::NoneLeft { skipped } };
    Next::Gate(Decision::Hold { candidate: None, reasons: vec![reason], skipped: Vec::new() })
}

fn decide(
    context: &Context<'_>,
    app: &App,
    deployer: &dyn Deployer,
    state: &AppState,
    published: &Published,
    current: &Known,
    env: &Env,
) -> Result<Decision> {
    let rejected: Vec<Identity> = state.rejected.iter().map(|r| r.identity.clone()).collect();
    let input = gate::Input {
        current,
        env,
        published: &published.versions,
        seen: &state.seen,
        rejected: &rejected,
        approved: &state.approved,
        update: &app.update,
        now: context.host.clock.now(),
    };
    gate::decide(&input, &mut |candidate| {
        let Known::Yes(current) = current else { return Ok(Evidence::default()) };
        let to = release(candidate, env.clone(), current);
        let runs = running(deployer, current, env)?;
        let target = rendered(deployer, &to)?;
        let can_be_rendered = target.is_ok();
        let mut not_rendered = Vec::new();
        let runs = runs.unwrap_or_else(|reason| {
            not_rendered.push(reason);
            Rendering::default()
        });
        let target = target.unwrap_or_else(|why| {
            not_rendered.push(gate::Reason::NotRendered { version: to.version.clone(), why });
            Rendering::default()
        });
        Ok(Evidence {
            notes: context.recipes.notes(&app.remote)?.on_the_way(published, &current.version, &candidate.version),
            from: runs,
            to: target,
            not_rendered,
            unsuitable: match app.stateful {
                true if can_be_rendered => deployer.unsuitable_volumes(&to)?,
                true => Vec::new(),
                false => deployer.volumes()?.iter().map(|volume| not_stateless(&volume.name)).collect(),
            },
        })
    })
}

/// Why an app with the volume `name` is not updated as one without data.
fn not_stateless(name: &str) -> String {
    format!(
        "`stateful = false`, but it has the volume `{name}`, which would not go back with it: leave out `stateful = false`, \
         or, if nothing in it needs to go back, name it in `update.unmanaged`"
    )
}

/// What runs, with the environment that it has: `env`, which is configured now, may name other volumes. Or why there is
/// nothing to compare with.
fn running(
    deployer: &dyn Deployer,
    current: &Identity,
    env: &Env,
) -> Result<Result<Rendering, gate::Reason>, DeployError> {
    let version = current.version.clone();
    let env = if env.digest() == current.env { Ok(env.clone()) } else { deployer.env_of(current) };
    let env = match env {
        Ok(env) => env,
        Err(DeployError::Failed(error)) => {
            return Ok(Err(gate::Reason::EnvironmentLost { version, why: format!("{error:#}") }));
        }
        Err(error) => return Err(error),
    };
    let candidate = Candidate { version: version.clone(), commit: current.commit.clone() };
    let rendering = rendered(deployer, &release(&candidate, env, current))?;
    Ok(rendering.map_err(|why| gate::Reason::NothingToCompare { version, why }))
}

/// What `release` would be, or why it cannot be rendered, which is a fact about this release and no other. Only a
/// deployer that does not answer ends the decision.
fn rendered(deployer: &dyn Deployer, release: &Release) -> Result<Result<Rendering, String>, DeployError> {
    match deployer.render(release) {
        Err(DeployError::Failed(error)) => Ok(Err(format!("{error:#}"))),
        other => other.map(Ok),
    }
}

/// `candidate`, with the environment `env`.
#[must_use]
pub fn release(candidate: &Candidate, env: Env, current: &Identity) -> Release {
    Release {
        version: candidate.version.clone(),
        commit: candidate.commit.clone(),
        env,
        secrets: current.secrets.clone(),
    }
}

/// The diff of the recipe between what runs and `candidate`; `None` where there is nothing to compare.
#[must_use]
pub fn diff(context: &Context<'_>, app: &App, assessment: &Assessment, candidate: &Candidate) -> Option<Untrusted> {
    let Observed::Present(deployment) = &assessment.observed else { return None };
    let Known::Yes(current) = &deployment.what else { return None };
    if current.commit == candidate.commit {
        return None;
    }
    Some(
        context
            .recipes
            .diff(&app.remote, &current.commit, &candidate.commit)
            .unwrap_or_else(|error| Untrusted::new(format!("the difference cannot be shown: {error:#}"))),
    )
}
