//! `update`: one app, from the lock to the outcome.

use anyhow::{Result, anyhow};

use super::assess::{self, Assessment, Next, assess};
use super::begin::Start;
use super::context::Context;
use super::manual;
use super::outcome::Outcome;
use super::recover;
use super::saga::Kind;
use crate::alert::{Alert, Kind as AlertKind};
use crate::config::{App, window};
use crate::deployer::{self, Convergence, Deployer, Observed, Release};
use crate::gate::{Candidate, Decision, Skipped};
use crate::health::{self, Continuity};
use crate::identity::Identity;
use crate::lock::AppLock;
use crate::snapshot::{Staged, Store};
use crate::state::{AppState, Held, LastRun};
use crate::sys::untrusted::Untrusted;

/// Brings `app` to its latest version, behind both gates. A stateful app is stopped in its windows only, unless
/// somebody says `at_any_time`.
pub fn update(context: &Context<'_>, app: &App, lock: &AppLock, at_any_time: bool) -> Result<Outcome> {
    let outcome = attempt(context, app, lock, at_any_time)?;
    let mut state = AppState::load(&context.host.dirs, &app.name)?;
    state.last_run = Some(LastRun { at: context.host.clock.now(), outcome: outcome.word().to_owned() });
    state.save(&context.host.dirs, &app.name)?;
    Ok(outcome)
}

fn attempt(context: &Context<'_>, app: &App, lock: &AppLock, at_any_time: bool) -> Result<Outcome> {
    match recover::settle(context, &app.name, lock)? {
        None => {}
        Some(Outcome::StuckAlready { reason } | Outcome::Stuck { reason, .. }) => {
            return Ok(Outcome::StuckAlready { reason });
        }
        Some(settled) => context.narrator.say(&settled.describe()),
    }
    let now = context.host.clock.now();
    let mut state = AppState::load(&context.host.dirs, &app.name)?;
    if let Some(paused) = state.paused.as_ref().filter(|_| state.is_paused(now)) {
        return Ok(Outcome::Paused { reason: paused.reason.clone() });
    }
    if let Some(reason) = infrastructure(context, app)? {
        return Ok(Outcome::NotReady { reason: Untrusted::new(reason) });
    }
    if let Some(failed) = fetch(context, app, &mut state)? {
        return Ok(failed);
    }
    let deployer = deployer::open(context.host, app)?;
    let assessment = assess(context, app, deployer.as_ref(), &state)?;
    let run = Run { context, app, deployer: deployer.as_ref(), lock, assessment: &assessment };
    match assessment.next.clone() {
        Next::FirstDeploy(candidate) => run.first_deploy(&mut state, &candidate),
        Next::NotDeployed => Ok(Outcome::NotDeployed),
        Next::Adopt(identity) => run.adopt(identity, &mut state),
        Next::DownByHand => run.down_by_hand(&mut state),
        Next::Resume(identity) | Next::Down(identity) => manual::restart(context, app, lock, &identity),
        Next::Gate(Decision::UpToDate { skipped }) => run.up_to_date(&mut state, &skipped),
        Next::Gate(Decision::Hold { candidate, reasons, .. }) => {
            let reasons = reasons.iter().map(crate::gate::Reason::sentence).collect();
            run.hold(&mut state, candidate, reasons)
        }
        Next::Gate(Decision::Apply { target, commit, held, .. }) => {
            if let Some(held) = held {
                let reasons = held.reasons.iter().map(crate::gate::Reason::sentence).collect();
                run.hold(&mut state, held.candidate, reasons)?;
            }
            let open = at_any_time || window::is_open(&app.update.windows, context.host.clock.local());
            if app.stateful && !open {
                let current = assessment.current().map(|identity| identity.version);
                return Ok(Outcome::Waiting { current, candidate: target });
            }
            run.apply(&mut state, &Candidate { version: target, commit })
        }
    }
}

/// Why an app that this one comes after is not as it should be.
fn infrastructure(context: &Context<'_>, app: &App) -> Result<Option<String>> {
    for before in &app.after {
        let state = AppState::load(&context.host.dirs, before)?;
        let last = state.last_run.as_ref().map(|run| run.outcome.as_str());
        if state.stuck.is_some() || matches!(last, Some("rolled-back" | "stuck" | "stuck-already")) {
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
fn fetch(context: &Context<'_>, app: &App, state: &mut AppState) -> Result<Option<Outcome>> {
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
        Err(error) => {
            let reason = Untrusted::new(format!("{error:#}"));
            state.fetch_failures = state.fetch_failures.saturating_add(1);
            state.save(dirs, name)?;
            if state.fetch_failures >= context.config.fetch_failures {
                let title = format!("{name}: its recipe could not be fetched, {} times in a row", state.fetch_failures);
                let alert = Alert::new(AlertKind::FetchFailing, "fetch", title)
                    .fact("remote", app.remote.as_str())
                    .fact("because", reason.raw())
                    .hint(format!("cc-warm plan {name}"));
                context.raise(name, alert)?;
            }
            Ok(Some(Outcome::FetchFailed { reason }))
        }
    }
}

struct Run<'a> {
    context: &'a Context<'a>,
    app: &'a App,
    deployer: &'a dyn Deployer,
    lock: &'a AppLock,
    assessment: &'a Assessment,
}

impl Run<'_> {
    fn save(&self, state: &AppState) -> Result<()> {
        state.save(&self.context.host.dirs, &self.app.name)
    }

    fn up_to_date(&self, state: &mut AppState, skipped: &[Skipped]) -> Result<Outcome> {
        if state.held.take().is_some() {
            self.context.resolve(&self.app.name, &[AlertKind::Held])?;
            self.save(state)?;
        }
        let Some(identity) = self.assessment.current() else { return Err(anyhow!("nothing is deployed")) };
        let notes =
            skipped.iter().map(|skipped| format!("{} is not tried: {}", skipped.version, skipped.why)).collect();
        Ok(Outcome::UpToDate { version: identity.version, notes })
    }

    fn down_by_hand(&self, state: &mut AppState) -> Result<Outcome> {
        let name = &self.app.name;
        if state.down_by_hand.is_none() {
            state.down_by_hand = Some(self.context.host.clock.now());
            self.save(state)?;
        }
        let title = format!("{name} was undeployed by somebody; it is left alone");
        let alert = Alert::new(AlertKind::DownByHand, "down", title).hint(format!("cc-warm resume {name}"));
        self.context.raise(name, alert)?;
        Ok(Outcome::DownByHand)
    }

    fn adopt(&self, identity: Identity, state: &mut AppState) -> Result<Outcome> {
        if let Err(reason) = manual::healthy_now(self.context, self.app, self.deployer)? {
            return self.unhealthy(reason);
        }
        let above = state.held.as_ref().is_some_and(|held| held.version <= identity.version);
        manual::note_adopted(self.context, self.app, &identity)?;
        if above {
            self.context.resolve(&self.app.name, &[AlertKind::Held])?;
        }
        self.context.resolve(&self.app.name, &[AlertKind::DownByHand])?;
        Ok(Outcome::Adopted { identity })
    }

    fn unhealthy(&self, reason: Untrusted) -> Result<Outcome> {
        let name = &self.app.name;
        let title = format!("{name} is unhealthy, before any update; it was not touched");
        let alert = Alert::new(AlertKind::UnhealthyBeforeUpdate, "unhealthy", title)
            .fact("because", reason.raw())
            .hint(format!("cc-warm status {name}"));
        self.context.raise(name, alert)?;
        Ok(Outcome::UnhealthyBefore { reason })
    }

    fn hold(&self, state: &mut AppState, candidate: Option<Candidate>, reasons: Vec<String>) -> Result<Outcome> {
        let name = &self.app.name;
        let current = self.assessment.current().map(|identity| identity.version);
        let waits = candidate.as_ref().map_or("every update".to_owned(), |candidate| candidate.version.to_string());
        let fingerprint = format!("{waits}\n{}", reasons.join("\n"));
        let mut alert = Alert::new(AlertKind::Held, fingerprint, format!("{name}: {waits} waits for you"))
            .fact("runs", current.as_ref().map_or("an unknown version".to_owned(), ToString::to_string));
        for reason in &reasons {
            alert = alert.fact("because", reason.as_str());
        }
        if let Some(candidate) = &candidate {
            alert = alert
                .fact("commit", candidate.commit.to_string())
                .hint(format!("cc-warm plan {name}"))
                .hint(format!("cc-warm approve {name} {}", candidate.version));
            let same = state.held.as_ref().is_some_and(|h| h.version == candidate.version && h.reasons == reasons);
            if !same {
                state.held = Some(Held {
                    version: candidate.version.clone(),
                    commit: candidate.commit.clone(),
                    reasons: reasons.clone(),
                    since: self.context.host.clock.now(),
                });
                self.save(state)?;
            }
        }
        self.context.raise(name, alert)?;
        Ok(Outcome::Held { current, candidate: candidate.map(|candidate| candidate.version), reasons })
    }

    fn first_deploy(&self, state: &mut AppState, candidate: &Candidate) -> Result<Outcome> {
        // What an earlier attempt of ours wrote, this version or a newer one can read.
        let ours = state.first_tried.as_ref().is_some_and(|tried| *tried <= candidate.version);
        if matches!(self.assessment.observed, Observed::Absent { has_data: true }) && !ours {
            let reason = format!(
                "nothing is deployed, but volumes of it exist, and it is not known which version wrote them: deploy that version by hand, then run `cc-warm adopt {}`",
                self.app.name
            );
            return self.hold(state, None, vec![reason]);
        }
        let release = Release {
            version: candidate.version.clone(),
            commit: candidate.commit.clone(),
            env: self.assessment.env.clone(),
            secrets: std::collections::BTreeMap::new(),
        };
        self.pin(&release)?;
        self.deployer.prepare(&release, self.lock)?;
        self.begin(Kind::FirstDeploy, &release, None, None)
    }

    fn apply(&self, state: &mut AppState, candidate: &Candidate) -> Result<Outcome> {
        let Some(current) = self.assessment.current() else { return Err(anyhow!("nothing is deployed")) };
        if let Err(reason) = manual::healthy_now(self.context, self.app, self.deployer)? {
            return self.unhealthy(reason);
        }
        self.context.resolve(&self.app.name, &[AlertKind::UnhealthyBeforeUpdate])?;
        let target = assess::release(candidate, self.assessment.env.clone(), &current);
        self.context.narrator.say(&format!("preparing {} → {}", current.version, target.version));
        // Everything that may fail without downtime, for the way there and for the way back.
        self.deployer.prepared(&current)?;
        self.pin(&target)?;
        self.deployer.prepare(&target, self.lock)?;
        let mut staged = None;
        if self.app.stateful {
            let store = Store::new(&self.context.host.dirs, &self.app.name);
            let preflight = store.preflight(&self.deployer.volumes()?, self.context.host.reserve)?;
            if let Some(reason) = preflight.refusal() {
                return self.hold(state, Some(candidate.clone()), vec![reason]);
            }
            staged = manual::stage(self.context, self.deployer, &store, preflight.copied())?;
        }
        let continuity = health::continuity(self.app)?;
        if self.context.host.interrupt.is_set() {
            return Ok(Outcome::Cancelled);
        }
        // Once more, right before the stop: minutes may have passed.
        if let Err(reason) = manual::healthy_now(self.context, self.app, self.deployer)? {
            return self.unhealthy(reason);
        }
        match self.deployer.observe()? {
            now if now == self.assessment.observed => self.begin(Kind::Update, &target, continuity, staged),
            _ => Ok(Outcome::Released { by: Untrusted::new("the deployment changed while the update was prepared") }),
        }
    }

    /// Keeps the target's commit, so that it can be gone back to even when its tag is gone.
    fn pin(&self, release: &Release) -> Result<()> {
        self.context.recipes.mirror(&self.app.remote).pin(&release.commit)
    }

    fn begin(
        &self,
        kind: Kind,
        to: &Release,
        continuity: Option<Continuity>,
        staged: Option<Staged>,
    ) -> Result<Outcome> {
        let store = Store::new(&self.context.host.dirs, &self.app.name);
        Start {
            context: self.context,
            app: self.app,
            deployer: self.deployer,
            store: &store,
            lock: self.lock,
            kind,
            observed: &self.assessment.observed,
            to,
            continuity,
            staged,
            restoring: None,
            was_stuck: None,
        }
        .run()
    }
}
