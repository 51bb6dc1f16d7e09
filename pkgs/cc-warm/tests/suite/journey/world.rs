//! A sandbox that a journey leads through: does each step, looks at what became of it, and asks the model.

use anyhow::{Context, Result, anyhow, bail, ensure};
use cc_warm::demo::maker::Behaviour;
use cc_warm::demo::sandbox::APP;

use super::act::Ended;
use super::look::texts;
use super::model::{End, Expected, Model, Now, Published, Seen};
use super::{Action, Command, Step, Then, Trouble};
use crate::fixture::Fixture;

/// A sandbox with an app of two volumes: the second has a copy of the users' notes, and no version touches it.
pub(crate) struct World {
    pub(super) fixture: Fixture,
    pub(super) model: Model,
    /// Notes are numbered.
    pub(super) written: u32,
    pub(super) seen: Seen,
    /// A command was cut short between telling something and writing that down.
    pub(super) maybe_told_twice: bool,
    /// What the last commands said, for messages.
    pub(super) said: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let first = Published {
            version: "1.0.0+0".to_owned(),
            major: 1,
            asks: false,
            format: 1,
            behaviour: Behaviour::Healthy,
        };
        let fixture = Fixture::empty();
        // A busy machine is no reason for a version to count as unhealthy.
        fixture.configure_deadline("6s");
        let mut world = Self {
            fixture,
            model: Model::new(first),
            written: 0,
            seen: Seen::default(),
            maybe_told_twice: false,
            said: Vec::new(),
        };
        world.publish()?;
        world.fixture.run(&["update"]).expect(0);
        world.write()?;
        world.write()?;
        world.seen = world.look()?;
        Ok(world)
    }

    pub(crate) fn take(&mut self, step: &Step) -> Result<()> {
        self.said.clear();
        let done = match step {
            Step::Publish { major, asks, migrates, behaviour } => {
                let last = self.model.highest().clone();
                let number = self.model.published.len();
                let major = last.major + u32::from(*major);
                let format = last.format + u32::from(*migrates);
                let version = format!("{major}.{number}.0+{number}");
                let next = Published { version, major, asks: *asks, format, behaviour: *behaviour };
                self.model.published.push(next);
                self.publish()
            }
            Step::Write => self.write(),
            // Whoever deploys by hand goes on by hand, until it is adopted.
            Step::Run(Command::Undeploy, _) if self.model.by_hand || self.model.at.now == Now::Mended => Ok(()),
            Step::Run(command, _) if self.model.at.now == Now::Mended => self.run(*command, Trouble::None),
            Step::Run(command, trouble) => self.run(*command, *trouble),
            Step::KillApp => self.kill_app(),
            Step::ByHand => self.deploy_by_hand(),
            Step::Days(days) => {
                self.model.day += days;
                Ok(())
            }
        };
        if std::env::var_os("CC_WARM_JOURNEY_TOLD").is_some() {
            println!("{step:?}\n{}\n{:?} {:?}", self.said.join("\n"), self.model.at, self.seen.rejected);
        }
        done.map_err(|error| anyhow!("{error:#}\n{:?}\n{:?}\n{}", self.model.at, self.seen, self.said.join("\n")))
    }

    fn run(&mut self, command: Command, trouble: Trouble) -> Result<()> {
        let before = self.seen.clone();
        let told = self.alerts().len();
        let mut expected = self.model.expect(command, &before);
        let words = self.words(command);
        let ended = self.perform(&words.iter().map(String::as_str).collect::<Vec<_>>(), trouble)?;
        let touched = ended.point.is_some();
        let code = ended.ran.code;
        if touched {
            self.expect_trouble(command, trouble, &ended, &mut expected)?;
            self.recover(command, trouble, &mut expected)?;
        } else {
            let wanted = &expected.codes;
            ensure!(code.is_some_and(|code| wanted.contains(&code)), "exit code {code:?}, not {wanted:?}");
            ensure!(ended.json.is_some() || code != Some(0), "no document");
        }
        self.seen = self.look()?;
        let seen = self.seen.clone();
        let was = self.model.at.clone();
        self.model.arrive(command, &expected.ends, &seen)?;
        if !touched {
            if code == Some(11) {
                self.model.kept.push(was.notes.clone());
                let target = &self.model.published[expected.target.context("no target")?].version;
                ensure!(seen.rejected.contains(target), "{target} is not remembered as rejected");
            }
            ensure!(command != Command::Pause || seen.paused, "it is not paused");
            ensure!(command != Command::Resume || !seen.paused, "it is paused still");
            ensure!(command != Command::Resume || seen.resumed || was.now != Now::Away, "it is not resumed");
        }
        self.model.invariants(&before, &seen)?;
        self.alerts_tell(code.filter(|_| !touched), told)
    }

    /// What a command with trouble may have come to.
    fn expect_trouble(
        &mut self,
        command: Command,
        trouble: Trouble,
        ended: &Ended,
        expected: &mut Expected,
    ) -> Result<()> {
        let killed = match trouble {
            Trouble::Fault { fault, .. } => fault.action == Action::Kill,
            Trouble::Written { then, .. } => then == Then::IsKilled,
            Trouble::None => false,
        };
        let code = ended.ran.code;
        let codes = [0, 1, 2, 10, 11, 12, 13, 14, 24, 25].map(Some);
        ensure!(codes.contains(&code) || (killed && code.is_none()), "exit code {code:?}");
        ensure!(code != Some(12) || ended.may_be_stuck, "stuck, and the way back did not fail");
        *expected = self.model.with_trouble(command, expected.clone());
        self.may_end(ended, killed, expected);
        if let (Some((version, notes)), Trouble::Written { point, .. }) = (&ended.written, trouble) {
            self.written_in_between(point, version, notes, expected)?;
        }
        Ok(())
    }

    fn may_end(&self, ended: &Ended, killed: bool, expected: &mut Expected) {
        if ended.may_be_stuck {
            expected.or(Now::Stuck);
        }
        if ended.point.as_deref() == Some("act.taken-over") && !killed {
            let target = expected.target.map(|target| End { version: target, ..self.model.at.clone() });
            expected.ends.extend(target.map(|end| End { now: Now::Parted, ..end }));
            expected.or(Now::Parted);
        }
    }

    /// A note that was written in the middle is where it belongs.
    fn written_in_between(
        &mut self,
        point: &str,
        version: &str,
        notes: &[String],
        expected: &mut Expected,
    ) -> Result<()> {
        let version = self.model.index(version).context("an unknown version")?;
        let base = &notes[..notes.len() - 1];
        let is_it = |end: &End| end.now == Now::Up && end.version == version && end.notes == base;
        ensure!(expected.ends.iter().any(is_it), "{} runs on {base:?}", self.model.published[version].version);
        if point.contains("deployed") {
            // Committed with it, or taken back without it.
            for end in expected.ends.iter_mut().filter(|end| is_it(end)) {
                end.notes = notes.to_vec();
            }
        } else {
            expected.ends = vec![End { now: Now::Up, version, notes: notes.to_vec() }];
        }
        Ok(())
    }

    /// Recovers, and has trouble again, perhaps; then it is settled.
    fn recover(&mut self, command: Command, trouble: Trouble, expected: &mut Expected) -> Result<()> {
        let words = ["recover", APP, "--json"];
        if let Trouble::Fault { again: Some(fault), .. } = trouble {
            let ended = self.perform(&words, Trouble::Fault { fault, again: None })?;
            self.may_end(&ended, fault.action == Action::Kill, expected);
        }
        let code = self.perform(&words, Trouble::None)?.ran.code;
        let may_be = |now: Now| expected.ends.iter().any(|end| end.now == now);
        let is_settled = code == Some(0) || (code == Some(13) && (may_be(Now::Stuck) || may_be(Now::Mended)));
        ensure!(is_settled || may_be(Now::Parted), "recover ends with {code:?} after {command:?}");
        let journal = self.fixture.journal();
        ensure!(journal.is_empty() || code == Some(13), "recover leaves a journal:\n{journal}");
        Ok(())
    }

    /// Does what `status` says, as an operator would, until the app is up.
    pub(crate) fn follow_hints(&mut self) -> Result<()> {
        let mut retried = false;
        for _ in 0..5 {
            if self.model.at.now == Now::Up {
                return Ok(());
            }
            let status = self.json(&["status"])?["apps"][0].clone();
            let hints = texts(status["hints"].as_array().into_iter().flatten());
            let command = hints.iter().find_map(|hint| {
                Some(match hint.strip_prefix("cc-warm ")?.split(' ').next()? {
                    "recover" => Command::Recover,
                    "retry" => Command::Retry,
                    "restore" => Command::Restore { previous: hint.contains("--previous") },
                    "resume" => Command::Resume,
                    "update" => Command::Update,
                    "adopt" => Command::Adopt,
                    _ => return None,
                })
            });
            let command = match command {
                // Where that does not help, there is the snapshot.
                Some(Command::Retry) if std::mem::replace(&mut retried, true) => Command::Restore { previous: false },
                Some(command) => command,
                // An alert says what to do.
                None if self.model.at.now == Now::Parted && self.seen.current.is_some() => {
                    Command::Restore { previous: false }
                }
                None => bail!("{:?}, and no hint what to do: {status}", self.model.at.now),
            };
            self.take(&Step::Run(command, Trouble::None))?;
        }
        ensure!(self.model.at.now == Now::Up, "it does not come up by what cc-warm says: {:?}", self.seen);
        Ok(())
    }

    /// Updates end where nothing more happens.
    pub(crate) fn converges(&mut self) -> Result<()> {
        let facts = |seen: &Seen| {
            (seen.generation.clone(), seen.current.clone(), seen.rejected.clone(), seen.last_good.clone())
        };
        for _ in 0..self.model.published.len() + 3 {
            let before = facts(&self.seen);
            self.take(&Step::Run(Command::Update, Trouble::None))?;
            if facts(&self.seen) == before {
                self.take(&Step::Run(Command::Update, Trouble::None))?;
                ensure!(facts(&self.seen) == before, "it goes on and on: {:?}", self.seen);
                return Ok(());
            }
        }
        bail!("updates do not end")
    }
}
