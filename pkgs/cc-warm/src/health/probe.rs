//! One question put to an app, and its answer.

use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::config::{App, CommandProbe, HttpProbe, Probe};
use crate::sys::command::{CommandError, Output, Program};
use crate::sys::http::{self, Request, Response};
use crate::sys::untrusted::Untrusted;

/// Most characters of a body or an output that are quoted.
const QUOTED: usize = 300;

/// What an answer says of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It runs, and every probe passed.
    Passed,
    /// A probe failed.
    Failed,
    /// Not all of it runs yet.
    Starting,
    /// Some of it died, or nothing of it runs.
    Died,
    /// Nothing can be known.
    Unknown,
}

/// What was learnt in one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it says of the app.
    pub condition: Condition,
    /// One line, safe to show: what was asked, what came, what was wanted.
    pub summary: String,
    /// The beginning of the body, or the end of the output.
    pub detail: Untrusted,
}

impl Answer {
    /// An answer with nothing quoted.
    #[must_use]
    pub fn new(condition: Condition, summary: impl Into<String>) -> Self {
        Self { condition, summary: summary.into(), detail: Untrusted::default() }
    }

    /// Whether it is good.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.condition == Condition::Passed
    }

    fn quoting(mut self, text: &str) -> Self {
        self.detail = Untrusted::new(text.chars().take(QUOTED).collect::<String>());
        self
    }
}

/// Asks `probe` of `app`, for at most `limit` (or the probe's own timeout, if that is shorter).
#[must_use]
pub fn ask(app: &App, probe: &Probe, limit: Duration) -> Answer {
    match probe {
        Probe::Http(probe) => ask_http(probe, limit),
        Probe::Command(probe) => ask_command(app, probe, limit),
    }
}

fn ask_http(probe: &HttpProbe, limit: Duration) -> Answer {
    let what = format!("http {}", http::shown(&probe.url));
    let answer = Request::get(&probe.url)
        .timeout(probe.timeout.duration().min(limit))
        .connect_to(probe.resolve)
        .verify_tls(probe.tls_verify)
        .follow_redirects(probe.follow_redirects)
        .send();
    match answer {
        Err(error) => Answer::new(Condition::Failed, format!("{what}: {error}")),
        Ok(response) => match complaint(probe, &response) {
            Ok(None) => Answer::new(Condition::Passed, format!("{what} answered {}", response.status)),
            Ok(Some(complaint)) => {
                Answer::new(Condition::Failed, format!("{what} {complaint}")).quoting(response.body.raw())
            }
            Err(error) => Answer::new(Condition::Failed, format!("{what}: {error}")),
        },
    }
}

/// What is wrong with `response`.
fn complaint(probe: &HttpProbe, response: &Response) -> Result<Option<String>, regex::Error> {
    if response.status != probe.status {
        let to = response.header("location").next();
        let to = to.map(|to| format!(" (to {})", http::shown(to.raw()))).filter(|_| response.status / 100 == 3);
        return Ok(Some(format!("answered {}{}, wanted {}", response.status, to.unwrap_or_default(), probe.status)));
    }
    for (name, pattern) in &probe.headers {
        let wanted = Regex::new(pattern)?;
        let mut values = response.header(name).map(Untrusted::raw);
        if !values.any(|value| wanted.is_match(value)) {
            let said = response.header(name).next().map_or("it is missing".to_owned(), |v| {
                let start: String = v.raw().chars().take(QUOTED).collect();
                format!("it is `{}`", Untrusted::new(start).terminal())
            });
            return Ok(Some(format!(
                "answered {}, but no header `{name}` matches `{pattern}`: {said}",
                response.status
            )));
        }
    }
    if let Some(pattern) = &probe.body
        && !Regex::new(pattern)?.is_match(response.body.raw())
    {
        let part = if response.truncated { " (of which 64 KiB were read)" } else { "" };
        return Ok(Some(format!("answered {}, but its body{part} does not match `{pattern}`", response.status)));
    }
    Ok(None)
}

fn ask_command(app: &App, probe: &CommandProbe, limit: Duration) -> Answer {
    let Some(program) = program(app, probe, limit) else {
        return Answer::new(Condition::Failed, "a command probe names no program");
    };
    let what = format!("command `{}`", program.display());
    match program.cap(http::BODY_CAP).run() {
        Ok(output) if output.status.success() => Answer::new(Condition::Passed, format!("{what} succeeded")),
        Ok(output) => {
            Answer::new(Condition::Failed, format!("{what}: {output}, wanted exit 0")).quoting(&end_of(&output))
        }
        Err(CommandError::TimedOut { deadline, .. }) => {
            Answer::new(Condition::Failed, format!("{what} did not end within {deadline:?} and was killed"))
        }
        Err(CommandError::Start { source, .. }) => {
            Answer::new(Condition::Failed, format!("{what} cannot be started: {source}"))
        }
        Err(error) => Answer::new(Condition::Failed, error.to_string()),
    }
}

/// The program of `probe`, with what it is told of `app`; `None` if it names none.
pub(super) fn program(app: &App, probe: &CommandProbe, limit: Duration) -> Option<Program> {
    let (name, args) = probe.argv.split_first()?;
    Some(
        Program::new(name)
            .args(args)
            .env("CC_WARM_APP", app.name.as_str())
            .env("CC_WARM_DOMAIN", app.domain.as_str())
            .deadline(probe.timeout.duration().min(limit)),
    )
}

/// The last characters of stderr, or of stdout if there is nothing on stderr.
fn end_of(output: &Output) -> String {
    let text = [&output.stderr, &output.stdout]
        .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let skip = text.chars().count().saturating_sub(QUOTED);
    text.chars().skip(skip).collect()
}
