//! What the operator is told of an app before anything of it is touched: that it is held, unhealthy, not to be had. Each
//! is a standing fact: told once, reminded of, and resolved by whoever sees that it is over.

use anyhow::Result;

use super::assess::Assessment;
use super::ballast;
use super::context::Context;
use super::journal;
use super::parted;
use super::saga::{EventName, Progress};
use crate::alert::{Alert, Kind};
use crate::config::App;
use crate::config::names::AppName;
use crate::deployer::Observed;
use crate::error::{self, Exit};
use crate::gate::Candidate;
use crate::recipe::Published;
use crate::recipe::version::Version;
use crate::state::Waiting;
use crate::sys::shutdown;
use crate::sys::untrusted::Untrusted;

/// Why an update waits for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// What waits; `None` where nothing can be named.
    pub candidate: Option<Candidate>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What the reasons are known by: with the same version they are told once, in whatever words they come again.
    pub known_by: Vec<String>,
    /// Whether `approve` would let it pass.
    pub approvable: bool,
}

impl Waits {
    /// As the gate says it.
    #[must_use]
    pub fn of(candidate: Option<Candidate>, reasons: &[crate::gate::Reason]) -> Self {
        Self {
            approvable: candidate.is_some() && reasons.iter().all(crate::gate::Reason::is_approvable),
            candidate,
            reasons: reasons.iter().map(crate::gate::Reason::sentence).collect(),
            known_by: reasons.iter().map(crate::gate::Reason::known_by).collect(),
        }
    }

    /// For one reason that no approval lifts, and that is known again by `known_by`.
    #[must_use]
    pub fn because(candidate: Option<Candidate>, known_by: &str, reason: String) -> Self {
        Self { candidate, reasons: vec![reason], known_by: vec![known_by.to_owned()], approvable: false }
    }

    /// What the alert is known by.
    fn fingerprint(&self) -> String {
        let what = self.candidate.as_ref().map_or("every update".to_owned(), |candidate| {
            let Candidate { version, commit } = candidate;
            format!("{version} {commit}")
        });
        format!("{what}\n{}", self.known_by.join("\n"))
    }
}

/// An update waits: with its reasons, and the notes of every version on the way.
pub fn held(context: &Context<'_>, app: &App, assessment: &Assessment, waits: &Waits) -> Result<()> {
    let name = &app.name;
    let current = assessment.current().map(|identity| identity.version);
    let what = waits.candidate.as_ref().map(|candidate| candidate.version.to_string());
    let title =
        what.map_or(format!("{name} is not updated until you act"), |what| format!("{name}: {what} waits for you"));
    let mut alert = Alert::new(Kind::Held, waits.fingerprint(), title);
    if let Observed::Present(_) = assessment.observed {
        alert = alert.fact("runs", current.as_ref().map_or("an unknown version".to_owned(), ToString::to_string));
    }
    for reason in &waits.reasons {
        alert = alert.fact("because", reason.as_str());
    }
    if let Some(candidate) = &waits.candidate {
        alert = alert.fact("commit", candidate.commit.to_string()).hint(format!("cc-warm plan {name}"));
        if waits.approvable {
            alert = alert.hint(format!("cc-warm approve {name} {}", candidate.version));
        }
        if let Some(notes) = current.and_then(|current| notes(context, app, &assessment.published, &current, candidate))
        {
            alert = alert.notes(notes);
        }
    }
    context.raise(name, alert)
}

/// What the notes of every version after `current`, up to `candidate`, say; those that cannot be read are a reason.
fn notes(
    context: &Context<'_>,
    app: &App,
    published: &Published,
    current: &Version,
    candidate: &Candidate,
) -> Option<Untrusted> {
    let notes = context.recipes.notes(&app.remote).ok()?.on_the_way(published, current, &candidate.version);
    let texts: Vec<String> = notes
        .iter()
        .filter_map(|note| Some(format!("{}:\n{}", note.path, note.text.as_ref().ok()?.raw().trim_end())))
        .collect();
    (!texts.is_empty()).then(|| Untrusted::new(texts.join("\n\n")))
}

/// It was unhealthy before any update.
pub fn unhealthy(context: &Context<'_>, app: &App, reason: &Untrusted) -> Result<()> {
    let name = &app.name;
    let title = format!("{name} is unhealthy, before any update; it was not touched");
    let alert = Alert::new(Kind::UnhealthyBeforeUpdate, "unhealthy", title)
        .fact("because", reason.raw())
        .hint("cc-warm doctor");
    context.raise(name, alert)
}

/// Somebody undeployed it.
pub fn down_by_hand(context: &Context<'_>, app: &App, doubt: Option<&str>) -> Result<()> {
    let name = &app.name;
    let title = format!("{name} was undeployed by somebody; it is left alone");
    let alert = Alert::new(Kind::DownByHand, "down", title);
    let alert = match doubt {
        None => alert.hint(format!("cc-warm resume {name}")),
        Some(why) => parted::ways_out(name).into_iter().fold(alert.fact("not started again", why), Alert::hint),
    };
    context.raise(name, alert)
}

/// Its recipe could not be fetched for some runs.
pub fn fetch_failing(context: &Context<'_>, app: &App, times: u32, reason: &Untrusted) -> Result<()> {
    let name = &app.name;
    let title = format!("{name}: its recipe could not be fetched, {times} times in a row");
    let alert = Alert::new(Kind::FetchFailing, "fetch", title)
        .fact("remote", crate::recipe::error::shown(&app.remote))
        .fact("because", reason.raw())
        .hint(format!("cc-warm plan {name}"));
    context.raise(name, alert)
}

/// An app that it comes after is not as it should be.
pub fn predecessor(context: &Context<'_>, app: &App, reason: &str) -> Result<()> {
    let name = &app.name;
    let title = format!("{name} is not updated while an app before it is not as it should be");
    context.raise(
        name,
        Alert::new(Kind::PredecessorUnhealthy, reason, title).fact("because", reason).hint("cc-warm status"),
    )
}

/// What could be applied has waited for its window for longer than is likely to be meant.
pub fn window_missed(context: &Context<'_>, name: &AppName, waiting: &Waiting) -> Result<()> {
    let title = format!("{name}: {} waits for a window, and no run meets one", waiting.version);
    let alert = Alert::new(Kind::WindowMissed, "window", title)
        .fact("waits since", waiting.since.to_string())
        .hint(format!("cc-warm update --now {name}"));
    context.raise(name, alert)
}

/// There is no room for a snapshot.
pub fn disk_short(context: &Context<'_>, app: &App, target: &Version, reason: &str) -> Result<()> {
    let name = &app.name;
    let title = format!("{name}: {target} waits for free disk space");
    let alert = Alert::new(Kind::DiskShort, "disk", title)
        .fact("because", reason)
        .hint(format!("cc-warm snapshot --dry-run {name}"));
    context.raise(name, alert)
}

/// The target could not be prepared.
pub fn prepare_failed(context: &Context<'_>, app: &App, target: &Version, error: &anyhow::Error) -> Result<()> {
    let name = &app.name;
    let title = format!("{name}: {target} could not be prepared; the app was not touched");
    let alert = Alert::new(Kind::PrepareFailed, target.to_string(), title)
        .fact("because", format!("{error:#}"))
        .hint(format!("cc-warm plan {name}"));
    context.raise(name, alert)
}

/// A run ended before it began anything, and not because of anything that the operator is told otherwise.
pub fn update_failed(context: &Context<'_>, name: &AppName, reason: &str) -> Result<()> {
    let title = format!("{name}: its update ended in an error; nothing was touched");
    let alert = Alert::new(Kind::UpdateFailed, "failed", title).fact("because", reason);
    context.raise(name, alert.hint(format!("cc-warm update {name}")))
}

/// It should run and does not, and could not be started; `way_up` is the command that tries it again.
pub fn down(context: &Context<'_>, name: &AppName, reason: &str, way_up: String) -> Result<()> {
    let title = format!("{name} is down, and could not be started");
    let alert = Alert::new(Kind::Down, "down", title).fact("because", reason);
    context.raise(name, alert.hint(way_up))
}

/// Somebody changed it while its update was prepared.
pub fn released(context: &Context<'_>, app: &App, by: &Untrusted) -> Result<()> {
    let name = &app.name;
    // There is no operation yet that it could be known by.
    let alert = Alert::new(Kind::Released, crate::sys::random::id()?, format!("{name} is left to whoever works on it"))
        .fact("seen", by.raw())
        .hint(format!("cc-warm status {name}"));
    context.raise(name, alert)
}

/// Tells of an operation on an app, whose lock is held, that `error` left unfinished, whatever its exit code: systemd takes
/// some for a success. Gives the error back.
#[must_use]
pub fn of_unfinished(context: &Context<'_>, name: &AppName, error: anyhow::Error) -> anyhow::Error {
    let Some(progress) = unfinished(context, name, &error) else { return error };
    let title = format!("{name}: an operation could not be finished; the app may be down");
    let alert = Alert::new(Kind::Unfinished, &progress.begun.operation, title)
        .fact("tried", progress.begun.to.to_string())
        .fact("left at", progress.last.as_str())
        .fact("now", state_of(&progress))
        .fact("because", format!("{error:#}"))
        .hint(format!("cc-warm recover {name}"))
        .hint(format!("cc-warm status {name}"));
    let raised = context.raise(name, alert.clone()).or_else(|_| {
        // On a full disk there is the ballast; an app that may be down is what it is for.
        ballast::free(&context.host.dirs.app(name.as_str()))?;
        context.raise(name, alert)
    });
    told(error, raised)
}

/// `error`, of which an alert was `raised`; it says so if that could not be.
pub(super) fn told(error: anyhow::Error, raised: Result<()>) -> anyhow::Error {
    match raised {
        Ok(()) => error,
        Err(other) => error.context(format!("and the alert could not be written: {other:#}")),
    }
}

/// What `error` left unfinished. A shutdown leaves it to the next boot, and that docker does not answer is nothing new of
/// an app that is stuck.
#[must_use]
pub fn unfinished(context: &Context<'_>, name: &AppName, error: &anyhow::Error) -> Option<Progress> {
    let progress = journal::peek(&context.host.dirs, name).ok()??;
    let told = match progress.last {
        EventName::Begun => true,
        EventName::Stuck => error::exit_of(error) == Exit::NotReady,
        _ => shutdown::is_under_way(),
    };
    (!told).then_some(progress)
}

/// The state of an app whose operation was left at its last event.
fn state_of(progress: &Progress) -> &'static str {
    use EventName as E;
    match progress.last {
        E::Begun => "nothing was touched",
        E::Stopping | E::Snapshotting | E::Snapshotted => "it may be down; its data is untouched",
        E::RollingBack if !progress.touched => "it may be down; its data is untouched",
        E::Deploying | E::Deployed | E::RollingBack => {
            "it may be down, or the version that was tried runs, of which it is not known whether it is well"
        }
        E::Restoring | E::Exchanging | E::DiscardingFailed => "it is down; its data is not all back yet",
        E::Restored | E::Redeploying => "it may be down; its data fits the version that is to be started",
        E::Healthy | E::Committed => "the new version runs and is healthy; that is not written down everywhere yet",
        E::RolledBack => "it is as it was before; that is not written down everywhere yet",
        E::Stuck => "it is stuck, and perhaps not all of it is stopped",
        E::Released => "somebody works on it",
    }
}

/// The deployer answered, the state could be read, and nothing is under way: whatever was told of that is over.
pub fn answers(context: &Context<'_>, app: &App) -> Result<()> {
    context.resolve(&app.name, &[Kind::NotReady, Kind::CorruptState, Kind::Unfinished])
}
