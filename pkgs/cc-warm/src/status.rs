//! What is the case with each app, without touching any: for `status`, and for whoever reads its JSON.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::names::AppName;
use crate::config::{App, Config, Warm};
use crate::deployer::{self, Convergence, Deployer, Known, Observed};
use crate::error;
use crate::host::Host;
use crate::lock;
use crate::recipe::version::Version;
use crate::snapshot::Store;
use crate::state::{self, AppState, LastRun};
use crate::sys::untrusted::Untrusted;
use crate::update::journal;
use crate::update::parted;
use crate::update::recovery::is_left_over;
use crate::update::saga::{EventName, Progress};

/// One app. In JSON, absent fields mean "not so".
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// Whether it is declared.
    pub declared: bool,
    /// Whether the operator has nothing to do for it.
    pub ok: bool,
    /// What is deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `running`, `starting`, `died`, `down`, `absent`, `unknown`.
    pub state: &'static str,
    /// What was last seen healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Version>,
    /// The known-good snapshot: when, and of which version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_good: Option<KnownGood>,
    /// Everything a person should know, the most urgent first.
    pub notes: Vec<String>,
    /// Commands to run.
    pub hints: Vec<String>,
}

/// The known-good of an app.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownGood {
    /// Its id.
    pub id: String,
    /// Of which version.
    pub version: Version,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// The status of every declared app, in order, then of those that only left something behind.
pub fn all(host: &Host, config: &Config) -> Result<Vec<AppStatus>> {
    let mut rows: Vec<AppStatus> = config.in_order().iter().map(|name| of(host, name, config.apps.get(name))).collect();
    for name in state::known_apps(&host.dirs)? {
        if !config.apps.contains_key(&name) {
            rows.push(of(host, &name, None));
        }
    }
    Ok(rows)
}

/// The status of one app. Whatever cannot be read becomes a note: a status that fails tells nothing.
#[must_use]
pub fn of(host: &Host, name: &AppName, app: Option<&App>) -> AppStatus {
    let mut status = AppStatus {
        app: name.clone(),
        declared: app.is_some(),
        ok: true,
        version: None,
        state: "unknown",
        last_good: None,
        known_good: None,
        notes: Vec::new(),
        hints: Vec::new(),
    };
    let progress = status.add_journal(host, name);
    let of_journal = status.hints.clone();
    let state = AppState::load(&host.dirs, name);
    match &state {
        Ok(state) => status.add_state(state, host.clock.now(), name),
        Err(error) => status.failed(error),
    }
    if let Some(app) = app {
        status.add_observed(host, app, state.as_ref().ok(), progress.as_ref());
    } else {
        let is_stuck = progress.as_ref().is_some_and(|progress| progress.last == EventName::Stuck);
        let back = if is_stuck { "; to bring it back, declare it again" } else { "" };
        status.notes.push(format!("not declared any more; nothing of it is touched{back}"));
    }
    let store = Store::new(&host.dirs, name);
    match store.current() {
        Ok(Some(snapshot)) => {
            if store.is_damaged(&snapshot.id) {
                let note =
                    "its known-good is damaged: data may not come back, and while it is healthy a new one can be taken";
                status.wrong(note.to_owned(), Some(format!("cc-warm verify {name}")));
                status.hints.push(format!("cc-warm snapshot {name}"));
            }
            status.known_good = Some(KnownGood {
                id: snapshot.id.to_string(),
                version: snapshot.tag.identity.version.clone(),
                taken_at: snapshot.tag.taken_at,
            });
        }
        Ok(None) => {}
        Err(error) => {
            status.wrong(format!("the known-good cannot be read: {error:#}"), Some(format!("cc-warm verify {name}")));
        }
    }
    if app.is_none() {
        status.hints = ways_with_undeclared(name, progress.as_ref(), of_journal);
    }
    status
}

/// What speaks against starting what ran last of `app` on the data that is there.
fn doubt(
    host: &Host,
    app: &App,
    deployer: &dyn Deployer,
    state: &AppState,
    observed: &Observed,
) -> Result<Option<String>> {
    let Some(good) = &state.last_good else { return Ok(None) };
    parted::Facts { host, app, deployer, state, observed }.doubt((&good.identity).into())
}

/// What can be done about an app that is not declared: all that would start, change or check it is refused, and an
/// operation that was cut short is settled first, as `of_journal` says.
fn ways_with_undeclared(name: &AppName, progress: Option<&Progress>, of_journal: Vec<String>) -> Vec<String> {
    let is_under_way = match progress {
        Some(progress) => progress.last != EventName::Stuck,
        // It may have one that cannot be read.
        None => !of_journal.is_empty(),
    };
    if is_under_way { of_journal } else { vec![format!("cc-warm forget {name}")] }
}

impl AppStatus {
    fn wrong(&mut self, note: String, hint: Option<String>) {
        self.ok = false;
        self.notes.push(note);
        self.hints.extend(hint);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.wrong(format!("{error:#}"), None);
        self.hints.extend(error::hints(error));
    }

    /// What its journal says, where it has one.
    fn add_journal(&mut self, host: &Host, name: &AppName) -> Option<Progress> {
        let holder = lock::holder(&host.dirs, name).unwrap_or_default();
        match journal::peek(&host.dirs, name) {
            Ok(None) => {
                self.notes.extend(holder.map(|holder| format!("busy: {holder}")));
            }
            Ok(Some(progress)) if progress.last == EventName::Stuck => {
                let reason = progress.stuck.as_ref().map(|(reason, _)| reason.first_line()).unwrap_or_default();
                self.wrong(format!("STUCK, nothing is done to it: {reason}"), Some(progress.way_out()));
                return Some(progress);
            }
            Ok(Some(progress)) => {
                let last = progress.last.as_str();
                match holder {
                    Some(holder) => self.notes.push(format!("under way, at `{last}`: {holder}")),
                    None => self.wrong(
                        format!("an operation was cut short at `{last}`"),
                        Some(format!("cc-warm recover {name}")),
                    ),
                }
                return Some(progress);
            }
            Err(error) => self.failed(&error.into_problem(name)),
        }
        None
    }

    fn add_state(&mut self, state: &AppState, now: Timestamp, name: &AppName) {
        self.last_good = state.last_good.as_ref().map(|good| good.identity.version.clone());
        if let Some(held) = &state.held {
            self.wrong(format!("held: {} waits for you", held.version), Some(format!("cc-warm plan {name}")));
            self.notes.extend(held.reasons.iter().map(|reason| format!("  {}", Untrusted::new(reason).terminal())));
        }
        if let Some(waiting) = &state.waiting {
            let since = waiting.since.strftime("%Y-%m-%d %H:%M UTC");
            let note = format!("{} waits for a window: no run has met one since {since}", waiting.version);
            if waiting.is_too_long(now) {
                self.wrong(note, Some(format!("cc-warm update --now {name}")));
            } else {
                self.notes.push(note);
            }
        }
        if state.down_by_hand.is_some() {
            self.wrong("undeployed by somebody; left alone".to_owned(), Some(format!("cc-warm resume {name}")));
        }
        if let Some(paused) = state.paused.as_ref().filter(|_| state.is_paused(now)) {
            let until = paused.until.map_or(String::new(), |until| format!(" until {until}"));
            let reason =
                paused.reason.as_ref().map_or(String::new(), |r| format!(": {}", Untrusted::new(r).terminal()));
            self.notes.push(format!("paused{until}{reason}"));
        }
        if let Some(run) = state.last_run.as_ref().filter(|run| run.outcome == LastRun::FAILED) {
            let why = run.reason.as_ref().map_or(String::new(), |reason| format!(": {}", reason.terminal()));
            self.wrong(format!("its last update ended in an error{why}"), Some(format!("cc-warm update {name}")));
        }
        if state.fetch_failures > 0 {
            self.notes.push(format!("its recipe could not be fetched, {} time(s) in a row", state.fetch_failures));
        }
        let rejected: Vec<String> = state.rejected.iter().map(|r| r.identity.version.to_string()).collect();
        if !rejected.is_empty() && state.last_good.is_none() {
            let versions = rejected.join(", ");
            self.wrong(format!("its first deployment failed: {versions}"), Some(format!("cc-warm retry {name}")));
        } else if !rejected.is_empty() {
            self.notes.push(format!("rolled back before, not tried again: {}", rejected.join(", ")));
        }
    }

    /// That it ran, and is not deployed: not every undeployment was seen by a run yet, and who said `resume` waits for one.
    fn add_absent(&mut self, name: &AppName, state: &AppState) {
        if state.last_good.is_none() || state.down_by_hand.is_some() {
            return;
        }
        let (note, next) = if state.resumed {
            ("taken over again, but not started yet", "update")
        } else {
            ("undeployed by somebody; left alone", "resume")
        };
        self.wrong(note.to_owned(), Some(format!("cc-warm {next} {name}")));
    }

    /// That what ran last would not be started on its data, whoever asks for it.
    fn add_doubt(&mut self, name: &AppName, why: &str) {
        let refused = ["update", "resume"].map(|word| format!("cc-warm {word} {name}"));
        self.hints.retain(|hint| !refused.contains(hint));
        self.wrong(format!("it would not be started again: {why}"), None);
        self.hints.extend(parted::ways_out(name));
    }

    fn add_observed(&mut self, host: &Host, app: &App, state: Option<&AppState>, progress: Option<&Progress>) {
        let look = || -> Result<_> {
            let deployer = deployer::open(host, app)?;
            let moved = state.map(|state| parted::moved(deployer.as_ref(), state)).transpose()?.flatten();
            let observed = deployer.observe()?;
            let doubt = state.map(|state| doubt(host, app, deployer.as_ref(), state, &observed));
            Ok((observed, moved, doubt.transpose().unwrap_or_default().flatten()))
        };
        let mut doubt = None;
        let observed = look().map(|(observed, moved, why)| {
            if let Some(moved) = moved {
                self.wrong(format!("elsewhere: {moved}"), Some(format!("cc-warm plan {}", app.name)));
            }
            doubt = why;
            observed
        });
        match observed {
            Err(error) => self.failed(&error),
            Ok(Observed::Absent { .. }) => {
                self.state = "absent";
                if let Some(state) = state.filter(|_| app.warm == Warm::Live && progress.is_none()) {
                    self.add_absent(&app.name, state);
                    if let Some(why) = doubt {
                        self.add_doubt(&app.name, &why);
                    }
                }
            }
            Ok(Observed::Present(deployment)) => {
                let stuck = progress.filter(|progress| progress.last == EventName::Stuck);
                if stuck.is_some_and(|progress| !is_left_over(progress, &deployment.generation)) {
                    self.notes.push("what is deployed now is somebody's own, and is left alone".to_owned());
                    // What would start another version over it is refused.
                    self.hints.retain(|hint| *hint != format!("cc-warm retry {}", app.name));
                    self.hints.insert(0, format!("cc-warm adopt {}, once it is healthy", app.name));
                }
                match deployment.what {
                    Known::Yes(identity) => self.version = Some(identity.version.to_string()),
                    Known::No { label, why } => {
                        self.wrong(format!("what runs is unknown ({}): {why}", label.terminal()), None);
                    }
                }
                match deployment.state {
                    Convergence::Converged => self.state = "running",
                    Convergence::Starting(_) => self.state = "starting",
                    Convergence::Down => {
                        self.state = "down";
                        self.wrong(
                            "deployed, but nothing of it runs".to_owned(),
                            Some(format!("cc-warm recover {}", app.name)),
                        );
                    }
                    Convergence::Died(why) => {
                        self.state = "died";
                        self.wrong(format!("some of it died: {}", why.terminal()), None);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::saga::samples::begun;
    use crate::update::saga::{Event, LiveData};

    #[test]
    fn of_an_app_that_is_not_declared_no_command_is_named_that_is_refused() {
        let name = "login".parse::<AppName>().unwrap();
        let journal = |events: &[Event]| {
            let first = Progress::start(Event::Begun(Box::new(begun()))).unwrap();
            events.iter().try_fold(first, |progress, event| progress.apply(event.clone())).unwrap()
        };
        let stuck = Event::Stuck { reason: Untrusted::new("x"), data: LiveData::Failed, running: None, damaged: false };
        let (forget, recover) = ("cc-warm forget login", "cc-warm recover login");
        for (progress, of_journal, wanted) in [
            (None, None, Some(forget)),
            (None, Some("move it away"), Some("move it away")),
            (Some(journal(&[Event::Stopping])), Some(recover), Some(recover)),
            // It is being worked on.
            (Some(journal(&[Event::Stopping])), None, None),
            (Some(journal(&[Event::Stopping, stuck])), Some("cc-warm restore login"), Some(forget)),
        ] {
            let of_journal = of_journal.map(str::to_owned).into_iter().collect();
            let ways = ways_with_undeclared(&name, progress.as_ref(), of_journal);
            assert_eq!(ways.first().map(String::as_str), wanted, "{ways:?}");
        }
    }
}
