//! The gate before: may this app be updated without its operator? Pure: what is known comes in, a decision with its
//! evidence comes out.

pub mod differences;
pub mod markers;
pub mod phrases;
pub mod reason;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

pub use self::reason::Reason;
use crate::config::{Policy, Target, Update};
use crate::deployer::{Known, Rendering};
use crate::identity::{CommitId, Env, Identity};
use crate::recipe::notes::Note;
use crate::recipe::published::PublishedVersion;
use crate::recipe::version::Version;
use crate::state::{Approved, Seen};
use crate::sys::untrusted::Untrusted;

use self::markers::Markers;

/// What is known before anything is decided.
#[derive(Debug)]
pub struct Input<'a> {
    /// What runs.
    pub current: &'a Known,
    /// The environment that is configured now.
    pub env: &'a Env,
    /// What the recipe publishes now.
    pub published: &'a BTreeMap<Version, PublishedVersion>,
    /// What this host saw first, and when.
    pub seen: &'a BTreeMap<Version, Seen>,
    /// What was tried and went back.
    pub rejected: &'a [Identity],
    /// What the operator lets pass.
    pub approved: &'a [Approved],
    /// How the app is updated.
    pub update: &'a Update,
    /// The time.
    pub now: Timestamp,
}

/// What has to be looked up to judge one candidate.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The notes of every version after the current one, up to the candidate.
    pub notes: Vec<Note>,
    /// What runs, rendered with the environment it has.
    pub from: Rendering,
    /// The candidate, rendered with the environment that is configured now.
    pub to: Rendering,
    /// Why one of the two is missing: then nothing is known of their differences.
    pub not_rendered: Vec<Reason>,
    /// Why its data cannot be snapshotted here.
    pub unsuitable: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Decision {
    /// Nothing.
    UpToDate {
        /// Versions that are not candidates, and why.
        skipped: Vec<Skipped>,
    },
    /// Bring the app to this version.
    Apply {
        /// The version: the current one, where only its environment changed.
        target: Version,
        /// The commit of its tag.
        commit: CommitId,
        /// Whether it passes only because the operator said so.
        approved: bool,
        /// What waits for the operator nevertheless: a higher version, or every update where only the environment changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
        /// Versions that are not candidates, and why.
        skipped: Vec<Skipped>,
    },
    /// Wait for the operator.
    Hold {
        /// What waits; `None` where nothing can be named.
        candidate: Option<Candidate>,
        /// Why.
        reasons: Vec<Reason>,
        /// Versions that are not candidates, and why.
        skipped: Vec<Skipped>,
    },
}

/// A version that might be the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The version.
    pub version: Version,
    /// The commit of its tag, now.
    pub commit: CommitId,
}

/// What waits for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What waits; `None` where nothing can be named.
    pub candidate: Option<Candidate>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A version that is not a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The version.
    pub version: Version,
    /// Why.
    pub why: WhySkipped,
}

/// Why a version is not a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhySkipped {
    /// `update.pin` names another.
    NotPinned,
    /// A pre-release, which only a pin makes a candidate.
    PreRelease,
    /// `update.ignore` names it.
    Ignored,
    /// With the environment that is configured now, it was rolled back before.
    Rejected,
}

impl fmt::Display for WhySkipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPinned => "`update.pin` names another",
            Self::PreRelease => "a pre-release",
            Self::Ignored => "`update.ignore` names it",
            Self::Rejected => "with the environment that is configured now, it was rolled back before",
        })
    }
}

/// Decides. `look_up` gets the evidence for one candidate; it is asked from the highest downward, and for no more than are
/// needed. Its error ends the decision: nothing is touched.
pub fn decide(input: &Input<'_>, look_up: &mut dyn FnMut(&Candidate) -> Result<Evidence>) -> Result<Decision> {
    let current = match input.current {
        Known::Yes(identity) => identity,
        Known::No { label, why } => {
            let candidate = highest(input.published);
            let reasons = vec![Reason::UnknownCurrent { label: label.clone(), why: why.clone() }];
            return Ok(Decision::Hold { candidate, reasons, skipped: Vec::new() });
        }
    };
    let Candidates { ahead, again, mut skipped } = candidates(input, current);
    let is_approved = |candidate: &Candidate| {
        input
            .approved
            .iter()
            .any(|approved| approved.version == candidate.version && approved.commit == candidate.commit)
    };
    let mut judge = |candidate: &Candidate| -> Result<(bool, Vec<Reason>)> {
        let reasons = reasons(input, current, candidate, &look_up(candidate)?)?;
        let passes = reasons.is_empty() || (is_approved(candidate) && reasons.iter().all(Reason::is_approvable));
        Ok((passes, reasons))
    };
    let mut held: Option<Held> = if ahead.is_empty() { nothing_ahead(input, current) } else { None };
    for (number, candidate) in ahead.iter().enumerate() {
        // An approved version below the highest passes all the same: it was asked for by name.
        if number > 0 && input.update.to == Target::Latest && !is_approved(candidate) {
            continue;
        }
        let (passes, reasons) = judge(candidate)?;
        if passes {
            let Candidate { version: target, commit } = candidate.clone();
            return Ok(Decision::Apply { target, commit, approved: !reasons.is_empty(), held, skipped });
        }
        // The highest is what waits; but who approved another wants to know why that does not pass.
        if held.is_none() || is_approved(candidate) {
            held = Some(Held { candidate: Some(candidate.clone()), reasons });
        }
    }
    // What is held keeps its version, not its old environment.
    if let Some(candidate) = again {
        if is_rejected(input, current, &candidate) {
            skipped.push(Skipped { version: candidate.version, why: WhySkipped::Rejected });
        } else {
            let (passes, reasons) = judge(&candidate)?;
            if passes {
                let Candidate { version: target, commit } = candidate;
                return Ok(Decision::Apply { target, commit, approved: !reasons.is_empty(), held, skipped });
            }
            match &mut held {
                Some(held) => held.reasons.push(Reason::EnvironmentWaits { reasons }),
                None => held = Some(Held { candidate: Some(candidate), reasons }),
            }
        }
    }
    Ok(match held {
        Some(Held { candidate, reasons }) => Decision::Hold { candidate, reasons, skipped },
        None => Decision::UpToDate { skipped },
    })
}

fn highest(published: &BTreeMap<Version, PublishedVersion>) -> Option<Candidate> {
    published.last_key_value().map(|(version, p)| Candidate { version: version.clone(), commit: p.commit.clone() })
}

/// What might be the target, before anything is looked up.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Versions above the current one, the highest first; then what the recipe gives the current one's number: another
    /// upstream, or its own tag where that was moved.
    pub ahead: Vec<Candidate>,
    /// What runs, where the configured environment is not the one that it runs with.
    pub again: Option<Candidate>,
    /// Versions above the current one that are not candidates, and why.
    pub skipped: Vec<Skipped>,
}

/// Every version that might be the target, with nothing looked up yet.
#[must_use]
pub fn candidates(input: &Input<'_>, current: &Identity) -> Candidates {
    let mut all = Candidates::default();
    let mut beside = Vec::new();
    for (version, published) in input.published.iter().rev() {
        let is_above = version.recipe() > current.version.recipe();
        let is_beside = version.recipe() == current.version.recipe()
            && (*version != current.version || published.commit != current.commit);
        if !is_above && !is_beside {
            continue;
        }
        let candidate = Candidate { version: version.clone(), commit: published.commit.clone() };
        match why_not(input, current, &candidate) {
            None if is_above => all.ahead.push(candidate),
            None => beside.push(candidate),
            Some(why) => all.skipped.push(Skipped { version: candidate.version, why }),
        }
    }
    all.ahead.append(&mut beside);
    if input.env.digest() != current.env {
        all.again = Some(Candidate { version: current.version.clone(), commit: current.commit.clone() });
    }
    all
}

fn why_not(input: &Input<'_>, current: &Identity, candidate: &Candidate) -> Option<WhySkipped> {
    excluded(input.update, &candidate.version)
        .or_else(|| is_rejected(input, current, candidate).then_some(WhySkipped::Rejected))
}

/// Why the configuration lets `version` be no candidate, whatever is approved.
#[must_use]
pub fn excluded(update: &Update, version: &Version) -> Option<WhySkipped> {
    if update.pin.as_ref().is_some_and(|pin| pin != version) {
        return Some(WhySkipped::NotPinned);
    }
    if update.pin.is_none() && !version.recipe().pre.is_empty() {
        return Some(WhySkipped::PreRelease);
    }
    update.ignore.contains(version).then_some(WhySkipped::Ignored)
}

/// Whether just that was rolled back before. With another environment it is another identity, and is tried.
fn is_rejected(input: &Input<'_>, current: &Identity, candidate: &Candidate) -> bool {
    input.rejected.contains(&Identity {
        version: candidate.version.clone(),
        commit: candidate.commit.clone(),
        env: input.env.digest(),
        secrets: current.secrets.clone(),
    })
}

/// Why there is no candidate, where the operator has to know.
fn nothing_ahead(input: &Input<'_>, current: &Identity) -> Option<Held> {
    let (published, runs) = (input.published, &current.version);
    let pin = input.update.pin.as_ref().filter(|pin| *pin != runs);
    let reason = if published.is_empty() {
        Reason::NothingPublished
    } else if let Some(pin) = pin.filter(|pin| !published.contains_key(*pin)) {
        Reason::PinNotPublished { pin: pin.clone() }
    } else if let Some(pin) = pin.filter(|pin| *pin < runs) {
        Reason::OnlyLower { highest: pin.clone() }
    } else if published.contains_key(runs) {
        return None;
    } else {
        // What runs was withdrawn, and nothing above it is a candidate.
        Reason::OnlyLower { highest: published.keys().rev().find(|version| *version < runs)?.clone() }
    };
    Some(Held { candidate: None, reasons: vec![reason] })
}

/// Everything that stands between the current version and `candidate`.
fn reasons(input: &Input<'_>, current: &Identity, candidate: &Candidate, evidence: &Evidence) -> Result<Vec<Reason>> {
    let mut all = Vec::new();
    let from = &current.version;
    if input.update.policy == Policy::Hold {
        all.push(Reason::Policy);
    }
    // The same code as now has been seen, judged and run.
    let is_new = candidate.version != *from || candidate.commit != current.commit;
    if is_new {
        let seen = input.seen.get(&candidate.version).map(|seen| &seen.commit);
        let ran = Some(&current.commit).filter(|_| candidate.version == *from);
        if let Some(was) = ran.or(seen).filter(|was| **was != candidate.commit) {
            let (version, was, now) = (candidate.version.clone(), was.clone(), candidate.commit.clone());
            all.push(Reason::MovedTag { version, was, now });
        }
        let on_the_way = input.published.keys().filter(|version| version.is_on_the_way(from, &candidate.version));
        if let Some(at) = on_the_way.chain([&candidate.version]).find(|version| from.is_major_step_to(version)) {
            all.push(Reason::MajorStep { from: from.clone(), at: at.clone() });
        }
        all.extend(other_upstreams(input, from, &candidate.version));
        let first_seen = input.seen.get(&candidate.version).map_or(input.now, |seen| seen.first);
        let min_age =
            jiff::SignedDuration::try_from(input.update.min_age.duration()).unwrap_or(jiff::SignedDuration::MAX);
        let until = first_seen.saturating_add(min_age)?;
        if until > input.now {
            all.push(Reason::TooYoung { until });
        }
    }
    all.extend(note_reasons(&evidence.notes, &input.update.markers)?);
    if evidence.not_rendered.is_empty() {
        all.extend(differences::between(&evidence.from, &evidence.to, &input.env.0));
    }
    all.extend(evidence.not_rendered.iter().cloned());
    all.extend(evidence.unsuitable.iter().map(|why| Reason::Unsuitable { why: why.clone() }));
    Ok(all)
}

/// The upstream part is opaque: of two, nobody can say which is the newer one.
fn other_upstreams(input: &Input<'_>, from: &Version, target: &Version) -> Option<Reason> {
    if target.recipe() == from.recipe() {
        return (target != from).then(|| Reason::OtherUpstream { from: from.clone() });
    }
    let is_other = |version: &&Version| {
        version.recipe() == target.recipe() && *version != target && !input.update.ignore.contains(version)
    };
    let other = input.published.keys().find(is_other).filter(|_| input.update.pin.is_none())?;
    Some(Reason::TwoUpstreams { other: other.clone() })
}

fn note_reasons(notes: &[Note], markers: &[String]) -> Result<Vec<Reason>> {
    let mut all = Vec::new();
    for note in notes {
        let (version, path, commit) = (note.version.clone(), note.path.clone(), note.commit.clone());
        match &note.text {
            Err(why) => all.push(Reason::UnreadableNote { version, path, commit, why: why.clone() }),
            // Compiled only where there is something to read: most versions come without a note.
            Ok(text) => all.extend(Markers::of(markers)?.find(text.raw()).into_iter().map(|found| Reason::Note {
                version: version.clone(),
                path: path.clone(),
                commit: commit.clone(),
                line: found.line,
                text: Untrusted::new(found.text),
                phrase: Untrusted::new(found.phrase),
            })),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
