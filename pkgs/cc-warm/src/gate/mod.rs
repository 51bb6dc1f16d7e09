//! The gate before: may this app be updated without its operator? Pure: what is known comes in, a decision with its
//! evidence comes out.

pub mod differences;
pub mod markers;
pub mod reason;

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

pub use self::reason::Reason;
use crate::config::{Policy, Target, Update};
use crate::deployer::{Known, Rendering};
use crate::identity::{CommitId, Env, EnvDigest, Identity};
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

/// A version that is not a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The version.
    pub version: Version,
    /// Why, in words.
    pub why: String,
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
    let env = input.env.digest();
    let (candidates, skipped) = candidates(input, current, &env);
    let Some(first) = candidates.first() else { return Ok(without_candidates(input, current, &env, skipped)) };
    let mut held: Option<Vec<Reason>> = None;
    for candidate in &candidates {
        let evidence = look_up(candidate)?;
        let reasons = reasons(input, current, candidate, &evidence)?;
        if reasons.is_empty() || (is_approved(input, candidate) && reasons.iter().all(Reason::is_approvable)) {
            let Candidate { version: target, commit } = candidate.clone();
            return Ok(Decision::Apply { target, commit, approved: !reasons.is_empty(), skipped });
        }
        held.get_or_insert(reasons);
        // An approved version below passes all the same: it was asked for by name.
        if input.update.to == Target::Latest && !candidates.iter().any(|below| is_approved(input, below)) {
            break;
        }
    }
    Ok(Decision::Hold { candidate: Some(first.clone()), reasons: held.unwrap_or_default(), skipped })
}

fn is_approved(input: &Input<'_>, candidate: &Candidate) -> bool {
    input.approved.iter().any(|a| a.version == candidate.version && a.commit == candidate.commit)
}

fn highest(published: &BTreeMap<Version, PublishedVersion>) -> Option<Candidate> {
    published.last_key_value().map(|(version, p)| Candidate { version: version.clone(), commit: p.commit.clone() })
}

/// Every version that might be the target, the highest first; and every higher one that is not, and why.
fn candidates(input: &Input<'_>, current: &Identity, env: &EnvDigest) -> (Vec<Candidate>, Vec<Skipped>) {
    let mut candidates = Vec::new();
    let mut skipped = Vec::new();
    for (version, published) in input.published.iter().rev() {
        let above = version.recipe() > current.version.recipe();
        let beside = version.recipe() == current.version.recipe() && *version != current.version;
        if !above && !beside {
            continue;
        }
        let identity = Identity {
            version: version.clone(),
            commit: published.commit.clone(),
            env: env.clone(),
            secrets: current.secrets.clone(),
        };
        match why_not(input, &identity) {
            None => candidates.push(Candidate { version: version.clone(), commit: published.commit.clone() }),
            Some(why) => skipped.push(Skipped { version: version.clone(), why: why.to_owned() }),
        }
    }
    (candidates, skipped)
}

fn why_not(input: &Input<'_>, identity: &Identity) -> Option<&'static str> {
    let version = &identity.version;
    let update = input.update;
    match &update.pin {
        Some(pin) if pin != version => return Some("`update.pin` names another"),
        None if !version.recipe().pre.is_empty() => return Some("a pre-release"),
        _ => {}
    }
    if update.ignore.contains(version) {
        return Some("`update.ignore` names it");
    }
    // The environment of a rejected identity may differ: then it is another, and is tried.
    if input.rejected.contains(identity) {
        return Some("it was rolled back before");
    }
    None
}

/// There is nothing above: the environment may have changed, or what runs is not what is published.
fn without_candidates(input: &Input<'_>, current: &Identity, env: &EnvDigest, mut skipped: Vec<Skipped>) -> Decision {
    let hold = |reasons, skipped| Decision::Hold { candidate: None, reasons, skipped };
    if input.published.is_empty() {
        return hold(vec![Reason::NothingPublished], skipped);
    }
    let here = input.published.get(&current.version);
    if let Some(pin) = input.update.pin.as_ref().filter(|pin| **pin < current.version) {
        return hold(vec![Reason::OnlyLower { highest: pin.clone() }], skipped);
    }
    match here {
        Some(published) if published.commit != current.commit => {
            let moved = Reason::MovedTag {
                version: current.version.clone(),
                was: current.commit.clone(),
                now: published.commit.clone(),
            };
            return hold(vec![moved], skipped);
        }
        None if skipped.is_empty() => {
            let highest = highest(input.published).map_or_else(|| current.version.clone(), |highest| highest.version);
            return hold(vec![Reason::OnlyLower { highest }], skipped);
        }
        // It is as published; or its own tag is gone, but there are higher ones that are not to be tried.
        _ => {}
    }
    if *env != current.env {
        let changed = Identity { env: env.clone(), ..current.clone() };
        if input.rejected.contains(&changed) {
            let why = "with the environment that is configured now, it was rolled back before".to_owned();
            skipped.push(Skipped { version: current.version.clone(), why });
        } else if input.update.policy == Policy::Hold {
            let candidate = Candidate { version: current.version.clone(), commit: current.commit.clone() };
            return Decision::Hold { candidate: Some(candidate), reasons: vec![Reason::Policy], skipped };
        } else {
            let (target, commit) = (current.version.clone(), current.commit.clone());
            return Decision::Apply { target, commit, approved: false, skipped };
        }
    }
    Decision::UpToDate { skipped }
}

/// Everything that stands between the current version and `candidate`.
fn reasons(input: &Input<'_>, current: &Identity, candidate: &Candidate, evidence: &Evidence) -> Result<Vec<Reason>> {
    let mut all = Vec::new();
    let from = &current.version;
    if let Some(seen) = input.seen.get(&candidate.version).filter(|seen| seen.commit != candidate.commit) {
        let (was, now) = (seen.commit.clone(), candidate.commit.clone());
        all.push(Reason::MovedTag { version: candidate.version.clone(), was, now });
    }
    let on_the_way = input.published.keys().filter(|v| v.recipe() > from.recipe() && **v <= candidate.version);
    if let Some(at) = on_the_way.chain([&candidate.version]).find(|version| from.is_major_step_to(version)) {
        all.push(Reason::MajorStep { from: from.clone(), at: at.clone() });
    }
    if from.recipe() == candidate.version.recipe() {
        all.push(Reason::OtherUpstream { from: from.clone() });
    }
    if input.update.policy == Policy::Hold {
        all.push(Reason::Policy);
    }
    let first_seen = input.seen.get(&candidate.version).map_or(input.now, |seen| seen.first);
    let min_age = jiff::SignedDuration::try_from(input.update.min_age.duration()).unwrap_or(jiff::SignedDuration::MAX);
    let until = first_seen.saturating_add(min_age)?;
    if until > input.now {
        all.push(Reason::TooYoung { until });
    }
    all.extend(note_reasons(&evidence.notes, &*Markers::of(&input.update.markers)?));
    all.extend(differences::between(&evidence.from, &evidence.to, &input.env.0));
    all.extend(evidence.unsuitable.iter().map(|why| Reason::Unsuitable { why: why.clone() }));
    Ok(all)
}

fn note_reasons(notes: &[Note], markers: &Markers) -> Vec<Reason> {
    let mut all = Vec::new();
    for note in notes {
        let (version, path) = (note.version.clone(), note.path.clone());
        match &note.text {
            Err(why) => all.push(Reason::UnreadableNote { version, path, why: why.clone() }),
            Ok(text) => all.extend(markers.find(text.raw()).into_iter().map(|found| Reason::Note {
                version: version.clone(),
                path: path.clone(),
                line: found.line,
                text: Untrusted::new(found.text),
                phrase: Untrusted::new(found.phrase),
            })),
        }
    }
    all
}

#[cfg(test)]
mod tests;
