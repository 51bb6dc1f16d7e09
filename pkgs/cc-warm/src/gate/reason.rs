//! Why an update is held, each reason with its evidence.

use jiff::Timestamp;
use serde::Serialize;

use super::Skipped;
use crate::deployer::Moved;
use crate::identity::CommitId;
use crate::recipe::version::Version;
use crate::sys::untrusted::Untrusted;

/// Why an update waits for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Reason {
    /// A major step of the recipe (for 0.x: a minor one).
    MajorStep {
        /// What runs.
        from: Version,
        /// The first version on the way beyond the step.
        at: Version,
    },
    /// A note on the way asks for an operator.
    Note {
        /// The version that the note is about.
        version: String,
        /// Its file in the recipe.
        path: String,
        /// The commit that has it.
        commit: CommitId,
        /// The line, from 1.
        line: usize,
        /// That line.
        text: Untrusted,
        /// What matched.
        phrase: Untrusted,
    },
    /// A note on the way cannot be read.
    UnreadableNote {
        /// The version that the note is about.
        version: String,
        /// Its file.
        path: String,
        /// The commit that has it.
        commit: CommitId,
        /// Why.
        why: String,
    },
    /// The same version of the recipe with another upstream.
    OtherUpstream {
        /// What runs.
        from: Version,
    },
    /// The target's number is published with another upstream, too.
    TwoUpstreams {
        /// The other one.
        other: Version,
    },
    /// The configuration says `update.policy = "hold"`.
    Policy,
    /// Not long enough known to this host.
    TooYoung {
        /// When it is old enough.
        until: Timestamp,
    },
    /// It is not known what runs.
    UnknownCurrent {
        /// What is said of it.
        label: Untrusted,
        /// Why that is not enough.
        why: String,
    },
    /// What runs is higher than anything that is published, or that the pin allows.
    OnlyLower {
        /// The highest that there is.
        highest: Version,
    },
    /// `update.pin` names a version that is not published.
    PinNotPublished {
        /// That version.
        pin: Version,
    },
    /// The environment that is configured now cannot be applied to what runs, either.
    EnvironmentWaits {
        /// Why.
        reasons: Vec<Reason>,
    },
    /// The recipe publishes no version.
    NothingPublished,
    /// Nothing runs, and of what is published nothing may be tried.
    NoneLeft {
        /// The versions, the highest first, and why.
        skipped: Vec<Skipped>,
    },
    /// A tag names another commit than when it was first seen.
    MovedTag {
        /// The version.
        version: Version,
        /// What it named first.
        was: CommitId,
        /// What it names now.
        now: CommitId,
    },
    /// A secret is missing and cannot be generated.
    MissingSecret {
        /// Its name.
        name: Untrusted,
    },
    /// A volume comes, goes, or is mounted elsewhere: the app might start healthy on an empty database.
    VolumeDiffers {
        /// Its name in the recipe.
        volume: Untrusted,
        /// Where it is mounted now.
        from: Vec<Untrusted>,
        /// Where it would be.
        to: Vec<Untrusted>,
    },
    /// Something must be made by somebody else.
    BecomesExternal {
        /// What.
        name: Untrusted,
    },
    /// A newly required key is not set.
    RequiredEnv {
        /// Its name.
        key: Untrusted,
    },
    /// The target gains a privilege, a bind mount or a port.
    Gains {
        /// `privilege`, `bind mount` or `port`.
        what: &'static str,
        /// Which.
        name: Untrusted,
    },
    /// Nothing runs, and what ran last must not be started on the data that is there.
    Parted {
        /// Why.
        why: String,
        /// What to do.
        ways_out: [String; 2],
    },
    /// The app is elsewhere than the configuration says.
    Moved(Moved),
    /// It cannot be told what the target would be here, so it could not be deployed either.
    NotRendered {
        /// The target.
        version: Version,
        /// Why.
        why: String,
    },
    /// It cannot be told what runs, so there is nothing to compare the target with.
    NothingToCompare {
        /// What runs.
        version: Version,
        /// Why.
        why: String,
    },
    /// It is not known with which environment the app runs: there is nothing to compare with, nor to go back to.
    EnvironmentLost {
        /// What runs.
        version: Version,
        /// Why.
        why: String,
    },
    /// Its data cannot be snapshotted here.
    Unsuitable {
        /// Why.
        why: String,
    },
}

impl Reason {
    /// Whether `approve` lets an update pass in spite of it. What is not approvable would fail, or could not go back.
    #[must_use]
    pub fn is_approvable(&self) -> bool {
        !matches!(
            self,
            Self::UnknownCurrent { .. }
                | Self::OnlyLower { .. }
                | Self::NothingPublished
                | Self::NoneLeft { .. }
                | Self::PinNotPublished { .. }
                | Self::MissingSecret { .. }
                | Self::RequiredEnv { .. }
                | Self::NotRendered { .. }
                | Self::Parted { .. }
                | Self::Moved(_)
                | Self::EnvironmentLost { .. }
                | Self::Unsuitable { .. }
        )
    }

    /// What it is known by from one night to the next: the same reason says the same, whatever is found of it in other words
    /// then (a process, a container, a path that is made anew).
    #[must_use]
    pub fn known_by(&self) -> String {
        match self {
            Self::UnreadableNote { version, path, .. } => format!("unreadable note {version} {path}"),
            Self::UnknownCurrent { label, .. } => format!("unknown current {}", label.raw()),
            Self::EnvironmentWaits { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(Self::known_by).collect();
                format!("environment waits: {}", reasons.join("; "))
            }
            Self::NotRendered { version, .. } => format!("not rendered {version}"),
            Self::NothingToCompare { version, .. } => format!("nothing to compare {version}"),
            Self::EnvironmentLost { version, .. } => format!("environment lost {version}"),
            Self::Unsuitable { .. } => "unsuitable".to_owned(),
            // These name nothing that is not of the recipe or the configuration.
            _ => self.sentence(),
        }
    }

    /// In a sentence, safe for a terminal.
    #[must_use]
    pub fn sentence(&self) -> String {
        let list = |all: &[Untrusted]| match all {
            [] => "nowhere".to_owned(),
            all => all.iter().map(Untrusted::terminal).collect::<Vec<_>>().join(", "),
        };
        match self {
            Self::MajorStep { from, at } => format!("a major step: {from} → {at}"),
            Self::Note { version, path, line, text, phrase, .. } => format!(
                "the note of {version} asks for an operator ({path}, line {line}, \"{}\"): {}",
                phrase.terminal(),
                text.terminal()
            ),
            Self::UnreadableNote { version, path, why, .. } => {
                format!("the note of {version} cannot be read ({path}): {why}")
            }
            Self::OtherUpstream { from } => format!("the same version of the recipe as {from}, with another upstream"),
            Self::TwoUpstreams { other } => {
                format!("the same version of the recipe is published as {other}, too; `update.ignore` one of them")
            }
            Self::PinNotPublished { pin } => format!("`update.pin` names {pin}, which is not published"),
            Self::EnvironmentWaits { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(Self::sentence).collect();
                format!("the changed environment cannot be applied to what runs, either: {}", reasons.join("; "))
            }
            Self::Policy => "the configuration says `update.policy = \"hold\"`".to_owned(),
            Self::TooYoung { until } => format!("younger than `update.minAge`: it may pass at {until}"),
            Self::UnknownCurrent { label, why } => format!("it is not known what runs ({}): {why}", label.terminal()),
            Self::OnlyLower { highest } => format!("what runs is higher than what is published (highest: {highest})"),
            Self::NothingPublished => "the recipe publishes no version".to_owned(),
            Self::NoneLeft { skipped } => {
                let first: Vec<String> = skipped.iter().take(3).map(|s| format!("{}: {}", s.version, s.why)).collect();
                format!("nothing that is published may be tried: {}", first.join("; "))
            }
            Self::MovedTag { version, was, now } => {
                format!("the tag {version} was moved: first seen at {}, now at {}", was.short(), now.short())
            }
            Self::MissingSecret { name } => {
                format!("the secret `{}` is missing and cannot be generated", name.terminal())
            }
            Self::VolumeDiffers { volume, from, to } => format!(
                "the volume `{}` is mounted at {} now, and would be at {}",
                volume.terminal(),
                list(from),
                list(to)
            ),
            Self::BecomesExternal { name } => format!("`{}` would have to be made by somebody else", name.terminal()),
            Self::RequiredEnv { key } => format!("`{}` is newly required and not set", key.terminal()),
            Self::Gains { what, name } => format!("it would gain a {what}: {}", name.terminal()),
            Self::Parted { why, ways_out: [by_hand, restore] } => {
                format!("what ran last is not started again: {why}; {by_hand}, or: {restore}")
            }
            Self::Moved(moved) => format!("{moved}: nothing is done until that is set back; or {}", moved.by_hand),
            Self::NotRendered { version, why } => {
                format!("{version} cannot be rendered: {}", Untrusted::new(why).terminal())
            }
            Self::NothingToCompare { version, why } => format!(
                "it cannot be compared with {version}, which runs and cannot be rendered: {}",
                Untrusted::new(why).terminal()
            ),
            Self::EnvironmentLost { version, why } => format!(
                "the environment that {version} runs with is not known any more, so nothing can be compared with it or go back to it \
                 (deploy it anew by hand, and it is known again): {}",
                Untrusted::new(why).terminal()
            ),
            Self::Unsuitable { why } => format!("its data cannot be snapshotted: {}", Untrusted::new(why).terminal()),
        }
    }
}
