//! What must be true on a journey. Nothing in here asks cc-warm, or the machine: what was seen comes in.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cc_warm::demo::maker::Behaviour;

use super::Command;

/// A version that the maintainer published. Later ones are higher.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) version: String,
    pub(crate) major: u32,
    pub(crate) asks: bool,
    pub(crate) format: u32,
    pub(crate) behaviour: Behaviour,
}

/// How the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Now {
    Up,
    /// Deployed, and nothing of it runs.
    Down,
    /// Undeployed by order.
    Away,
    Stuck,
    /// Stuck, says cc-warm, and its operator has deployed it.
    Mended,
    /// cc-warm has let go of it.
    Parted,
}

/// Where a step may end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) now: Now,
    /// What runs; of an app that does not, what ran.
    pub(crate) version: usize,
    /// What users see, or will once it runs.
    pub(crate) notes: Vec<String>,
}

impl End {
    fn up(version: usize, notes: &[String]) -> Self {
        Self { now: Now::Up, version, notes: notes.to_vec() }
    }
}

/// What a command without trouble may come to.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) codes: Vec<i32>,
    pub(crate) ends: Vec<End>,
    /// The version that is tried.
    pub(crate) target: Option<usize>,
}

impl Expected {
    fn of(codes: &[i32], end: End) -> Self {
        Self { codes: codes.to_vec(), ends: vec![end], target: None }
    }

    /// Wherever it might end, it may be `now` there instead.
    pub(crate) fn or(&mut self, now: Now) {
        let ends: Vec<End> = self.ends.iter().map(|end| End { now, ..end.clone() }).collect();
        for end in ends {
            if !self.ends.contains(&end) {
                self.ends.push(end);
            }
        }
    }
}

/// What is on disk of the app, as it was before a command or is after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The version that answers, and is well.
    pub(crate) answers: Option<String>,
    /// The version that is deployed.
    pub(crate) deployed: Option<String>,
    /// Another one for each deployment.
    pub(crate) generation: Option<String>,
    pub(crate) journal: String,
    /// The format of the live data, and the users' notes.
    pub(crate) format: u32,
    pub(crate) notes: Vec<String>,
    /// What the second volume has of them.
    pub(crate) copied: Vec<String>,
    /// What is in the failed data that is kept.
    pub(crate) kept: Vec<Vec<String>>,
    pub(crate) refused: bool,
    pub(crate) last_good: Option<String>,
    pub(crate) rejected: Vec<String>,
    pub(crate) approved: Vec<String>,
    pub(crate) paused: bool,
    pub(crate) resumed: bool,
    /// The known-good, and the one before.
    pub(crate) current: Option<String>,
    pub(crate) previous: Option<String>,
}

/// What must be true.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) published: Vec<Published>,
    pub(crate) at: End,
    /// To what a stuck app, or one that was let go of, may come back.
    pub(crate) ways: Vec<End>,
    /// The data that each snapshot has.
    pub(crate) snapshots: BTreeMap<String, End>,
    /// Failed data that must be kept.
    pub(crate) kept: Vec<Vec<String>>,
    pub(crate) day: i64,
    /// What runs was deployed by an operator, and cc-warm has not adopted it yet.
    pub(crate) by_hand: bool,
}

/// Failed data is kept for so many days; its age is that of the file, which is made on the first day of a journey.
const KEEP_FAILED: i64 = 7;

impl Model {
    pub(crate) fn new(first: Published) -> Self {
        Self {
            published: vec![first],
            at: End::up(0, &[]),
            ways: Vec::new(),
            snapshots: BTreeMap::new(),
            kept: Vec::new(),
            day: 0,
            by_hand: false,
        }
    }

    pub(crate) fn highest(&self) -> &Published {
        self.published.last().unwrap()
    }

    pub(crate) fn index(&self, version: &str) -> Option<usize> {
        self.published.iter().position(|one| one.version == version)
    }

    /// What `command` comes to if nothing goes wrong.
    pub(crate) fn expect(&self, command: Command, seen: &Seen) -> Expected {
        let here = self.at.clone();
        if here.now == Now::Parted {
            let ends = self.ways.iter().cloned().chain(self.restored(seen)).chain([here]).collect();
            return Expected { codes: vec![0, 1, 2, 10, 11, 14, 24], ends, target: None };
        }
        let started = End::up(here.version, &here.notes);
        match (command, here.now) {
            (Command::Update | Command::Recover, Now::Stuck | Now::Mended) => Expected::of(&[13], here),
            (Command::Update, _) if seen.paused => Expected::of(&[0], here),
            (Command::Update, Now::Away) => Expected::of(&[0], if seen.resumed { started } else { here }),
            (Command::Update | Command::Recover, Now::Down) | (Command::Adopt, Now::Mended) => {
                Expected::of(&[0], started)
            }
            (Command::Update, _) => self.expect_update(seen),
            (Command::Snapshot, Now::Down) => Expected::of(&[1], here),
            (Command::Snapshot | Command::Adopt, Now::Away | Now::Stuck)
            | (Command::Snapshot | Command::Retry, Now::Mended) => Expected::of(&[24], here),
            (Command::Restore { previous }, _) => {
                match (if previous { &seen.previous } else { &seen.current }).as_ref() {
                    None => Expected::of(&[2], here),
                    Some(id) => Expected::of(&[0], self.snapshots[id].clone()),
                }
            }
            (Command::Retry, Now::Stuck) => {
                let mut expected = Expected { codes: vec![0], ends: self.ways.clone(), target: None };
                // What somebody had deployed when a restore failed may never have been well.
                if self.ways.iter().any(|way| self.published[way.version].behaviour != Behaviour::Healthy) {
                    expected.codes.push(12);
                    expected.ends.push(here);
                }
                expected
            }
            (Command::Adopt, Now::Down) => Expected::of(&[14], here),
            (Command::Undeploy, Now::Up | Now::Down | Now::Away) => Expected::of(&[0], End { now: Now::Away, ..here }),
            _ => Expected::of(&[0], here),
        }
    }

    fn restored<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = End> + 'a {
        [&seen.current, &seen.previous].into_iter().flatten().filter_map(|id| self.snapshots.get(id)).cloned()
    }

    /// The gate, and the version's own behaviour.
    fn expect_update(&self, seen: &Seen) -> Expected {
        let (here, runs) = (self.at.clone(), self.at.version);
        if self.by_hand {
            return Expected::of(&[0], here);
        }
        let may_be = |&index: &usize| !seen.rejected.contains(&self.published[index].version);
        let approved = |index: usize| seen.approved.contains(&self.published[index].version);
        let ahead: Vec<usize> = (runs + 1..self.published.len()).rev().filter(may_be).collect();
        let passes = |&index: &usize| {
            let asks = |at: usize| self.published[at].asks || self.published[at].major != self.published[runs].major;
            approved(index) || (index == ahead[0] && !(runs + 1..=index).any(asks))
        };
        let Some(target) = ahead.iter().copied().find(passes) else {
            return Expected::of(&[if ahead.is_empty() { 0 } else { 10 }], here);
        };
        let (code, end) = match self.published[target].behaviour {
            Behaviour::Healthy => (0, End::up(target, &here.notes)),
            _ => (11, here),
        };
        Expected { target: Some(target), ..Expected::of(&[code], end) }
    }

    /// What `expected` may come to with trouble and a recovery: it, or what was before.
    pub(crate) fn with_trouble(&self, command: Command, mut expected: Expected) -> Expected {
        let mut here = self.at.clone();
        if here.now == Now::Down {
            here.now = Now::Up;
        }
        expected.ends.push(here.clone());
        expected.ends.dedup();
        if here.now == Now::Stuck && matches!(command, Command::Retry | Command::Restore { .. }) {
            expected.or(Now::Stuck);
        }
        expected
    }

    /// Takes the one of `ends` that was `seen`.
    pub(crate) fn arrive(&mut self, command: Command, ends: &[End], seen: &Seen) -> Result<()> {
        let found = ends.iter().find(|end| self.is(end, seen)).cloned();
        let names: Vec<String> = ends
            .iter()
            .map(|end| format!("{:?} {} {:?}", end.now, self.published[end.version].version, end.notes))
            .collect();
        let Some(found) = found else {
            anyhow::bail!("it ends where it must not; allowed: {names:?}");
        };
        if found.now == Now::Mended {
            self.ways.clear();
        }
        if matches!(found.now, Now::Stuck | Now::Parted) {
            if self.at.now != found.now {
                self.ways.clear();
            }
            let before = End { now: Now::Up, ..self.at.clone() };
            let ways = ends.iter().map(|end| End { now: Now::Up, ..end.clone() }).chain([before]);
            for way in ways.chain(self.restored(seen)).collect::<Vec<_>>() {
                if !self.ways.contains(&way) {
                    self.ways.push(way);
                }
            }
        }
        if matches!(command, Command::Restore { .. }) && found.now == Now::Up && self.at.now != Now::Stuck {
            // Of a restore that came to something, what was live is kept.
            if found.version != self.at.version || found.notes != self.at.notes {
                self.kept.push(self.at.notes.clone());
            }
        }
        self.at = found;
        Ok(())
    }

    fn is(&self, end: &End, seen: &Seen) -> bool {
        let version = Some(&self.published[end.version].version);
        let is_data = seen.notes == end.notes && seen.copied == end.notes;
        match end.now {
            Now::Up => seen.answers.as_ref() == version && is_data && seen.journal.is_empty(),
            Now::Down => seen.answers.is_none() && seen.deployed.as_ref() == version && is_data,
            Now::Away => seen.deployed.is_none() && is_data && seen.journal.is_empty(),
            Now::Mended => seen.answers.as_ref() == version && is_data && seen.journal.contains("\"stuck\""),
            Now::Stuck => seen.deployed.is_none() && seen.journal.contains("\"stuck\""),
            Now::Parted => seen.journal.is_empty() && is_data,
        }
    }

    /// What holds after every step, wherever it led.
    pub(crate) fn invariants(&mut self, before: &Seen, seen: &Seen) -> Result<()> {
        ensure!(!seen.refused, "old code met newer data");
        if let Some(current) = &seen.current {
            let at_the_stop = End { now: Now::Up, ..self.at_before(before) };
            self.snapshots.entry(current.clone()).or_insert(at_the_stop);
        }
        ensure!(before.current.is_none() || seen.current.is_some(), "the known-good is lost");
        if self.at.now == Now::Up {
            let version = self.published[self.at.version].version.clone();
            let is_good = seen.last_good.as_ref() == Some(&version);
            ensure!(is_good || self.by_hand, "{version} runs, and state.json says {:?}", seen.last_good);
            self.by_hand &= !is_good;
            ensure!(seen.format == self.published[self.at.version].format, "its data has format {}", seen.format);
        }
        if self.day < KEEP_FAILED {
            for notes in &self.kept {
                ensure!(seen.kept.contains(notes), "failed data is not kept: {notes:?}, but {:?}", seen.kept);
            }
        }
        Ok(())
    }

    /// What was running when a snapshot was taken since.
    fn at_before(&self, before: &Seen) -> End {
        let version = before.deployed.as_deref().and_then(|version| self.index(version)).unwrap_or(self.at.version);
        End { now: Now::Up, version, notes: before.notes.clone() }
    }
}
