//! The way back: from wherever the journal stands, to the app running what it ran before, on the data it had before; or
//! stuck, down, with its known-good untouched.
//!
//! Every step looks at the journal first, so a recovery enters here at any event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Map;

use super::leftovers;
use super::operation::{GOING_DOWN, Operation, Setback};
use super::recovery::is_left_over;
use super::saga::{Cause, Event, EventName, Kind};
use crate::deployer::{DeployError, Deployment, Observed};
use crate::health::{Rules, Verdict};
use crate::snapshot::restore::Damaged;
use crate::snapshot::{self, Exchange, ExchangeError, Volume};
use crate::state::{AppState, Interrupted, Rejected};
use crate::sys::untrusted::Untrusted;
use crate::sys::{fault, shutdown};

/// The prior version gets so many attempts to become healthy before the app is called stuck.
const ATTEMPTS: u32 = 2;

/// Why the volume `name`, which a snapshot does not have, was not added by a failed version, by what the snapshot says was
/// `left_out` of it.
fn stays(left_out: Option<&[String]>, name: &str) -> Option<String> {
    let why = match left_out {
        Some(left_out) if !left_out.iter().any(|left| left == name) => return None,
        Some(_) => "was `unmanaged` when the snapshot was taken",
        None => "is not in the snapshot, whose cc-warm did not write down which were left out",
    };
    Some(format!("the volume `{name}` {why}: its data stays as it is"))
}

impl Operation<'_> {
    /// Turns round: the identity is remembered first where it is to be blamed, then `RollingBack` is written.
    pub fn turn_back(&mut self, cause: Cause, reason: Untrusted) -> Result<()> {
        // The state is written first, and needs the space no less than the journal does.
        self.journal.free_ballast()?;
        let begun = &self.progress().begun;
        let mut cause = cause;
        if matches!(begun.kind, Kind::Update | Kind::FirstDeploy) && self.progress().touched {
            let (identity, operation) = (begun.to.clone(), begun.operation.clone());
            let now = self.host.clock.now();
            let mut state = AppState::load(&self.host.dirs, &self.app.name)?;
            if cause == Cause::Interrupted {
                let interrupted = Interrupted { identity: identity.clone(), operation: operation.clone(), at: now };
                if state.interrupt(interrupted) {
                    cause = Cause::Failed;
                }
            }
            if cause == Cause::Failed {
                state.reject(Rejected { identity, at: now, operation, reason: reason.clone(), unknown: Map::new() });
            }
            state.save(&self.host.dirs, &self.app.name)?;
        }
        self.say(&format!("going back: {}", reason.first_line()));
        self.write(&Event::RollingBack { cause, reason })
    }

    /// Goes all the way back, to a terminal event.
    pub fn go_back(&mut self) -> Result<(), Setback> {
        loop {
            if !self.progress().is_terminal() {
                self.left_to_the_boot()?;
            }
            match self.progress().last {
                EventName::RollingBack => self.leave_target()?,
                EventName::Restoring | EventName::Exchanging | EventName::DiscardingFailed => self.restore()?,
                EventName::Restored => self.write(&Event::Redeploying)?,
                EventName::Redeploying => self.redeploy()?,
                EventName::RolledBack | EventName::Stuck | EventName::Released | EventName::Committed => return Ok(()),
                other => return Err(Setback::Broken(anyhow!("there is no way back from `{}`", other.as_str()))),
            }
        }
    }

    /// From `RollingBack`: stop what runs, then restore, redeploy, or (after a first deployment) leave it at that.
    fn leave_target(&mut self) -> Result<(), Setback> {
        self.must_be_ours()?;
        let begun = &self.progress().begun;
        if !begun.stateful && begun.from.is_some() {
            // Nothing to restore: the prior version takes the place of the target without a gap.
            return Ok(self.write(&Event::Redeploying)?);
        }
        self.stop()?;
        if self.progress().begun.from.is_none() {
            return Ok(self.write(&Event::RolledBack)?);
        }
        if !self.progress().needs_restore() {
            return Ok(self.write(&Event::Redeploying)?);
        }
        match self.progress().snapshot.clone().filter(|_| self.progress().snapshotted) {
            Some(id) => Ok(self.write(&Event::Restoring { id })?),
            None => self.become_stuck(&anyhow!("there is no snapshot of this update to go back to")),
        }
    }

    /// From `Restoring` or `Exchanging`: all data is the snapshot's, durably.
    fn restore(&mut self) -> Result<(), Setback> {
        self.must_be_ours()?;
        self.stop()?;
        self.must_be_gone_to_restore()?;
        let since = Instant::now();
        let restored = self.restore_volumes();
        self.watch.add(since.elapsed(), |parts| &mut parts.restore);
        match restored {
            Ok(()) => Ok(self.write(&Event::Restored)?),
            Err(Setback::Broken(error)) => {
                // An interrupted journal is not a fact about the app; a restore that fails is.
                if error.downcast_ref::<JournalFailed>().is_some() {
                    return Err(Setback::Broken(error));
                }
                // What goes wrong while everything ends says nothing of the app.
                self.left_to_the_boot()?;
                let error = error.context("the data could not be restored");
                if self.progress().may_give_up_restore() {
                    // Its data is what it ran on: better up as it was than down.
                    return Ok(self.turn_back(Cause::Interrupted, Untrusted::new(format!("{error:#}")))?);
                }
                self.become_stuck(&error)
            }
            Err(other) => Err(other),
        }
    }

    fn restore_volumes(&mut self) -> Result<(), Setback> {
        let id = self.progress().snapshot.clone().context("the journal names no snapshot")?;
        let operation = self.id().to_owned();
        let snapshot = self.store.get(&id)?.with_context(|| format!("snapshot {id} is not there any more"))?;
        self.say(&format!("restoring the data of {}", snapshot.tag.identity));
        fault::point("act.restore").map_err(anyhow::Error::from)?;
        // Only of a restore by hand is the configuration another one than when the snapshot was taken: an operation keeps the
        // one that it began with.
        let mut unmanaged = self.patiently(|| self.deployer.unmanaged_volumes()).map_err(Setback::from)?;
        if self.progress().brings_unmanaged_back() {
            unmanaged.clear();
        }
        let mut volumes = Vec::new();
        for name in snapshot.volume_names() {
            if unmanaged.iter().any(|left| left == name) {
                self.say(&format!("the volume `{name}` is `unmanaged` now: its data stays as it is"));
                continue;
            }
            let volume = self.patiently(|| self.deployer.create_volume(name, self.lock)).map_err(Setback::from)?;
            volumes.push(volume);
        }
        let announced = self.progress().exchanges.clone();
        for exchange in &announced {
            Self::exchange(exchange, &volumes, &operation)?;
        }
        let rest: Vec<Volume> =
            volumes.iter().filter(|v| !announced.iter().any(|known| known.volume == v.name)).cloned().collect();
        for exchange in self.build(&id, &rest)? {
            self.must_be_gone_to_restore()?;
            self.write(&Event::Exchanging(exchange.clone())).context(JournalFailed)?;
            Self::exchange(&exchange, &volumes, &operation)?;
        }
        for volume in self.patiently(|| self.deployer.volumes()).map_err(Setback::from)? {
            if volumes.iter().any(|wanted| wanted.name == volume.name) {
                continue;
            }
            if let Some(why) = stays(snapshot.tag.left_out.as_deref(), &volume.name) {
                self.say(&why);
                continue;
            }
            // Where its data cannot leave its folder, the volume stays, without data.
            if self.store.set_aside(&volume, &operation, volumes.first())? {
                self.patiently(|| self.deployer.remove_volume(&volume.name, self.lock)).map_err(Setback::from)?;
            }
        }
        self.must_be_gone_to_restore()
    }

    fn exchange(exchange: &Exchange, volumes: &[Volume], operation: &str) -> Result<(), Setback> {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == exchange.volume)
            .with_context(|| format!("volume `{}` is not part of the snapshot", exchange.volume))?;
        fault::point("act.exchange").map_err(anyhow::Error::from)?;
        match exchange.perform(volume, operation) {
            Ok(()) => Ok(()),
            Err(ExchangeError::Neither(why)) => Err(Setback::Broken(anyhow!(why))),
            Err(ExchangeError::Other(error)) => Err(Setback::Broken(error)),
        }
    }

    /// A power cut can take back a rename that a file system had acknowledged: before older code starts, each `_data` is
    /// looked at, and what is not in its place is exchanged again.
    fn confirm_exchanges(&mut self) -> Result<(), Setback> {
        let exchanges = self.progress().exchanges.clone();
        if exchanges.is_empty() {
            return Ok(());
        }
        let operation = self.id().to_owned();
        for exchange in &exchanges {
            let name = &exchange.volume;
            // By its name: what was exchanged may be `unmanaged`.
            let volume = self.patiently(|| self.deployer.create_volume(name, self.lock)).map_err(Setback::from)?;
            if !exchange.is_done(&volume)? {
                self.say(&format!("the restored data of volume `{name}` is not in its place yet"));
                self.stop()?;
                Self::exchange(exchange, &[volume], &operation)?;
            }
        }
        Ok(())
    }

    /// From `Redeploying`: the prior version runs and is healthy, or the app is stuck.
    fn redeploy(&mut self) -> Result<(), Setback> {
        if let Err(setback) = self.confirm_exchanges() {
            return match setback {
                Setback::Broken(error) => self.become_stuck(&error.context("the restored data is not in its place")),
                other => Err(other),
            };
        }
        let identity = self.progress().back_to().cloned().context("the journal names no version to go back to")?;
        let release = match self.prepared(&identity) {
            Ok(release) => release,
            Err(error) => return self.become_stuck(&error),
        };
        let mut last = DeployError::failed(anyhow!("it was never tried"));
        for attempt in 1..=ATTEMPTS {
            self.must_be_ours()?;
            if attempt > 1 {
                self.say("the prior version is not healthy; starting it once more");
                // What fails on our own disk may have left it running, and says nothing of it.
                if !matches!(last, DeployError::Ours(_)) {
                    self.stop()?;
                }
                self.write(&Event::Redeploying)?;
            }
            match self.start_prior(&release) {
                Ok(()) => {
                    let end = self.end_of_redeployment();
                    return Ok(self.write(&end)?);
                }
                Err(DeployError::NotReady(error)) => return Err(Setback::NotReady(error)),
                Err(DeployError::Ours(error)) => {
                    if snapshot::is_no_space(&error) {
                        self.make_room_to_start();
                    }
                    last = DeployError::Ours(error);
                }
                Err(error) => last = error,
            }
        }
        self.left_to_the_boot()?;
        match last {
            DeployError::Failed(error) => {
                self.become_stuck(&error.context(format!("{identity} does not become healthy any more")))
            }
            // Stuck would want an operator for what every run can do once there is space.
            other => Err(other.into()),
        }
    }

    /// Deletes what nobody needs to have the app up again.
    fn make_room_to_start(&self) {
        self.say("there is no room to start it: what earlier runs left is deleted");
        let volumes = self.deployer.volumes().unwrap_or_default();
        let wanted = (self.id(), self.progress().snapshot.as_ref());
        leftovers::note(self.store.make_room(&volumes, &self.rules(), wanted, self.work_of_the_way_back()));
    }

    fn end_of_redeployment(&self) -> Event {
        if self.progress().begun.kind == Kind::Snapshot && self.progress().back.is_none() {
            Event::Committed
        } else {
            Event::RolledBack
        }
    }

    fn start_prior(&mut self, release: &crate::deployer::Release) -> Result<(), DeployError> {
        fault::point("act.redeploy").map_err(DeployError::failed)?;
        let since = Instant::now();
        self.deploy(release)?;
        self.watch.add(since.elapsed(), |parts| &mut parts.start);
        self.watch.deployed();
        self.turn = None;
        // What ran for weeks needs no soak, and nobody but a shutdown may interrupt an app's way back to life.
        let rules = Rules { soak: Duration::ZERO, ..Rules::of(&self.app.health) };
        match self.await_healthy(&rules, &self.shutdown)? {
            Verdict::Healthy(report) => {
                self.watch.serves(report.serves_since);
                Ok(())
            }
            Verdict::Unhealthy(report) | Verdict::Died(report) => Err(DeployError::failed(anyhow!(report.sentence()))),
            Verdict::Interrupted => Err(DeployError::not_ready(anyhow!("the machine is going down"))),
        }
    }

    /// Stays down, with the known-good untouched.
    pub fn become_stuck(&mut self, error: &anyhow::Error) -> Result<(), Setback> {
        // The processes of an app may be ended before ours is told: what fails now says nothing.
        if shutdown::is_under_way() {
            return Err(Setback::NotReady(anyhow!("{error:#}; {GOING_DOWN}")));
        }
        // At `Begun` nothing was touched, so whatever runs is not ours to take down.
        let touched = self.progress().last != EventName::Begun;
        let running = if touched { self.deployed_now()?.map(|deployment| deployment.generation) } else { None };
        let (reason, data) = (Untrusted::new(format!("{error:#}")), self.progress().live_data());
        let damaged = error.chain().any(<dyn std::error::Error>::is::<Damaged>);
        self.say(&format!("stuck: {}", reason.terminal()));
        Ok(self.write(&Event::Stuck { reason, data, running, damaged })?)
    }

    /// Takes down what was there when the app became stuck. `false`: what runs was deployed since then, and stays.
    pub fn stop_what_is_stuck(&mut self) -> Result<bool, Setback> {
        if self.deployed_now()?.is_some_and(|deployment| !is_left_over(self.progress(), &deployment.generation)) {
            return Ok(false);
        }
        self.stop()?;
        Ok(true)
    }

    /// What is deployed. `None`, too, where that cannot be told from what is written down of it.
    fn deployed_now(&self) -> Result<Option<Deployment>, Setback> {
        match self.patiently(|| self.deployer.observe()) {
            Ok(Observed::Present(deployment)) => Ok(Some(deployment)),
            Ok(Observed::Absent { .. }) | Err(DeployError::Failed(_)) => Ok(None),
            Err(DeployError::NotReady(error) | DeployError::Ours(error)) => Err(Setback::NotReady(error)),
        }
    }
}

/// Marks an error of the journal itself.
#[derive(Debug, thiserror::Error)]
#[error("the journal could not be written")]
pub struct JournalFailed;

impl From<DeployError> for Setback {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::NotReady(error) => Self::NotReady(error),
            DeployError::Failed(error) | DeployError::Ours(error) => Self::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_have_been_added_since_is_set_aside() {
        let left_out = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        for (known, says) in [
            (Some(left_out(&[])), None),
            (Some(left_out(&["media"])), None),
            (Some(left_out(&["media", "app_data"])), Some("was `unmanaged`")),
            // Of an older program.
            (None, Some("did not write down")),
        ] {
            let why = stays(known.as_deref(), "app_data");
            assert_eq!(why.is_some(), says.is_some(), "{known:?}");
            assert!(why.unwrap_or_default().contains(says.unwrap_or_default()), "{known:?}");
        }
    }
}
