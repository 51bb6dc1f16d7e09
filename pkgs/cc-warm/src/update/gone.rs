//! "Gone": nothing of the app exists, and nobody else uses its volumes. The condition of every snapshot and restore.

use std::time::Duration;

use anyhow::anyhow;

use super::operation::{Operation, Setback};
use crate::sys::clock::Deadline;

/// Whoever used a volume when the app was stopped may take a moment to let go of it.
const LET_GO: Duration = Duration::from_secs(10);
/// On the way back, somebody who uses the data is waited for so long: the app is down until it is restored.
const WAY_BACK: Duration = Duration::from_mins(5);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(200);

impl Operation<'_> {
    /// Fails unless nothing of the app exists.
    pub fn must_be_down(&self) -> Result<(), Setback> {
        let left = self.patiently(|| self.deployer.remains()).map_err(Setback::from)?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Setback::Broken(anyhow!("it was stopped, but this is left of it: {}", left.join(", "))))
    }

    /// Fails unless the app is gone, on the way there: the way back starts it on data that nobody touched.
    pub fn must_be_gone(&self) -> Result<(), Setback> {
        let users = self.users_after(LET_GO)?;
        if users.is_empty() {
            return Ok(());
        }
        Err(Setback::Broken(anyhow!("its data is in use while it is down: {}", users.join(", "))))
    }

    /// Fails unless the app is gone, on the way back. That somebody uses its data is no fact about the app: the recovery
    /// asks again.
    pub fn must_be_gone_to_restore(&self) -> Result<(), Setback> {
        let users = self.users_after(WAY_BACK)?;
        if users.is_empty() {
            return Ok(());
        }
        Err(Setback::NotReady(anyhow!("its data is in use and cannot be restored: {}; end that", users.join(", "))))
    }

    /// Who still uses the volumes of the app, which is down, once `patience` is over.
    fn users_after(&self, patience: Duration) -> Result<Vec<String>, Setback> {
        self.must_be_down()?;
        let deadline = Deadline::after(patience);
        let mut told = false;
        loop {
            let users = self.patiently(|| self.deployer.outsiders()).map_err(Setback::from)?;
            if users.is_empty() || deadline.is_over() {
                return Ok(users);
            }
            self.left_to_the_boot()?;
            if !told {
                self.say(&format!("waiting, its data is in use: {}", users.join(", ")));
                told = true;
            }
            std::thread::sleep(PAUSE.min(deadline.left()));
        }
    }
}
