//! Whether the data is still the same data: a command's output from before the stop and after the update.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::probe;
use crate::config::App;
use crate::sys::untrusted::Untrusted;

/// Most bytes that a continuity command may print.
const OUTPUT_CAP: usize = 1 << 20;
/// Most bytes of them that are kept for messages.
const KEPT: usize = 1024;

/// What the continuity command printed: compared by all of it, shown by its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuity {
    /// BLAKE3 of all that was printed, in hexadecimal.
    digest: String,
    /// Its beginning.
    text: Untrusted,
}

/// Runs the continuity command of `app`; `None` if it has none.
pub fn continuity(app: &App) -> Result<Option<Continuity>> {
    let Some(command) = &app.health.continuity else { return Ok(None) };
    let program = probe::program(app, command, Duration::MAX).context("`health.continuity` names no program")?;
    let what = program.display();
    let output = program.cap(OUTPUT_CAP + 1).run_ok().context("the continuity command")?;
    ensure!(
        output.stdout.len() <= OUTPUT_CAP,
        "the continuity command `{what}` printed more than {OUTPUT_CAP} bytes: let it print a digest"
    );
    Ok(Some(Continuity::of(&output.stdout)))
}

impl Continuity {
    fn of(printed: &[u8]) -> Self {
        Self { digest: blake3::hash(printed).to_hex().to_string(), text: Untrusted::from_bytes(printed, KEPT) }
    }

    /// What is different `after`, in one line, safe to show; `None` if nothing is.
    #[must_use]
    pub fn changed(&self, after: &Self) -> Option<String> {
        if self.digest == after.digest {
            return None;
        }
        let [before, now] = [self, after].map(|c| Untrusted::new(c.text.raw().trim()).terminal());
        Some(if before == now {
            format!("continuity: the output changed after its beginning, `{before}`")
        } else {
            format!("continuity: it was `{before}` before and is `{now}` now")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_all_and_shows_the_beginning() {
        let realms = |n: &str| Continuity::of(format!("{n} realms\n").as_bytes());
        assert_eq!(realms("5").changed(&realms("5")), None);
        assert_eq!(
            realms("5").changed(&realms("0\u{1b}")).unwrap(),
            "continuity: it was `5 realms` before and is `0\\u{1b} realms` now"
        );
        let long = |end: &str| Continuity::of(("x".repeat(KEPT) + end).as_bytes());
        assert!(long("a").changed(&long("b")).unwrap().starts_with("continuity: the output changed after"));
    }
}
