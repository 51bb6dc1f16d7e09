//! What speaks against starting a version on the data that is there: somebody else may have deployed another one since,
//! or the app is elsewhere than the configuration says. What is not known to be safe is not done.

use anyhow::Result;

use crate::config::App;
use crate::config::names::AppName;
use crate::deployer::{Convergence, Deployer, Known, Moved, Observed, Place};
use crate::error::{Exit, Problem};
use crate::host::Host;
use crate::identity::{CommitId, Identity};
use crate::recipe::version::Version;
use crate::snapshot::Store;
use crate::state::AppState;
use crate::sys::untrusted::Untrusted;

/// A version, and its commit where that is known.
#[derive(Debug, Clone, Copy)]
pub struct Code<'a> {
    /// The version.
    pub version: &'a Version,
    /// Its commit.
    pub commit: Option<&'a CommitId>,
}

impl<'a> From<&'a Identity> for Code<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self { version: &identity.version, commit: Some(&identity.commit) }
    }
}

/// What is known of an app when it is asked what may be started on its data.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The host.
    pub host: &'a Host,
    /// The app.
    pub app: &'a App,
    /// Its deployer.
    pub deployer: &'a dyn Deployer,
    /// What is remembered of it.
    pub state: &'a AppState,
    /// What is deployed of it now.
    pub observed: &'a Observed,
}

impl Facts<'_> {
    /// Why the data of the app, which is not deployed, may be of another version than `code`, in words. `None`: nothing
    /// that can be known speaks for that.
    pub fn doubt(&self, code: Code<'_>) -> Result<Option<String>> {
        let Observed::Absent { has_data } = self.observed else { return Ok(None) };
        if !self.app.stateful {
            return Ok(None);
        }
        if let Some(why) = another(self.state, self.deployer.named()?.as_deref(), code) {
            return Ok(Some(why));
        }
        let had_data = || -> Result<bool> {
            let current = Store::new(&self.host.dirs, &self.app.name).current()?;
            Ok(current.is_some_and(|snapshot| snapshot.volume_names().next().is_some()))
        };
        Ok((!has_data && had_data()?).then(|| "the volumes that it had are not there any more".to_owned()))
    }

    /// Whether the data is as a first deployment that came to nothing left it.
    pub fn is_as_first_tried(&self) -> Result<bool> {
        let Some(version) = &self.state.first_tried else { return Ok(false) };
        let code = Code { version, commit: self.state.seen.get(version).map(|seen| &seen.commit) };
        Ok(self.doubt(code)?.is_none())
    }

    /// Refuses to start `code` on data that may be another version's.
    pub fn must_fit(&self, code: Code<'_>) -> Result<()> {
        let Some(why) = self.doubt(code)? else { return Ok(()) };
        let name = &self.app.name;
        let problem = Problem::new(format!("`{name}` is not started again: {why}; nothing was touched"));
        let [by_hand, restore] = ways_out(name);
        Err(problem.exit(Exit::Refused).hint(by_hand).hint(restore).into())
    }
}

/// Whether somebody deployed another version since cc-warm last knew what is on the data, in words. `named`: what is
/// written down now where everybody who deploys writes it; `None` where nobody but cc-warm deploys.
fn another(state: &AppState, named: Option<&str>, code: Code<'_>) -> Option<String> {
    let version = code.version;
    if let Some(other) = &state.seen_other {
        return Some(format!("its data may not be of {version}: somebody deployed {} since", other.terminal()));
    }
    let named = named?;
    let is_code = named == version.to_string() || code.commit.is_some_and(|commit| commit.is_shortened_to(named));
    if is_code || state.named.as_deref() == Some(named) {
        return None;
    }
    Some(if named.is_empty() {
        format!("it is not known whether its data is still of {version}: its `.env` names no version")
    } else {
        let named = Untrusted::new(named).terminal();
        format!("its data may not be of {version}: its `.env` names {named}, which somebody deployed since")
    })
}

/// What brings `app` back where there is a doubt.
#[must_use]
pub fn ways_out(app: &AppName) -> [String; 2] {
    [
        format!("deploy the version that wrote its data by hand, then `cc-warm adopt {app}`"),
        format!("cc-warm restore {app} (version and data of its snapshot)"),
    ]
}

/// Whether the app is elsewhere than the configuration says: then nothing that is asked of its deployer is about it.
pub fn moved(deployer: &dyn Deployer, state: &AppState) -> Result<Option<Moved>> {
    let is_known = state.last_good.is_some() || state.stuck.is_some() || state.place.is_some();
    Ok(if is_known { deployer.moved(state.place.as_ref())? } else { None })
}

/// Refuses an app that is elsewhere than the configuration says.
pub fn must_be_in_place(app: &AppName, deployer: &dyn Deployer, state: &AppState) -> Result<()> {
    let Some(moved) = moved(deployer, state)? else { return Ok(()) };
    let problem = Problem::new(format!("`{app}` is elsewhere: {moved}; nothing was touched"));
    Err(problem.exit(Exit::Refused).hint("set the configuration back").hint(format!("or {}", moved.by_hand)).into())
}

/// Notes what is deployed: the last-good, which is at `place`, or something else: when that is gone, its data may be left.
pub fn note_observed(state: &mut AppState, observed: &Observed, place: Option<Place>) {
    let (Observed::Present(deployment), Some(good)) = (observed, &state.last_good) else { return };
    state.seen_other = match &deployment.what {
        Known::Yes(now) if now.has_code_of(&good.identity) => {
            state.place = place;
            if deployment.state != Convergence::Down {
                // Deployed again by hand: nothing is left to be resumed, neither now nor when it is undeployed the next time.
                (state.down_by_hand, state.resumed) = (None, false);
            }
            None
        }
        Known::Yes(now) => Some(Untrusted::new(now.to_string())),
        Known::No { label, why } => Some(Untrusted::new(format!("something unknown ({}: {why})", label.raw()))),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::saga::samples::identity;

    #[test]
    fn what_is_written_down_must_be_the_version_that_is_to_be_started() {
        let good = identity("1.0.0+1");
        let short = &good.commit.as_str()[..8];
        let dirty = format!("{short}+U");
        for (named, remembered, safe) in [
            // Nobody else deploys.
            (None, None, true),
            (Some("1.0.0+1"), None, true),
            (Some(short), None, true),
            // As it was when cc-warm last knew.
            (Some(""), Some(""), true),
            (Some("2.0.0+1"), Some("2.0.0+1"), true),
            (Some("2.0.0+1"), None, false),
            (Some("2.0.0+1"), Some("1.0.0+1"), false),
            (Some("1.0.0+2"), Some("1.0.0+1"), false),
            (Some("deadbeef"), Some("1.0.0+1"), false),
            (Some(dirty.as_str()), Some("1.0.0+1"), false),
            (Some(&short[..4]), None, false),
            (Some(""), None, false),
            (Some(""), Some("1.0.0+1"), false),
        ] {
            let state = AppState { named: remembered.map(str::to_owned), ..AppState::default() };
            let why = another(&state, named, Code::from(&good));
            assert_eq!(why.is_none(), safe, "{named:?} {remembered:?}: {why:?}");
        }
    }

    #[test]
    fn what_was_deployed_again_by_hand_is_not_resumed_once_it_is_undeployed_the_next_time() {
        let good = identity("1.0.0+1");
        let now = jiff::Timestamp::UNIX_EPOCH;
        for (convergence, stays) in [(Convergence::Converged, false), (Convergence::Down, true)] {
            let mut state = AppState::default();
            state.commit(good.clone(), now);
            (state.down_by_hand, state.resumed) = (Some(now), true);
            let what = Known::Yes(good.clone());
            let deployment = crate::deployer::Deployment { what, generation: String::new(), state: convergence };
            note_observed(&mut state, &Observed::Present(deployment), None);
            assert_eq!((state.down_by_hand.is_some(), state.resumed), (stays, stays));
        }
    }

    #[test]
    fn another_deployment_that_was_seen_is_remembered_until_the_last_good_is_seen_again() {
        let good = identity("1.0.0+1");
        let mut state = AppState::default();
        state.commit(good.clone(), jiff::Timestamp::UNIX_EPOCH);
        let present = |what: Known| {
            let state = crate::deployer::Convergence::Converged;
            Observed::Present(crate::deployer::Deployment { what, generation: String::new(), state })
        };
        let unknown = Known::No { label: Untrusted::new("latest"), why: "it is no version".to_owned() };
        for what in [Known::Yes(identity("2.0.0+1")), unknown] {
            note_observed(&mut state, &present(what), None);
            note_observed(&mut state, &Observed::Absent { has_data: true }, None);
            let why = another(&state, Some("1.0.0+1"), Code::from(&good)).unwrap();
            assert!(why.contains("somebody deployed"), "{why}");
            note_observed(&mut state, &present(Known::Yes(good.clone())), None);
            assert_eq!(another(&state, Some("1.0.0+1"), Code::from(&good)), None);
        }
        note_observed(&mut state, &present(Known::Yes(identity("2.0.0+1"))), None);
        state.commit(identity("2.0.0+1"), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(state.seen_other, None);
    }
}
