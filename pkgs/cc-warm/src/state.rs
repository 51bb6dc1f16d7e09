//! The durable state of one app (`state.json`, format 1). Replaced whole; unknown fields are kept; a file that does not
//! parse or is too new stops every operation on the app and is never overwritten.

mod notes;

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::notes::{Approved, Held, Interrupted, LastGood, LastRun, Paused, Rejected, Seen, StuckNote, Waiting};
use crate::config::names::AppName;
use crate::deployer::Place;
use crate::error::Problem;
use crate::identity::Identity;
use crate::recipe::version::Version;
use crate::sys::dirs::Dirs;
use crate::sys::durable;
use crate::sys::untrusted::Untrusted;

/// The newest format that this program reads and writes.
pub const FORMAT: u32 = 1;
/// So many rejected identities are remembered.
const MOST_REJECTED: usize = 100;

/// What cc-warm remembers of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppState {
    /// Always [`FORMAT`] after loading.
    pub format: u32,
    /// The program that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// What was last seen healthy and committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// What was tried and went back: skipped until a newer version or `retry`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// A first deployment that came to nothing: the version that wrote whatever volumes there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_tried: Option<Version>,
    /// Updates cut short after the new version had started; the second of one identity rejects it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<Interrupted>,
    /// The version that waits for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What could be applied, if it were a time at which the app may be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Published versions: when this host first saw each, and as which commit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<Version, Seen>,
    /// Versions that the operator lets pass the first gate, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<Approved>,
    /// Set by `pause`, until `resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The app was found undeployed although it had been running: left alone until `resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_by_hand: Option<Timestamp>,
    /// What else than the last-good was deployed when it was last looked at: its data may have gone on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_other: Option<Untrusted>,
    /// Where it was when it was last known to run well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What [`Deployer::named`](crate::deployer::Deployer::named) was when cc-warm last knew what is on the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// `resume` was given after that: the next update deploys the last-good version again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Why the app stays down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<StuckNote>,
    /// Consecutive runs in which the recipe could not be fetched.
    #[serde(default)]
    pub fetch_failures: u32,
    /// The last operation that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A state file that does not parse, or is of a newer program. It was left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Default for AppState {
    fn default() -> Self {
        Self {
            format: FORMAT,
            helper: None,
            last_good: None,
            rejected: Vec::new(),
            first_tried: None,
            interrupted: Vec::new(),
            held: None,
            waiting: None,
            seen: BTreeMap::new(),
            approved: Vec::new(),
            paused: None,
            down_by_hand: None,
            seen_other: None,
            named: None,
            place: None,
            resumed: false,
            stuck: None,
            fetch_failures: 0,
            last_run: None,
            unknown: Map::new(),
        }
    }
}

impl AppState {
    /// The state of `app`; the default if there is none yet.
    pub fn load(dirs: &Dirs, app: &AppName) -> Result<Self> {
        let path = dirs.app(app.as_str()).state();
        let problem = |hint: String, why: String| {
            Problem::new(format!("the state of app `{app}` cannot be used; the app and the file were not touched"))
                .hint(hint)
                .because(Unusable(why))
        };
        let unusable = |why: String| {
            let path = path.display();
            problem(format!("look at `{path}`; if it is lost, move it away and run `cc-warm adopt {app}`"), why)
        };
        let value = durable::read_json::<Value>(&path).map_err(|error| unusable(format!("{error:#}")))?;
        let Some(value) = value else { return Ok(Self::default()) };
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or_else(|| "none".to_owned(), |f| f.to_string());
            let why = format!("`{}` has format {found}, this cc-warm reads format {FORMAT}", path.display());
            // There is nothing wrong with it: without it, nobody knows any more what went back and what waits.
            let is_newer = format.is_some_and(|format| format > u64::from(FORMAT));
            let writer = value.get("helper").and_then(Value::as_str).map(|helper| Untrusted::new(helper).terminal());
            return Err(match writer {
                Some(writer) if is_newer => {
                    problem(format!("{writer} status {app}"), format!("{why}; it was written by `{writer}`"))
                }
                None if is_newer => problem("use the newer cc-warm that wrote it".to_owned(), why),
                _ => unusable(why),
            }
            .into());
        }
        serde_json::from_value(value)
            .map_err(|error| unusable(format!("`{}` does not parse: {error}", path.display())).into())
    }

    /// Replaces the state of `app`, durably. The app's lock must be held.
    pub fn save(&self, dirs: &Dirs, app: &AppName) -> Result<()> {
        let helper = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
        durable::replace_json(&dirs.app(app.as_str()).state(), &Self { helper, ..self.clone() })
    }

    /// Whether `identity` was tried and went back.
    #[must_use]
    pub fn is_rejected(&self, identity: &Identity) -> bool {
        self.rejected.iter().any(|rejected| rejected.identity == *identity)
    }

    /// Remembers that `rejected` went back. Once per operation and identity. An approval of it was for that one try.
    pub fn reject(&mut self, rejected: Rejected) {
        let tried = &rejected.identity;
        self.approved.retain(|known| known.version != tried.version || known.commit != tried.commit);
        self.rejected.retain(|known| known.identity != rejected.identity);
        self.rejected.push(rejected);
        let surplus = self.rejected.len().saturating_sub(MOST_REJECTED);
        self.rejected.drain(..surplus);
    }

    /// The operator goes down to `to` on purpose: what lies above it is not tried again by itself.
    pub fn step_down(&mut self, to: &Identity, at: Timestamp, operation: &str, how: &str) {
        let Some(before) = self.last_good.as_ref().map(|good| good.identity.clone()) else { return };
        if before.version <= to.version {
            return;
        }
        let mut above: Vec<Identity> = Vec::new();
        for (version, seen) in self.seen.iter().filter(|(version, _)| **version > to.version) {
            // The environment is the snapshot's or that which ran last, and either may be what is configured.
            for env in [to, &before] {
                above.push(Identity { version: version.clone(), commit: seen.commit.clone(), ..env.clone() });
            }
        }
        above.push(before);
        for identity in above {
            let (operation, reason) = (operation.to_owned(), Untrusted::new(format!("{how} to {}", to.version)));
            self.reject(Rejected { identity, at, operation, reason, unknown: Map::new() });
        }
    }

    /// Remembers that `interrupted` was cut short; whether it was the second time for that identity.
    pub fn interrupt(&mut self, interrupted: Interrupted) -> bool {
        let before = self
            .interrupted
            .iter()
            .any(|known| known.identity == interrupted.identity && known.operation != interrupted.operation);
        if !self.interrupted.iter().any(|known| known.operation == interrupted.operation) {
            self.interrupted.push(interrupted);
            let surplus = self.interrupted.len().saturating_sub(MOST_REJECTED);
            self.interrupted.drain(..surplus);
        }
        before
    }

    /// What is committed now: nothing below or beside it waits or is rejected any more.
    pub fn commit(&mut self, identity: Identity, at: Timestamp) {
        let version = identity.version.clone();
        self.rejected.retain(|known| known.identity != identity);
        self.interrupted.retain(|known| known.identity != identity);
        self.approved.retain(|known| known.version > version);
        if self.held.as_ref().is_some_and(|held| held.version <= version) {
            self.held = None;
        }
        self.last_good = Some(LastGood { identity, at, unknown: Map::new() });
        self.stuck = None;
        self.first_tried = None;
        self.down_by_hand = None;
        self.seen_other = None;
        self.named = None;
        self.resumed = false;
    }

    /// Whether updates are paused at `now`.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused.as_ref().is_some_and(|paused| paused.until.is_none_or(|until| now < until))
    }
}

/// Every app that left something in the state folder, declared or not.
pub fn known_apps(dirs: &Dirs) -> Result<Vec<AppName>> {
    let entries = match std::fs::read_dir(dirs.apps()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs_with(text: &str) -> (tempfile::TempDir, Dirs, AppName) {
        let dir = tempfile::tempdir().unwrap();
        let (dirs, app) = (Dirs::new(dir.path()), "login".parse::<AppName>().unwrap());
        durable::make_dir(dirs.app("login").root()).unwrap();
        durable::replace(&dirs.app("login").state(), text.as_bytes()).unwrap();
        (dir, dirs, app)
    }

    fn identity(version: &str) -> Identity {
        Identity {
            version: version.parse().unwrap(),
            commit: "0123456789012345678901234567890123456789".parse().unwrap(),
            env: crate::identity::Env::default().digest(),
            secrets: BTreeMap::new(),
        }
    }

    #[test]
    fn keeps_fields_of_newer_programs() {
        let (_dir, dirs, app) = dirs_with(r#"{"format": 1, "mood": "good"}"#);
        let mut state = AppState::load(&dirs, &app).unwrap();
        state.commit(identity("1.0.0+1"), Timestamp::UNIX_EPOCH);
        state.save(&dirs, &app).unwrap();
        let path = dirs.app("login").state();
        let newer =
            std::fs::read_to_string(&path).unwrap().replace("\"last_good\": {", "\"last_good\": { \"weather\": [1],");
        std::fs::write(&path, newer).unwrap();
        let state = AppState::load(&dirs, &app).unwrap();
        state.save(&dirs, &app).unwrap();
        let text = std::fs::read_to_string(dirs.app("login").state()).unwrap();
        assert!(text.contains("mood") && text.contains("weather"), "{text}");
    }

    #[test]
    fn refuses_what_it_cannot_read_and_leaves_it_alone() {
        for text in ["{", "[]", "{}", r#"{"format": 2}"#, r#"{"format": 1, "seen": 3}"#] {
            let (_dir, dirs, app) = dirs_with(text);
            let error = crate::error::report(&AppState::load(&dirs, &app).unwrap_err());
            assert!(error.contains("state.json") && error.contains("hint: "), "{error}");
            assert_eq!(std::fs::read_to_string(dirs.app("login").state()).unwrap(), text);
        }
    }

    #[test]
    fn what_a_newer_program_wrote_is_for_that_program_and_never_to_be_moved_away() {
        let newer = "/nix/store/x/bin/cc-warm";
        for (text, hint) in [
            (format!(r#"{{"format": 2, "helper": "{newer}"}}"#), format!("{newer} status login")),
            (r#"{"format": 2}"#.to_owned(), "use the newer cc-warm".to_owned()),
        ] {
            let (_dir, dirs, app) = dirs_with(&text);
            let report = crate::error::report(&AppState::load(&dirs, &app).unwrap_err());
            assert!(report.contains(&hint) && !report.contains("move it away"), "{report}");
        }
    }

    #[test]
    fn the_program_that_wrote_it_is_in_it() {
        let (_dir, dirs, app) = dirs_with(r#"{"format": 1}"#);
        AppState::load(&dirs, &app).unwrap().save(&dirs, &app).unwrap();
        let helper = AppState::load(&dirs, &app).unwrap().helper.unwrap();
        assert!(helper.starts_with('/'), "{helper}");
    }

    #[test]
    fn the_second_interruption_of_one_identity_counts_and_repeats_do_not() {
        let mut state = AppState::default();
        let cut = |operation: &str| Interrupted {
            identity: identity("1.0.0+1"),
            operation: operation.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        assert!(!state.interrupt(cut("one")));
        assert!(!state.interrupt(cut("one")));
        assert!(state.interrupt(cut("two")));
    }

    #[test]
    fn an_approval_is_for_one_try() {
        let (at, tried, other) = (Timestamp::UNIX_EPOCH, identity("2.0.0+1"), identity("3.0.0+1"));
        let approved = |i: &Identity| Approved { version: i.version.clone(), commit: i.commit.clone(), at };
        let mut state = AppState { approved: vec![approved(&tried), approved(&other)], ..AppState::default() };
        let (operation, reason) = ("one".to_owned(), Untrusted::new("x"));
        state.reject(Rejected { identity: tried, at, operation, reason, unknown: Map::new() });
        assert_eq!(state.approved, [approved(&other)]);
    }

    #[test]
    fn who_goes_down_rejects_what_lies_above_and_nothing_else() {
        let at = Timestamp::UNIX_EPOCH;
        let seen = |version: &str| {
            let found = identity(version);
            (found.version, Seen { commit: found.commit, first: at })
        };
        let state = || {
            let seen = [seen("1.0.0+1"), seen("2.0.0+1"), seen("3.0.0+1")].into();
            let mut state = AppState { seen, ..AppState::default() };
            state.commit(identity("2.0.0+1"), at);
            state
        };
        for (to, rejected) in [("1.0.0+1", vec!["2.0.0+1", "3.0.0+1"]), ("2.0.0+1", vec![]), ("3.0.0+1", vec![])] {
            let mut state = state();
            state.step_down(&identity(to), at, "op", "restored by hand");
            let mut found: Vec<String> = state.rejected.iter().map(|one| one.identity.version.to_string()).collect();
            found.sort();
            assert_eq!(found, rejected, "{to}");
        }
        let mut other = state();
        let configured = crate::identity::Env::default().digest();
        let to = Identity { env: serde_json::from_value("ab".repeat(16).into()).unwrap(), ..identity("1.0.0+1") };
        assert_ne!(to.env, configured);
        other.step_down(&to, at, "op", "restored by hand");
        assert!(other.is_rejected(&identity("2.0.0+1")) && other.is_rejected(&identity("3.0.0+1")));
    }

    #[test]
    fn what_is_held_is_held_since_the_first_time_for_whatever_reason() {
        let held = |version: &str, reason: &str, day: i64| {
            let Identity { version, commit, .. } = identity(version);
            let since = Timestamp::from_second(day * 86_400).unwrap();
            Held { version, commit, reasons: vec![reason.to_owned()], approvable: true, since }
        };
        let first = held("2.0.0+1", "process 12 (`restic`) has a volume of it", 0);
        let next = held("2.0.0+1", "process 97 (`restic`) has a volume of it", 1).as_before(Some(&first));
        assert_eq!((next.since, &next.reasons[0][..10]), (first.since, "process 97"));
        let other = held("3.0.0+1", "x", 2);
        assert_eq!(other.clone().as_before(Some(&next)), other);
        assert_eq!(other.clone().as_before(None), other);
    }

    #[test]
    fn a_commit_ends_holds_and_approvals_up_to_it() {
        let mut state = AppState::default();
        let at = Timestamp::UNIX_EPOCH;
        let held = identity("2.0.0+1");
        state.held = Some(Held {
            version: held.version.clone(),
            commit: held.commit.clone(),
            reasons: vec![],
            approvable: true,
            since: at,
        });
        state.commit(identity("1.1.0+1"), at);
        assert!(state.held.is_some());
        state.commit(held.clone(), at);
        assert!(state.held.is_none());
        assert_eq!(state.last_good.unwrap().identity, held);
    }
}
