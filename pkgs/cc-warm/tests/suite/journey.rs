//! Random journeys: what a host sees over months, as a sequence of steps, with the real program and the real app. After
//! each step the design's invariants must hold, by the app's own data and log; what must be true is kept by a model that
//! asks cc-warm nothing.
//!
//! A journey is made from its seed. One that fails is made shorter, by leaving out steps, before it is told.
//! `CC_WARM_JOURNEYS=<n>` walks n others, from the seed `CC_WARM_JOURNEY_SEED`; with that alone, this one.
//! `CC_WARM_JOURNEY_TOLD=1` prints what each command said.

mod act;
mod look;
mod model;
mod world;

use anyhow::{Context, Result};
use cc_warm::demo::maker::Behaviour;
use rayon::prelude::*;

use world::World;

/// What happens on a host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The maintainer publishes the next version.
    Publish {
        /// A major step.
        major: bool,
        /// With a note that asks for an operator.
        asks: bool,
        /// Its data has a newer format.
        migrates: bool,
        behaviour: Behaviour,
    },
    /// A user writes a note.
    Write,
    /// Somebody, or the night, runs cc-warm.
    Run(Command, Trouble),
    /// Everything of the app is killed, and of who keeps it, as by a boot.
    KillApp,
    /// An operator deploys the highest version, if it is well, without cc-warm.
    ByHand,
    /// So many days go by.
    Days(i64),
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Update,
    Snapshot,
    Restore {
        previous: bool,
    },
    Retry,
    Pause,
    Resume,
    Undeploy,
    /// Of the highest version that there is.
    Approve,
    Adopt,
    Recover,
}

/// What comes in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// There is a fault, and the recovery may have another one.
    Fault {
        fault: Fault,
        again: Option<Fault>,
    },
    /// A user writes while it halts at `point`; then this becomes of it.
    Written {
        point: &'static str,
        then: Then,
    },
}

/// What happens at a fault point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How the point's name begins.
    pub(crate) points: &'static str,
    /// The how manieth of these; `None`: each.
    pub(crate) nth: Option<u32>,
    pub(crate) action: Action,
}

impl Fault {
    /// As `sys/fault.rs` reads it.
    pub(crate) fn rule(self, is_stop: bool) -> String {
        let Self { points, nth, action } = self;
        let action = match action {
            _ if is_stop => "stop",
            Action::Kill => "kill",
            Action::Fail => "fail",
            Action::NoSpace => "enospc",
            Action::BadDisk => "eio",
            Action::Terminate | Action::Interrupt => "stop",
        };
        format!("{points}*#{}={action}", nth.map_or("*".to_owned(), |nth| nth.to_string()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    Fail,
    NoSpace,
    BadDisk,
    Terminate,
    Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoesOn,
    IsKilled,
    IsAskedToEnd,
}

/// A generator of numbers that are the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(bound)).unwrap()
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(u32::try_from(of.len()).unwrap()) as usize]
    }

    fn journey(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..6 + self.below(9) {
            let step = self.step();
            let is_new = matches!(step, Step::Publish { .. });
            steps.push(step);
            if is_new && self.percent(60) {
                steps.push(Step::Run(Command::Update, self.trouble()));
            }
        }
        steps
    }

    fn step(&mut self) -> Step {
        match self.below(100) {
            0..22 => Step::Publish {
                major: self.percent(7),
                asks: self.percent(7),
                migrates: self.percent(60),
                behaviour: self.one(&[Behaviour::Healthy, Behaviour::Healthy, Behaviour::Dies, Behaviour::Broken]),
            },
            22..34 => Step::Write,
            34..38 => Step::KillApp,
            38..41 => Step::Days(i64::from(1 + self.below(3))),
            41..46 => Step::ByHand,
            _ => {
                let command = self.command();
                Step::Run(command, self.trouble())
            }
        }
    }

    fn command(&mut self) -> Command {
        match self.below(50) {
            0..22 => Command::Update,
            22..27 => Command::Snapshot,
            27..34 => Command::Restore { previous: self.percent(30) },
            34..38 => Command::Retry,
            38..39 => Command::Pause,
            39..43 => Command::Resume,
            43..45 => Command::Undeploy,
            45..47 => Command::Approve,
            47..48 => Command::Adopt,
            _ => Command::Recover,
        }
    }

    fn trouble(&mut self) -> Trouble {
        match self.below(20) {
            0..7 => Trouble::None,
            7..9 => Trouble::Written {
                point: self.one(&["journal.deployed.after", "journal.rolled-back.before", "journal.committed.before"]),
                then: self.one(&[Then::GoesOn, Then::IsKilled, Then::IsAskedToEnd]),
            },
            9..12 => Trouble::Fault { fault: self.way_back_fails(), again: self.again() },
            _ => Trouble::Fault { fault: self.fault(), again: self.again() },
        }
    }

    fn fault(&mut self) -> Fault {
        let (points, most) = self.one(&[
            ("journal.", 16),
            ("act.", 8),
            ("snapshot.", 40),
            ("durable.", 40),
            ("process.", 15),
            ("", 120),
        ]);
        let action = self.one(&[
            Action::Kill,
            Action::Kill,
            Action::Fail,
            Action::Fail,
            Action::NoSpace,
            Action::BadDisk,
            Action::Terminate,
            Action::Interrupt,
        ]);
        Fault { points, nth: Some(1 + self.below(most)), action }
    }

    /// Each time, so that trying once more does not help.
    fn way_back_fails(&mut self) -> Fault {
        let points =
            self.one(&["act.restore", "act.redeploy", "act.exchange", "snapshot.build.", "act.re", "act.taken-over"]);
        Fault { points, nth: None, action: self.one(&[Action::Fail, Action::Fail, Action::NoSpace, Action::BadDisk]) }
    }

    fn again(&mut self) -> Option<Fault> {
        let action = self.one(&[Action::Kill, Action::Kill, Action::Fail, Action::NoSpace]);
        self.percent(35).then(|| Fault { points: "", nth: Some(1 + self.below(60)), action })
    }
}

/// Walks `steps`, and then does what cc-warm says, until all is well.
fn walk(steps: &[Step]) -> Result<()> {
    let walked = std::panic::catch_unwind(|| {
        let mut world = World::new()?;
        for (number, step) in steps.iter().enumerate() {
            world.take(step).with_context(|| format!("step {number}, {step:?}"))?;
        }
        world.follow_hints().context("in the end")?;
        world.converges().context("in the end")
    });
    walked.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        Err(anyhow::anyhow!("panicked: {text}"))
    })
}

/// Leaves out steps for as long as it fails.
fn shorten(mut steps: Vec<Step>, mut error: anyhow::Error) -> (Vec<Step>, anyhow::Error) {
    let mut at = steps.len();
    while at > 0 {
        at -= 1;
        let mut fewer = steps.clone();
        fewer.remove(at);
        if let Err(other) = walk(&fewer) {
            (steps, error) = (fewer, other);
        }
    }
    (steps, error)
}

fn journeys(seeds: impl IntoIterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    // Nearly all of it is waiting for the app to be well, or not to be.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(6).build().unwrap();
    let failures: Vec<String> = pool.install(|| {
        let failed = seeds.par_iter().filter_map(|&seed| {
            let steps = Dice(seed).journey();
            let error = walk(&steps).err()?;
            eprintln!("journey {seed} fails: {error:#}");
            let (steps, error) = shorten(steps, error);
            let list: String = steps.iter().map(|step| format!("    {step:?},\n")).collect();
            Some(format!("journey {seed}: {error:#}\n[\n{list}]"))
        });
        failed.collect()
    });
    assert!(failures.is_empty(), "{} of {} journeys fail:\n{}", failures.len(), seeds.len(), failures.join("\n\n"));
}

#[test]
fn wherever_a_journey_leads_the_invariants_hold() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (number("CC_WARM_JOURNEYS"), number("CC_WARM_JOURNEY_SEED")) {
        (None, None) => journeys(0..14),
        (count, seed) => {
            let first = seed.unwrap_or(1000);
            journeys(first..first + count.unwrap_or(1));
        }
    }
}
