//! What a recovery has to do: a pure function of what the journal says.

use super::saga::{EventName, Progress};

/// What a recovery does about a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing was touched: remove the journal.
    Close,
    /// The data is untouched: drop what is unfinished, start what ran before. No restore: the standing snapshot may be
    /// weeks old.
    StartPrior,
    /// Stop, wait until gone, restore this operation's own snapshot, start what it goes back to.
    GoBack,
    /// The data is back and may have taken writes since: start without another restore.
    StartRestored,
    /// The first deployment came to nothing: undeploy, volumes kept.
    Undeploy,
    /// It was healthy: commit.
    Commit,
    /// A terminal event: finish its effects, remove the journal.
    Finish,
    /// Stuck: make sure that nothing of it is left running, tell the operator, leave it.
    LeaveStuck,
    /// It was stuck before this operation did anything: say so again.
    StuckAgain,
}

/// What the last valid event asks for.
#[must_use]
pub fn plan(progress: &Progress) -> Plan {
    use EventName as E;
    let nothing_ran = progress.begun.from.is_none();
    match progress.last {
        E::Begun | E::Stopping if progress.begun.was_stuck.is_some() => Plan::StuckAgain,
        E::Begun => Plan::Close,
        E::Deploying | E::Deployed | E::RollingBack if nothing_ran => Plan::Undeploy,
        E::Deploying | E::Deployed | E::RollingBack if progress.needs_restore() => Plan::GoBack,
        // The last three: stateless, or rolled back before the target was ever started.
        E::Stopping | E::Snapshotting | E::Snapshotted | E::Deploying | E::Deployed | E::RollingBack => {
            Plan::StartPrior
        }
        E::Restoring | E::Exchanging | E::DiscardingFailed => Plan::GoBack,
        // Redeploying: a snapshot by hand, too, restarts the app without any restore before it.
        E::Restored | E::Redeploying => Plan::StartRestored,
        E::Healthy => Plan::Commit,
        E::Committed | E::RolledBack | E::Released => Plan::Finish,
        E::Stuck => Plan::LeaveStuck,
    }
}

/// Whether what is deployed as `generation` of a stuck app was there when it became stuck (or was put up again since: a
/// swarm does so at a boot), and so is taken down. Anything else an operator deployed.
#[must_use]
pub fn is_left_over(progress: &Progress, generation: &str) -> bool {
    // What runs of an app that is stuck already is an operator's.
    let found = progress.begun.generation.as_deref().filter(|_| progress.begun.was_stuck.is_none());
    [progress.left.as_deref(), progress.deployed.as_deref(), found].contains(&Some(generation))
}
