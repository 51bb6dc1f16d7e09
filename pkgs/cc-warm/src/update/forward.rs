//! The way forward: stop, snapshot, deploy, healthy, the same as before, committed. Whatever fails after the first event
//! turns into the way back.

use std::time::Instant;

use anyhow::{Result, anyhow};

use super::leftovers;
use super::operation::{GOING_DOWN, Operation, Setback};
use super::saga::{Cause, Event, EventName, Kind};
use crate::deployer::{DeployError, Known, Observed, Release, Stopped};
use crate::error::Exit;
use crate::health::{self, Rules, Verdict};
use crate::snapshot::{self, Order, SnapshotId, Tag, Work};
use crate::sys::fault;
use crate::sys::shutdown;
use crate::sys::untrusted::Untrusted;

impl Operation<'_> {
    /// Performs the operation from `Begun` to a terminal event. An error leaves the journal to `recover`.
    pub fn run(&mut self, target: &Release) -> Result<()> {
        let mut setback = match self.go_forward(target) {
            Ok(()) => return Ok(()),
            Err(setback) => setback,
        };
        let mut turned_back = false;
        loop {
            setback = match setback {
                // Its processes are ended like ours, and maybe first: what fails now says nothing of the version.
                Setback::Back(_, reason) if shutdown::is_under_way() => {
                    let left = self.left_to_recover(anyhow!("{}; {GOING_DOWN}", reason.terminal()), Exit::NotReady);
                    return Err(left);
                }
                Setback::Back(cause, reason) => {
                    turned_back = true;
                    let turned = self.turn_back(cause, reason).map_err(Setback::from);
                    match turned.and_then(|()| self.go_back()) {
                        Ok(()) => return Ok(()),
                        Err(setback) => setback,
                    }
                }
                Setback::Released(by) => {
                    self.say(&format!("released: {}", by.terminal()));
                    return self.write(&Event::Released { by });
                }
                Setback::NotReady(error) => return Err(self.left_to_recover(error, Exit::NotReady)),
                // Before the way back begins, a failure of our own is a reason to begin it.
                Setback::Broken(error) if self.may_turn_back() && !turned_back => {
                    Setback::Back(Cause::Interrupted, Untrusted::new(format!("{error:#}")))
                }
                Setback::Broken(error) => return Err(self.left_to_recover(error, Exit::Failed)),
            }
        }
    }

    fn may_turn_back(&self) -> bool {
        use EventName as E;
        // At `Begun` nothing is touched, and `Healthy` only goes on.
        let on_the_way = [E::Stopping, E::Snapshotting, E::Snapshotted, E::Deploying, E::Deployed];
        on_the_way.contains(&self.progress().last) && self.progress().begun.kind != Kind::Restore
    }

    fn go_forward(&mut self, target: &Release) -> Result<(), Setback> {
        match self.progress().begun.kind {
            Kind::Update | Kind::FirstDeploy => {
                if self.progress().begun.stateful {
                    self.snapshot()?;
                    self.settle_if_asked()?;
                }
                self.deploy_target(target)?;
                self.judge(target)?;
                self.write(&Event::Healthy)?;
                Ok(self.write(&Event::Committed)?)
            }
            Kind::Snapshot => {
                self.snapshot()?;
                self.write(&Event::Redeploying)?;
                self.go_back()
            }
            Kind::Restore => self.restore_by_hand(),
            Kind::Restart => {
                self.write(&Event::Redeploying)?;
                self.go_back()
            }
        }
    }

    /// Stopped, gone, and a verified snapshot is the known-good.
    fn snapshot(&mut self) -> Result<(), Setback> {
        let volumes = self.patiently(|| self.deployer.volumes()).map_err(Setback::from)?;
        // What others have not written back yet is written back now, and not while the app is down.
        self.store.sync_file_systems(&volumes)?;
        self.must_be_as_found()?;
        self.write(&Event::Stopping)?;
        let stopped = self.stop()?;
        self.must_be_gone()?;
        let id = SnapshotId::random()?;
        self.write(&Event::Snapshotting { id: id.clone() })?;
        self.take(&id, stopped)?;
        Ok(self.write(&Event::Snapshotted { id, stopped })?)
    }

    fn take(&mut self, id: &SnapshotId, stopped: Stopped) -> Result<(), Setback> {
        let volumes = self.patiently(|| self.deployer.volumes()).map_err(Setback::from)?;
        self.say(&format!("taking a snapshot of {} volume(s)", volumes.len()));
        fault::point("act.snapshot").map_err(anyhow::Error::from)?;
        let identity = self.progress().begun.from.clone().ok_or_else(|| anyhow!("it is not known what ran"))?;
        let tag = Tag {
            app: self.app.name.clone(),
            identity,
            taken_at: self.host.clock.now(),
            operation: self.id().to_owned(),
            unclean: stopped == Stopped::Killed,
            left_out: Some(self.patiently(|| self.deployer.unmanaged_volumes()).map_err(Setback::from)?),
        };
        let env = self.deployer.env_to_keep(&tag.identity).map_err(Setback::from)?;
        let order = Order { id, volumes: &volumes, tag: &tag, env: &env, staged: self.staged.take() };
        let work = Work { reporter: self.narrator, interrupt: &self.host.interrupt };
        let (snapshot, spent) = match self.store.take(&order, work) {
            Ok(taken) => taken,
            Err(_) if self.host.interrupt.is_set() => return Err(self.interrupted()),
            Err(error) => {
                if snapshot::is_no_space(&error) {
                    // What came of it so far is what the way back has no room for.
                    leftovers::note(self.store.delete_garbage(&volumes, work));
                }
                return Err(Setback::Broken(error));
            }
        };
        self.watch.add(spent.copy, |parts| &mut parts.copy);
        self.watch.add(spent.verify, |parts| &mut parts.verify);
        self.watch.add(spent.sync, |parts| &mut parts.sync);
        self.must_be_gone()?;
        fault::point("act.promote").map_err(anyhow::Error::from)?;
        self.store.promote(&snapshot.id, self.host.clock.now(), self.app.update.keep_previous)?;
        Ok(())
    }

    fn deploy_target(&mut self, target: &Release) -> Result<(), Setback> {
        if self.progress().last == EventName::Begun {
            self.must_be_as_found()?;
        } else {
            self.must_be_ours()?;
        }
        self.write(&Event::Deploying)?;
        let since = Instant::now();
        let not_now = |error: anyhow::Error| {
            Setback::Back(Cause::Interrupted, Untrusted::new(format!("it could not be deployed now: {error:#}")))
        };
        let generation = self.deploy(target).map_err(|error| match error {
            DeployError::Ours(error) => not_now(error),
            // A hang: with the deployer answering, the way back is possible, and the app is down.
            DeployError::NotReady(error) if self.deployer.observe().is_ok() => not_now(error),
            DeployError::NotReady(error) => Setback::NotReady(error),
            DeployError::Failed(error) => {
                Setback::Back(Cause::Failed, Untrusted::new(format!("it could not be deployed: {error:#}")))
            }
        })?;
        self.watch.add(since.elapsed(), |parts| &mut parts.start);
        self.watch.deployed();
        self.turn = None;
        Ok(self.write(&Event::Deployed { generation })?)
    }

    /// The gate after.
    fn judge(&mut self, target: &Release) -> Result<(), Setback> {
        let failed = |reason: String| Setback::Back(Cause::Failed, Untrusted::new(reason));
        let verdict = self.await_healthy(&Rules::of(&self.app.health), &self.host.interrupt);
        let serves_since = match verdict.map_err(Setback::from)? {
            Verdict::Healthy(report) => {
                self.say(&format!("healthy: {}", report.sentence()));
                report.serves_since
            }
            Verdict::Unhealthy(report) => return Err(failed(report.sentence())),
            Verdict::Died(report) => {
                // Whatever dies stays deployed.
                if let Observed::Absent { .. } = self.patiently(|| self.deployer.observe()).map_err(Setback::from)? {
                    return Err(Setback::Released(Untrusted::new("it was undeployed by someone else")));
                }
                let words = self.deployer.last_words();
                return Err(failed(format!("{}\nits last words:\n{}", report.sentence(), words.raw().trim_end())));
            }
            Verdict::Interrupted => return Err(self.interrupted()),
        };
        if let Some(before) = self.progress().begun.continuity.clone() {
            let after = health::continuity(self.app)
                .map_err(|error| failed(format!("the continuity command failed after the update: {error:#}")))?;
            if let Some(changed) = after.and_then(|after| before.changed(&after)) {
                return Err(failed(changed));
            }
        }
        let observed = self.patiently(|| self.deployer.observe()).map_err(Setback::from)?;
        match observed {
            Observed::Present(now) if Some(&now.generation) != self.progress().deployed.as_ref() => {
                Err(Setback::Released(Untrusted::new("the deployment was changed by someone else")))
            }
            Observed::Present(now) if now.what == Known::Yes(target.identity()) => {
                self.watch.serves(serves_since);
                Ok(())
            }
            Observed::Present(now) => Err(failed(format!("what runs is not {}, but {:?}", target.version, now.what))),
            Observed::Absent { .. } => Err(Setback::Released(Untrusted::new("it was undeployed by someone else"))),
        }
    }

    fn settle_if_asked(&self) -> Result<(), Setback> {
        if self.host.interrupt.is_set() { Err(self.interrupted()) } else { Ok(()) }
    }

    fn interrupted(&self) -> Setback {
        match self.left_to_the_boot() {
            Err(setback) => setback,
            Ok(()) => Setback::Back(Cause::Interrupted, Untrusted::new("cc-warm was asked to end")),
        }
    }

    /// `restore`: the snapshot that `Begun` names.
    fn restore_by_hand(&mut self) -> Result<(), Setback> {
        let id = self.progress().begun.restoring.clone().ok_or_else(|| anyhow!("no snapshot was chosen"))?;
        self.must_be_as_found()?;
        self.write(&Event::Stopping)?;
        self.stop()?;
        self.write(&Event::Restoring { id })?;
        self.go_back()
    }
}
