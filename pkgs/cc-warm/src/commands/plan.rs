//! `cc-warm plan`

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::results::worse;
use super::session::{Session, Voice, print_json};
use crate::cli::{Apps, Global};
use crate::config::names::AppName;
use crate::config::window;
use crate::deployer;
use crate::error::{self, Exit};
use crate::gate::{Candidate, Decision, Reason};
use crate::lock;
use crate::recipe::version::Version;
use crate::state::AppState;
use crate::sys::out::show;
use crate::sys::untrusted::Untrusted;
use crate::update::assess::{self, Assessment, Next};
use crate::update::context::Context;
use crate::update::journal;
use crate::update::parted;
use crate::update::saga::Progress;

/// Shows what `update` would do, and why; touches nothing.
///
/// The decision, every reason for a hold with its evidence, and the difference of the recipe.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    apps: Apps,
    /// Leave out the difference of the recipe.
    #[arg(long)]
    no_diff: bool,
}

/// One app's plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    app: AppName,
    /// `up-to-date`, `apply`, `hold`, `first-deploy`, `adopt`, `down-by-hand`, `resume`, `start`, `not-deployed`, `stuck`, `unfinished`, `error`.
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Candidate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
    /// Everything else a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Untrusted>,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::look(global)?;
    let apps = session.select_live(&args.apps.apps)?;
    session.ask_remotes(&apps);
    let mut plans = Vec::new();
    let mut exit = Exit::Done;
    for app in &apps {
        let voice = Voice::of(app);
        let plan = plan(&session, &session.context(&voice), app, !args.no_diff);
        let plan = plan.map_err(deployer::classified).unwrap_or_else(|error| {
            exit = worse(exit, error::exit_of(&error));
            let mut notes = vec![format!("{error:#}")];
            notes.extend(error::hints(&error).iter().map(|hint| format!("hint: {hint}")));
            Plan::new(app, "error", notes)
        });
        if !session.json {
            show!("{}", plan.text().trim_end());
        }
        plans.push(plan);
    }
    if session.json {
        print_json(&serde_json::json!({ "format": 1, "apps": plans }))?;
    }
    Ok(exit)
}

fn plan(session: &Session, context: &Context<'_>, name: &AppName, with_diff: bool) -> Result<Plan> {
    let app = session.config.app(name)?;
    let mut state = AppState::load(&session.host.dirs, name)?;
    let now = session.host.clock.now();
    if let Some(progress) = journal::peek(&session.host.dirs, name).map_err(|error| error.into_problem(name))? {
        return Ok(Plan::of_journal(name, &progress, lock::holder(&session.host.dirs, name)?));
    }
    let deployer = deployer::open(&session.host, app)?;
    // As an update would see it; nothing of it is saved.
    assess::note_seen(&mut state, &*context.recipes.published(&app.remote)?, now);
    let assessment = assess::assess(context, app, deployer.as_ref(), &state)?;
    let mut plan = Plan::of(name, &assessment);
    let applies = matches!(assessment.next, Next::Gate(Decision::Apply { .. }));
    if applies && app.stateful && !window::is_open(&app.update.windows, session.host.clock.local()) {
        plan.notes.push("outside of its windows: `update` would do nothing now".to_owned());
    }
    if state.is_paused(now) {
        plan.notes.push("paused: `update` would do nothing".to_owned());
    }
    if let Some(target) = plan.target.as_ref().filter(|_| with_diff) {
        plan.diff = assess::diff(context, app, &assessment, target);
    }
    Ok(plan)
}

impl Plan {
    fn new(app: &AppName, action: &'static str, notes: Vec<String>) -> Self {
        Self { app: app.clone(), action, current: None, target: None, reasons: Vec::new(), notes, diff: None }
    }

    /// Whatever is unfinished comes first; what `update` does afterwards depends on how that ends.
    fn of_journal(app: &AppName, progress: &Progress, holder: Option<String>) -> Self {
        let note = match (&progress.stuck, holder) {
            (Some((reason, _)), _) => {
                let notes = vec![reason.first_line(), format!("hint: {}", progress.way_out())];
                return Self::new(app, "stuck", notes);
            }
            (None, Some(holder)) => format!("an operation is under way, at `{}`: {holder}", progress.last.as_str()),
            (None, None) => {
                format!("an operation was cut short at `{}`; `update` would settle it first", progress.last.as_str())
            }
        };
        Self::new(app, "unfinished", vec![note])
    }

    fn of(app: &AppName, assessment: &Assessment) -> Self {
        let current = assessment.current().map(|identity| identity.version);
        let mut plan = Self { current, ..Self::new(app, "up-to-date", Vec::new()) };
        match &assessment.next {
            Next::FirstDeploy(candidate) => {
                plan.action = "first-deploy";
                plan.target = Some(candidate.clone());
            }
            Next::NotDeployed => {
                plan.action = "not-deployed";
                plan.notes
                    .push("it is not deployed, and `ensure` is off: it is adopted once somebody deploys it".to_owned());
            }
            Next::Adopt(identity) => {
                plan.action = "adopt";
                plan.notes
                    .push(format!("{identity} runs and would become last-good, once healthy; nothing else changes"));
            }
            Next::DownByHand { doubt } => {
                plan.action = "down-by-hand";
                plan.notes.push(format!("undeployed by somebody; left alone until `cc-warm resume {app}`"));
                if let Some(why) = doubt {
                    plan.notes.push(format!("which would not start it: {why}"));
                    plan.notes.extend(parted::ways_out(app).map(|way| format!("hint: {way}")));
                }
            }
            Next::Resume(identity) => {
                plan.action = "resume";
                plan.notes.push(format!("{identity} would be started again"));
            }
            Next::Down(identity) => {
                plan.action = "start";
                plan.notes.push(format!("{identity} is deployed, but does not run; it would be started"));
            }
            Next::Gate(decision) => plan.decide(decision),
        }
        plan
    }

    fn decide(&mut self, decision: &Decision) {
        let skipped = match decision {
            Decision::UpToDate { skipped } => skipped,
            Decision::Apply { target, commit, approved, held, skipped } => {
                self.action = "apply";
                self.target = Some(Candidate { version: target.clone(), commit: commit.clone() });
                if *approved {
                    self.notes.push("it passes because it was approved".to_owned());
                }
                if Some(target) == self.current.as_ref() {
                    self.notes.push("the version stays; its environment changed".to_owned());
                }
                if let Some(held) = held {
                    let waits = held.candidate.as_ref().map_or("more".to_owned(), |held| held.version.to_string());
                    self.notes
                        .extend(held.reasons.iter().map(|why| format!("{waits} waits for you: {}", why.sentence())));
                }
                skipped
            }
            Decision::Hold { candidate, reasons, skipped } => {
                self.action = "hold";
                self.target.clone_from(candidate);
                self.reasons.clone_from(reasons);
                skipped
            }
        };
        self.notes.extend(skipped.iter().map(|skipped| format!("{} is not tried: {}", skipped.version, skipped.why)));
    }

    fn text(&self) -> String {
        let current = self.current.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        let target =
            self.target.as_ref().map(|target| format!("{} (commit {})", target.version, target.commit.short()));
        let target = target.unwrap_or_else(|| "no update".to_owned());
        let headline = match self.action {
            "up-to-date" => format!("up to date at {current}"),
            "apply" => format!("would update: {current} → {target}"),
            "hold" => format!("would hold at {current}: {target}"),
            "first-deploy" => format!("would deploy {target}, for the first time"),
            "error" => "cannot be planned".to_owned(),
            "adopt" => format!("would adopt {current}"),
            "resume" | "start" => {
                format!("would start {}", self.current.as_ref().map_or("it again".to_owned(), ToString::to_string))
            }
            "stuck" => "stuck: `update` would do nothing".to_owned(),
            "down-by-hand" => "would leave it alone".to_owned(),
            other => other.to_owned(),
        };
        let mut text = format!("{}: {headline}\n", self.app);
        for reason in &self.reasons {
            let _ = writeln!(text, "  - {}", reason.sentence());
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        if let (true, Some(target)) = (self.action == "hold", &self.target)
            && self.reasons.iter().all(Reason::is_approvable)
        {
            let _ = writeln!(text, "  hint: cc-warm approve {} {}", self.app, target.version);
        }
        if let Some(diff) = &self.diff {
            for line in diff.terminal_lines().lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}
