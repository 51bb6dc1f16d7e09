//! `update`: one app, from the lock to the outcome.

use anyhow::{Result, anyhow};

use super::assess::{self, Assessment, Next, assess};
use super::before;
use super::begin::Start;
use super::conditions::{self, Now};
use super::context::Context;
use super::effects;
use super::failed;
use super::leftovers;
use super::manual;
use super::notice::{self, Waits};
use super::outcome::Outcome;
use super::parted;
use super::recover;
use super::saga::Kind;
use super::staging;
use super::turn::{self, Turn};
use crate::alert::Kind as AlertKind;
use crate::config::{App, window};
use crate::deployer::{self, Deployer, Observed, Release};
use crate::error::{self, Because, Exit, Problem};
use crate::gate::{Candidate, Decision, Skipped};
use crate::health::{self, Continuity};
use crate::identity::Identity;
use crate::lock::AppLock;
use crate::snapshot::{Preflight, Staged, Store, Unsuitable};
use crate::state::{AppState, Held, LastRun, Waiting};
use crate::sys::untrusted::Untrusted;

/// Brings `app` to its latest version, behind both gates. A stateful app is stopped in its windows only, unless
/// somebody says `at_any_time`.
pub fn update(context: &Context<'_>, app: &App, lock: &AppLock, at_any_time: bool) -> Result<Outcome> {
    let outcome = attempt(context, app, lock, at_any_time)
        .map_err(deployer::classified)
        .map_err(|error| failed::note(context, &app.name, error))?;
    let mut state = AppState::load(&context.host.dirs, &app.name)?;
    let now = context.host.clock.now();
    state.last_run = Some(LastRun::new(now, outcome.word()));
    note_waiting(&mut state, &outcome, now);
    state.save(&context.host.dirs, &app.name)?;
    match &state.waiting {
        None => context.resolve(&app.name, &[AlertKind::WindowMissed])?,
        Some(waiting) if matches!(outcome, Outcome::Waiting { .. }) && waiting.is_too_long(now) => {
            notice::window_missed(context, &app.name, waiting)?;
        }
        Some(_) => {}
    }
    if outcome.got_through() {
        context.resolve(&app.name, &[AlertKind::UpdateFailed, AlertKind::Down])?;
    }
    Ok(outcome)
}

/// Since when something waits for a window: another version that waits meanwhile changes nothing of that, nor does a run
/// that came to no decision.
fn note_waiting(state: &mut AppState, outcome: &Outcome, now: jiff::Timestamp) {
    if let Outcome::Waiting { candidate, .. } = outcome {
        let since = state.waiting.as_ref().map_or(now, |waiting| waiting.since);
        state.waiting = Some(Waiting { version: candidate.clone(), since });
    } else if outcome.leaves_nothing_waiting() {
        state.waiting = None;
    }
}

fn attempt(context: &Context<'_>, app: &App, lock: &AppLock, at_any_time: bool) -> Result<Outcome> {
    match recover::settle(context, &app.name, lock)? {
        None => {}
        Some(stuck @ (Outcome::StuckAlready { .. } | Outcome::Stuck { .. })) => return Ok(stuck),
        Some(settled) => context.narrator.say(&settled.describe()),
    }
    let now = context.host.clock.now();
    let mut state = AppState::load(&context.host.dirs, &app.name)?;
    if let Some(paused) = state.paused.as_ref().filter(|_| state.is_paused(now)) {
        return Ok(Outcome::Paused { reason: paused.reason.clone() });
    }
    if let Some(reason) = before::infrastructure(context, app)? {
        if context.host.interrupt.is_set() {
            return Ok(Outcome::Cancelled);
        }
        notice::predecessor(context, app, &reason)?;
        return Ok(Outcome::NotReady { reason: Untrusted::new(reason) });
    }
    context.resolve(&app.name, &[AlertKind::PredecessorUnhealthy])?;
    if let Some(failed) = before::fetch(context, app, &mut state)? {
        return Ok(failed);
    }
    let deployer = deployer::open(context.host, app)?;
    let assessment = assess(context, app, deployer.as_ref(), &state).map_err(deployer::classified)?;
    notice::answers(context, app)?;
    if assessment.is_in_place() {
        let before = state.clone();
        parted::note_observed(&mut state, &assessment.observed, deployer.place()?);
        if state != before {
            state.save(&context.host.dirs, &app.name)?;
        }
        if before.down_by_hand.is_some() && state.down_by_hand.is_none() {
            context.resolve(&app.name, &[AlertKind::DownByHand])?;
        }
    }
    let run = Run { context, app, deployer: deployer.as_ref(), lock, assessment: &assessment, at_any_time };
    match assessment.next.clone() {
        Next::FirstDeploy(candidate) => run.first_deploy(&mut state, &candidate),
        Next::NotDeployed => Ok(Outcome::NotDeployed),
        Next::Adopt(identity) => run.adopt(identity, &mut state),
        Next::DownByHand { doubt } => run.down_by_hand(&mut state, doubt.as_deref()),
        Next::Resume(identity) | Next::Down(identity) => manual::restart(context, app, lock, &identity),
        Next::Gate(Decision::UpToDate { skipped }) => run.up_to_date(&mut state, &skipped),
        Next::Gate(Decision::Hold { candidate, reasons, .. }) => {
            let held = run.hold(&mut state, Waits::of(candidate, &reasons));
            run.go_on_with_leftovers();
            held
        }
        Next::Gate(Decision::Apply { target, commit, held, .. }) => {
            if let Some(held) = held {
                run.hold(&mut state, Waits::of(held.candidate, &held.reasons))?;
            }
            let candidate = Candidate { version: target, commit };
            if let Some(outcome) = run.outside_of_windows(&candidate) {
                return Ok(outcome);
            }
            if state.waiting.take().is_some() {
                run.save(&state)?;
            }
            run.apply(&mut state, &candidate)
        }
    }
}

struct Run<'a> {
    context: &'a Context<'a>,
    app: &'a App,
    deployer: &'a dyn Deployer,
    lock: &'a AppLock,
    assessment: &'a Assessment,
    at_any_time: bool,
}

impl Run<'_> {
    /// That a stateful app waits, where it may not be stopped now.
    fn outside_of_windows(&self, candidate: &Candidate) -> Option<Outcome> {
        let open = self.at_any_time || window::is_open(&self.app.update.windows, self.context.host.clock.local());
        (self.app.stateful && !open).then(|| Outcome::Waiting {
            current: self.assessment.current().map(|identity| identity.version),
            candidate: candidate.version.clone(),
        })
    }

    fn save(&self, state: &AppState) -> Result<()> {
        state.save(&self.context.host.dirs, &self.app.name)
    }

    fn up_to_date(&self, state: &mut AppState, skipped: &[Skipped]) -> Result<Outcome> {
        if state.held.take().is_some() {
            self.save(state)?;
        }
        // Nothing waits, so nothing that kept it waiting matters; but an app that was unhealthy need not be well.
        self.context.resolve(&self.app.name, &[AlertKind::Held, AlertKind::PrepareFailed, AlertKind::DiskShort])?;
        if self.context.outbox.stands(&self.app.name, AlertKind::UnhealthyBeforeUpdate)? {
            if let Some(outcome) = self.not_healthy()? {
                return Ok(outcome);
            }
            self.context.resolve(&self.app.name, &[AlertKind::UnhealthyBeforeUpdate])?;
        }
        let Some(identity) = self.assessment.current() else { return Err(anyhow!("nothing is deployed")) };
        self.go_on_with_leftovers();
        let notes =
            skipped.iter().map(|skipped| format!("{} is not tried: {}", skipped.version, skipped.why)).collect();
        Ok(Outcome::UpToDate { version: identity.version, notes })
    }

    /// What earlier operations left for later, and were cut short in: of a run that takes no snapshot of its own.
    fn go_on_with_leftovers(&self) {
        if self.app.stateful {
            leftovers::empty_trash(self.context, self.deployer, &self.store());
            effects::complete_digests(self.context, &self.store());
        }
    }

    fn down_by_hand(&self, state: &mut AppState, doubt: Option<&str>) -> Result<Outcome> {
        if state.down_by_hand.is_none() {
            state.down_by_hand = Some(self.context.host.clock.now());
            self.save(state)?;
        }
        notice::down_by_hand(self.context, self.app, doubt)?;
        Ok(Outcome::DownByHand { doubt: doubt.map(str::to_owned) })
    }

    fn adopt(&self, identity: Identity, state: &mut AppState) -> Result<Outcome> {
        if let Some(outcome) = self.not_healthy()? {
            return Ok(outcome);
        }
        // It must be possible to come back to it.
        self.deployer.prepared(&identity)?;
        let above = state.held.as_ref().is_some_and(|held| held.version <= identity.version);
        manual::note_adopted(self.context, self.app, self.deployer, &identity)?;
        if above {
            self.context.resolve(&self.app.name, &[AlertKind::Held])?;
        }
        self.context.resolve(&self.app.name, &[AlertKind::DownByHand, AlertKind::UnhealthyBeforeUpdate])?;
        Ok(Outcome::Adopted { identity })
    }

    /// Why an app as it runs now is left alone: unhealthy, or we are asked to end.
    fn not_healthy(&self) -> Result<Option<Outcome>> {
        Ok(match conditions::healthy_now(self.context, self.app, self.deployer).map_err(deployer::classified)? {
            Now::Healthy => None,
            Now::Interrupted => Some(Outcome::Cancelled),
            Now::Unhealthy(reason) => {
                notice::unhealthy(self.context, self.app, &reason)?;
                Some(Outcome::UnhealthyBefore { reason })
            }
        })
    }

    fn hold(&self, state: &mut AppState, waits: Waits) -> Result<Outcome> {
        self.note_held(state, &waits)?;
        notice::held(self.context, self.app, self.assessment, &waits)?;
        Ok(self.held(waits))
    }

    fn note_held(&self, state: &mut AppState, waits: &Waits) -> Result<()> {
        let Some(Candidate { version, commit }) = waits.candidate.clone() else { return Ok(()) };
        let since = self.context.host.clock.now();
        let held = Held { version, commit, reasons: waits.reasons.clone(), approvable: waits.approvable, since }
            .as_before(state.held.as_ref());
        if state.held.as_ref() != Some(&held) {
            state.held = Some(held);
            self.save(state)?;
        }
        Ok(())
    }

    fn held(&self, Waits { candidate, reasons, approvable, .. }: Waits) -> Outcome {
        let current = self.assessment.current().map(|identity| identity.version);
        Outcome::Held { current, candidate: candidate.map(|candidate| candidate.version), reasons, approvable }
    }

    fn first_deploy(&self, state: &mut AppState, candidate: &Candidate) -> Result<Outcome> {
        let (host, app, deployer) = (self.context.host, self.app, self.deployer);
        let observed = &self.assessment.observed;
        // What an earlier attempt of ours wrote, this version or a newer one can read.
        let ours = state.first_tried.as_ref().is_some_and(|tried| *tried <= candidate.version)
            && parted::Facts { host, app, deployer, state, observed }.is_as_first_tried()?;
        if matches!(observed, Observed::Absent { has_data: true }) && !ours {
            let name = &self.app.name;
            let reason = match state.first_tried.as_ref().filter(|tried| **tried > candidate.version) {
                Some(tried) => format!(
                    "nothing is deployed, and {}, which may be tried, is older than {tried}, whose first deployment failed and which wrote its volumes: to try that once more, run `cc-warm retry {name}`",
                    candidate.version
                ),
                None => format!(
                    "nothing is deployed, but volumes of it exist, and it is not known which version wrote them: deploy that version by hand, then run `cc-warm adopt {name}`"
                ),
            };
            return self.hold(state, Waits::because(None, &reason.clone(), reason));
        }
        let release = Release {
            version: candidate.version.clone(),
            commit: candidate.commit.clone(),
            env: self.assessment.env.clone(),
            secrets: std::collections::BTreeMap::new(),
        };
        self.prepare(&release)?;
        // Preparing an app that was never here may have made its environment.
        let release = Release { env: self.deployer.env()?, ..release };
        self.begin(Kind::FirstDeploy, &release, None, None, None)
    }

    fn apply(&self, state: &mut AppState, candidate: &Candidate) -> Result<Outcome> {
        let Some(current) = self.assessment.current() else { return Err(anyhow!("nothing is deployed")) };
        if let Some(outcome) = self.not_healthy()? {
            return Ok(outcome);
        }
        self.context.resolve(&self.app.name, &[AlertKind::UnhealthyBeforeUpdate])?;
        let target = assess::release(candidate, self.assessment.env.clone(), &current);
        self.context.narrator.say(&format!("preparing {} → {}", current.version, target.version));
        // For the way back.
        self.deployer.prepared(&current)?;
        self.prepare(&target)?;
        leftovers::delete(self.context, self.app, self.deployer, &self.store());
        if self.context.host.interrupt.is_set() {
            // How much room there is, is not known.
            return Ok(Outcome::Cancelled);
        }
        let preflight = match self.preflight(&mut None) {
            Err(error) if error.is::<Unsuitable>() => {
                return self.hold(state, Waits::because(Some(candidate.clone()), "unsuitable", format!("{error:#}")));
            }
            counted => counted?,
        };
        if let Some(outcome) = self.no_room(state, candidate, preflight.as_ref())? {
            return Ok(outcome);
        }
        let staged = match preflight {
            Some(preflight) => {
                staging::stage(self.context, self.app, self.deployer, &self.store(), preflight.content())?
            }
            None => None,
        };
        let begun = self.apply_staged(state, candidate, &target, staged);
        leftovers::delete_staging(self.context, self.app, &self.store());
        begun
    }

    /// What comes after the staging copy: whatever it ends with, that copy is deleted if no operation began.
    fn apply_staged(
        &self,
        state: &mut AppState,
        candidate: &Candidate,
        target: &Release,
        mut staged: Option<Staged>,
    ) -> Result<Outcome> {
        if self.context.host.interrupt.is_set() {
            return Ok(Outcome::Cancelled);
        }
        let Some(turn) = Turn::take(self.context, self.app, self.deployer)? else {
            let missed = turn::missed(self.context);
            if let Outcome::NotReady { reason } = &missed {
                notice::update_failed(self.context, &self.app.name, reason.raw())?;
            }
            return Ok(missed);
        };
        // Hours may have passed.
        if let Some(outcome) = self.outside_of_windows(candidate) {
            return Ok(outcome);
        }
        if let Some(reason) = conditions::in_use(self.app, self.deployer)? {
            return self.hold(state, Waits::because(Some(candidate.clone()), "in use", reason));
        }
        // Once more, right before the stop: minutes may have passed, and others may have taken the room.
        if let Some(outcome) = self.not_healthy()? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.no_room(state, candidate, self.preflight(&mut staged)?.as_ref())? {
            return Ok(outcome);
        }
        self.context.resolve(&self.app.name, &[AlertKind::DiskShort])?;
        if !self.deployer.observe()?.is_same(&self.assessment.observed) {
            let by = Untrusted::new("the deployment changed while the update was prepared");
            notice::released(self.context, self.app, &by)?;
            return Ok(Outcome::Released { by });
        }
        // What users do from here on is not to be held against the version.
        let continuity = health::continuity(self.app)?;
        self.begin(Kind::Update, target, continuity, staged, Some(turn))
    }

    /// Everything that may fail without downtime.
    fn prepare(&self, target: &Release) -> Result<()> {
        let prepare = || -> Result<()> {
            self.pin(target)?;
            Ok(self.deployer.prepare(target, self.lock)?)
        };
        match prepare().map_err(deployer::classified) {
            Ok(()) => self.context.resolve(&self.app.name, &[AlertKind::PrepareFailed]),
            Err(error) if self.context.host.interrupt.is_set() => Err(Problem::cancelled().because(error).into()),
            Err(error) if error::exit_of(&error) == Exit::NotReady => Err(error),
            Err(error) => {
                notice::prepare_failed(self.context, self.app, &target.version, &error)?;
                let what = format!(
                    "{} of app `{}` could not be prepared; the app was not touched",
                    target.version, self.app.name
                );
                Err(error).problem(|| Problem::new(what).told().hint(format!("cc-warm plan {}", self.app.name)))
            }
        }
    }

    fn store(&self) -> Store {
        Store::new(&self.context.host.dirs, &self.app.name).full_every(self.app.full_every)
    }

    /// What a snapshot of a stateful app would take, beyond the staging copy if there is one.
    fn preflight(&self, staged: &mut Option<Staged>) -> Result<Option<Preflight>> {
        if !self.app.stateful {
            return Ok(None);
        }
        staging::preflight(self.context, &self.store(), &self.deployer.volumes()?, staged).map(Some)
    }

    /// Held, if there is no room for what is needed; the operator is told.
    fn no_room(
        &self,
        state: &mut AppState,
        candidate: &Candidate,
        needed: Option<&Preflight>,
    ) -> Result<Option<Outcome>> {
        let Some(reason) = needed.and_then(Preflight::refusal) else { return Ok(None) };
        let waits = Waits::because(Some(candidate.clone()), "no room", reason.clone());
        self.note_held(state, &waits)?;
        notice::disk_short(self.context, self.app, &candidate.version, &reason)?;
        Ok(Some(self.held(waits)))
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
        turn: Option<Turn>,
    ) -> Result<Outcome> {
        let store = self.store();
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
            turn,
            restoring: None,
            was_stuck: None,
        }
        .run()
    }
}
