//! One operation on an app, as it is performed: what every act needs, and the acts that both ways share.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::journal::Journal;
use super::saga::{Cause, Event, EventName, Progress};
use super::turn::Turn;
use crate::config::App;
use crate::config::duration::Span;
use crate::deployer::{DeployError, Deployer, Known, Observed, Release, Stopped};
use crate::downtime::Stopwatch;
use crate::error::{Exit, Problem};
use crate::health::{self, Rules, Verdict, Watch};
use crate::host::Host;
use crate::identity::Identity;
use crate::lock::AppLock;
use crate::snapshot::{Reporter, Staged, Store};
use crate::sys::clock::Deadline;
use crate::sys::fault;
use crate::sys::signals::Interrupt;
use crate::sys::untrusted::Untrusted;

/// A stop that takes longer is not believed any more.
const STOP_DEADLINE: Duration = Duration::from_mins(5);
/// How long a deployer that does not answer is asked again before the operation is left to `recover`.
const PATIENCE: Duration = Duration::from_mins(2);

/// Why nothing more is done in a shutdown.
pub(super) const GOING_DOWN: &str = "the machine is going down; the recovery at its next boot settles it";

/// How long a deployer that does not answer is asked again.
#[cfg(not(feature = "fault-points"))]
#[must_use]
pub fn patience() -> Duration {
    PATIENCE
}

/// Tests have less of it.
#[cfg(feature = "fault-points")]
#[must_use]
pub fn patience() -> Duration {
    let wanted = std::env::var("CC_WARM_PATIENCE_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.map_or(PATIENCE, Duration::from_millis)
}

/// Asks again while there is no answer, for `patience` after the first refusal: what hangs may take longer than that to
/// refuse, and is asked again all the same.
fn patiently<T>(
    patience: Duration,
    say: &dyn Fn(&str),
    mut ask: impl FnMut() -> Result<T, DeployError>,
) -> Result<T, DeployError> {
    let mut answer = ask();
    let deadline = Deadline::after(patience);
    let mut pause = Duration::from_millis(200);
    while let Err(DeployError::NotReady(error)) = &answer
        && !deadline.is_over()
    {
        say(&format!("waiting for the deployer: {error:#}"));
        std::thread::sleep(pause.min(deadline.left()));
        pause = (pause * 2).min(Duration::from_secs(15));
        answer = ask();
    }
    answer
}

/// Tells what happens, a line an event, to whoever watches.
pub trait Narrator: Reporter {
    /// `text` has just begun or happened.
    fn say(&self, text: &str);
}

/// Why the way forward, or back, does not go on.
#[derive(Debug)]
pub enum Setback {
    /// Go back.
    Back(Cause, Untrusted),
    /// Somebody else works on the app.
    Released(Untrusted),
    /// Nothing is known of the app: leave the journal to `recover`.
    NotReady(anyhow::Error),
    /// The journal cannot be written, or the like: leave it to `recover`.
    Broken(anyhow::Error),
}

impl std::fmt::Display for Setback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Back(_, reason) | Self::Released(reason) => f.write_str(&reason.terminal()),
            Self::NotReady(error) | Self::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Setback {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// An operation under way.
pub struct Operation<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The app, as the journal has it.
    pub app: &'a App,
    /// What runs it.
    pub deployer: &'a dyn Deployer,
    /// Its snapshots.
    pub store: &'a Store,
    /// Apps that must be healthy before it can be.
    pub predecessors: Vec<&'a App>,
    /// Its lock.
    pub lock: &'a AppLock,
    /// The intent log.
    pub journal: Journal,
    /// Who watches.
    pub narrator: &'a dyn Narrator,
    /// What was copied while the app ran.
    pub staged: Option<Staged>,
    /// The right to be the one app that is stopped, until it runs again.
    pub turn: Option<Turn>,
    /// For how long the app is down, as far as this process sees it.
    pub watch: Stopwatch,
    /// What may interrupt an app's way back: nothing but the end of the machine.
    pub shutdown: Interrupt,
}

impl Operation<'_> {
    /// What the journal says.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        self.journal.progress()
    }

    /// The operation's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.progress().begun.operation
    }

    /// Makes `event` durable.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        tracing::debug!(app = %self.app.name, event = event.name().as_str(), "journal");
        self.journal.write(event)
    }

    /// Tells who watches.
    pub fn say(&self, text: &str) {
        self.narrator.say(text);
    }

    /// Asks a deployer again while it does not answer, with back-off; a fact about the app is returned at once.
    pub fn patiently<T>(&self, ask: impl FnMut() -> Result<T, DeployError>) -> Result<T, DeployError> {
        patiently(patience(), &|text| self.say(text), ask)
    }

    /// Stops the app and waits until nothing of it is left. Done again, it does nothing.
    pub fn stop(&mut self) -> Result<Stopped, Setback> {
        let left = self.patiently(|| self.deployer.remains());
        if !matches!(&left, Ok(left) if left.is_empty()) {
            self.say("stopping");
        }
        self.watch.stopped();
        let since = Instant::now();
        let stopped = self
            .patiently(|| {
                fault::point("act.stop").map_err(DeployError::failed)?;
                self.deployer.stop(self.lock, Deadline::after(STOP_DEADLINE))
            })
            .map_err(|error| match error {
                DeployError::NotReady(error) => Setback::NotReady(error),
                DeployError::Failed(error) | DeployError::Ours(error) => {
                    Setback::Broken(error.context("the app could not be stopped"))
                }
            })?;
        self.must_be_down()?;
        self.watch.add(since.elapsed(), |parts| &mut parts.stop);
        Ok(stopped)
    }

    /// Deploys `release` and gives the generation of the new deployment.
    pub fn deploy(&mut self, release: &Release) -> Result<String, DeployError> {
        self.say(&format!("deploying {}", release.version));
        self.patiently(|| {
            fault::point("act.deploy").map_err(DeployError::failed)?;
            fault::point("act.deploy.silent").map_err(DeployError::not_ready)?;
            self.deployer.deploy(release, self.lock)
        })?;
        let observed = self.patiently(|| self.deployer.observe())?;
        match observed {
            Observed::Present(deployment) => Ok(deployment.generation),
            Observed::Absent { .. } => Err(DeployError::Failed(anyhow!("nothing is deployed after the deployment"))),
        }
    }

    /// Waits until the app is healthy, by its own terms.
    pub fn await_healthy(&self, rules: &Rules, interrupt: &Interrupt) -> Result<Verdict, DeployError> {
        fault::point("act.health").map_err(DeployError::failed)?;
        let mut observe = || match self.deployer.observe()? {
            Observed::Present(deployment) => Ok(deployment.state),
            Observed::Absent { .. } => {
                Ok(crate::deployer::Convergence::Died(Untrusted::new("it is not deployed any more")))
            }
        };
        let mut progress = |p: &health::Progress| tracing::info!(app = %self.app.name, "{}", p.sentence());
        self.say(&format!("waiting until it is healthy, for {} at most", Span::of(rules.deadline)));
        let mut watch = Watch {
            app: self.app,
            predecessors: &self.predecessors,
            observe: &mut observe,
            interrupt,
            progress: &mut progress,
        };
        health::wait(&mut watch, rules)
    }

    /// [`Setback::Released`] if what is deployed, or that nothing is, is not what this operation found: asked right before it
    /// first touches the app. Hours may have passed, with a copy, a check or another app's turn.
    pub fn must_be_as_found(&self) -> Result<(), Setback> {
        let now = match self.patiently(|| self.deployer.observe()).map_err(Setback::from)? {
            Observed::Present(deployment) => Some(deployment.generation),
            Observed::Absent { .. } => None,
        };
        match (now == self.progress().begun.generation, now) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(Setback::Released(Untrusted::new("it was changed by someone else meanwhile"))),
            (false, None) => Err(Setback::Released(Untrusted::new("it was undeployed by someone else meanwhile"))),
        }
    }

    /// [`Setback::Released`] if what is deployed is neither what this operation found nor what it deployed.
    pub fn must_be_ours(&self) -> Result<(), Setback> {
        let observed = self.patiently(|| self.deployer.observe()).map_err(|error| match error {
            DeployError::NotReady(error) | DeployError::Failed(error) | DeployError::Ours(error) => {
                Setback::NotReady(error)
            }
        })?;
        let Observed::Present(deployment) = observed else { return Ok(()) };
        if let Err(error) = fault::point("act.taken-over") {
            return Err(Setback::Released(Untrusted::new(error.to_string())));
        }
        let progress = self.progress();
        // Where it was written down what docker showed, whatever it shows now instead is another's work; where the act was
        // cut short before that, the identity has to do.
        let written = match progress.last {
            EventName::Stopping | EventName::Snapshotting | EventName::Snapshotted => {
                progress.begun.generation.as_ref()
            }
            EventName::Deployed | EventName::RollingBack | EventName::Restoring => progress.deployed.as_ref(),
            _ => None,
        };
        let [before, now] = [progress.begun.generation.as_ref(), Some(&deployment.generation)];
        if written.is_some() && now != written && now != before {
            return Err(Setback::Released(Untrusted::new("it was changed by someone else meanwhile")));
        }
        let ours = |identity: &Identity| {
            [progress.begun.from.as_ref(), Some(&progress.begun.to), progress.back_to()].contains(&Some(identity))
        };
        match deployment.what {
            Known::Yes(identity) if ours(&identity) => Ok(()),
            Known::Yes(identity) => {
                Err(Setback::Released(Untrusted::new(format!("{identity} was deployed meanwhile"))))
            }
            Known::No { label, why } => {
                Err(Setback::Released(Untrusted::new(format!("{} was deployed meanwhile: {why}", label.raw()))))
            }
        }
    }

    /// Fails if the machine is going down: then the journal is all that has to be left, and the boot's recovery has the
    /// time that a shutdown has not.
    pub fn left_to_the_boot(&self) -> Result<(), Setback> {
        if self.shutdown.is_set() {
            return Err(Setback::NotReady(anyhow!(GOING_DOWN)));
        }
        Ok(())
    }

    /// The release that was prepared as `identity`, from this disk alone.
    pub fn prepared(&self, identity: &Identity) -> Result<Release> {
        self.deployer.prepared(identity).with_context(|| format!("version {identity} is not on this host any more"))
    }

    /// The app is as `error` left it; the journal stays.
    #[must_use]
    pub fn left_to_recover(&self, error: anyhow::Error, exit: Exit) -> anyhow::Error {
        let progress = self.progress();
        if progress.last == EventName::Begun {
            return Problem::new(format!(
                "nothing was touched: the operation on app `{}` could not begin",
                self.app.name
            ))
            .exit(exit)
            .because(error)
            .into();
        }
        Problem::new(format!(
            "the operation on app `{}` was left unfinished at `{}`: the app may be down",
            self.app.name,
            progress.last.as_str()
        ))
        .exit(exit)
        .hint(format!("cc-warm recover {}", self.app.name))
        .because(error)
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As abra and docker in production: what hangs takes longer to be given up than the patience lasts.
    #[test]
    fn what_hangs_for_longer_than_the_patience_is_asked_again() {
        let mut asked = 0;
        let answer = patiently(Duration::from_millis(20), &|_| {}, || {
            asked += 1;
            if asked == 2 {
                return Ok("deployed");
            }
            std::thread::sleep(Duration::from_millis(50));
            Err(DeployError::not_ready(anyhow!("it was given up")))
        });
        assert_eq!((answer.unwrap(), asked), ("deployed", 2));
    }
}
