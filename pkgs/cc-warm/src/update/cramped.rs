//! The way back on a full disk: what is not needed goes first, then failed data that is old enough, and last of all the data
//! that is to be replaced, unless it is good. An app is stuck for want of space only after that.

use anyhow::{Context, Result, anyhow};

use super::back::JournalFailed;
use super::leftovers;
use super::operation::{Operation, Setback};
use super::saga::Event;
use crate::snapshot::restore::Damaged;
use crate::snapshot::{self, Depth, Exchange, Finding, Rules, SnapshotId, Volume, Work};
use crate::sys::fault;

impl Operation<'_> {
    /// Builds the data of `volumes` beside what is live, making room where there is none.
    pub fn build(&mut self, id: &SnapshotId, volumes: &[Volume]) -> Result<Vec<Exchange>, Setback> {
        if self.progress().discarding {
            self.discard_live(volumes)?;
            return Ok(self.try_to_build(id, volumes)?);
        }
        match self.try_to_build(id, volumes) {
            Err(error) if snapshot::is_no_space(&error) => self.say(&format!("there is no room: {error:#}")),
            other => return Ok(other?),
        }
        let wanted = (self.id(), Some(id));
        leftovers::note(self.store.make_room(volumes, &self.rules(), wanted, self.work_of_the_way_back()));
        match self.try_to_build(id, volumes) {
            Err(error) if snapshot::is_no_space(&error) && self.progress().may_discard() => {}
            other => return Ok(other?),
        }
        self.check_before_discarding(id)?;
        self.must_be_gone_to_restore()?;
        self.say("there is still no room: the failed version's data is given up");
        self.write(&Event::DiscardingFailed).context(JournalFailed)?;
        self.discard_live(volumes)?;
        Ok(self.try_to_build(id, volumes)?)
    }

    fn try_to_build(&self, id: &SnapshotId, volumes: &[Volume]) -> Result<Vec<Exchange>> {
        self.store.build(id, volumes, self.id(), self.work_of_the_way_back())
    }

    /// Nobody but a shutdown may interrupt an app's way back.
    pub(super) fn work_of_the_way_back(&self) -> Work<'_> {
        Work { reporter: self.narrator, interrupt: &self.shutdown }
    }

    /// What is about to become the only copy must be whole.
    fn check_before_discarding(&self, id: &SnapshotId) -> Result<(), Setback> {
        let snapshot = self.store.get(id)?.with_context(|| format!("snapshot {id} is not there any more"))?;
        let audit = self.store.audit(&snapshot, Depth { content: true, rate: None }, self.work_of_the_way_back())?;
        let problems = match audit.finding() {
            Finding::Whole => return Ok(()),
            Finding::Damaged(problems) => problems,
            Finding::Unfinished => {
                return Err(Setback::NotReady(anyhow!(
                    "the check of snapshot {id} was interrupted; nothing was given up"
                )));
            }
        };
        let what = format!("does not pass its check: {}", problems.join("; "));
        Err(Setback::Broken(anyhow!(Damaged { path: id.to_string(), what }).context("nothing is given up for it")))
    }

    /// Empties the live data of `volumes`, which have not been exchanged, and deletes what this operation set aside.
    fn discard_live(&self, volumes: &[Volume]) -> Result<(), Setback> {
        self.must_be_gone_to_restore()?;
        fault::point("act.discard").map_err(anyhow::Error::from)?;
        Ok(self.store.discard_live(volumes, self.id(), self.work_of_the_way_back())?)
    }

    /// By which rules data of earlier operations goes.
    #[must_use]
    pub fn rules(&self) -> Rules {
        leftovers::rules(self.app, self.host)
    }
}
