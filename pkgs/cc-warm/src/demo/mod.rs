//! `cc-warm demo`: all of it at work in a sandbox, each step with what it checked. Fails loudly if a check fails.

pub mod app;
pub mod maker;
pub mod sandbox;
mod steps;
mod tour;

use std::path::Path;

use anyhow::{Context, Result};

use self::sandbox::Sandbox;
use self::tour::Tour;
use crate::sys::out::show;

/// Runs the demo in a new folder; `keep` leaves it, and what runs in it.
pub fn run(program: &Path, keep: bool) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("cc-warm-demo-").tempdir().context("cannot make a sandbox")?;
    let sandbox = Sandbox::new(folder.path(), program)?;
    show!("cc-warm demo, in {}\n", folder.path().display());
    let mut tour = Tour::new(&sandbox);
    let walked = steps::all(&mut tour);
    if keep {
        let kept = folder.keep();
        show!("\nThe sandbox is kept. The app runs. To play with it:\n");
        let config = kept.join("config.json");
        for words in
            ["status", "plan", "history notes", "verify notes", "restore notes", "pause notes", "undeploy notes"]
        {
            show!("  {} --config {} {words}", kept.join("cc-warm").display(), config.display());
        }
        show!(
            "  tail -F {}\n\nWhen you are done: undeploy it, and delete {}",
            kept.join("alerts.jsonl").display(),
            kept.display()
        );
    } else {
        // Whatever happened, nothing of the demo stays behind.
        let undeployed = sandbox.run(&["undeploy", sandbox::APP, "--wait"]);
        walked?;
        let output = undeployed?;
        anyhow::ensure!(output.status.success(), "the demo's app could not be undeployed: {output}");
        show!(
            "\n{} checks passed in {:.0} s; the sandbox is gone (`--keep` leaves it).",
            tour.checks(),
            tour.seconds()
        );
        return Ok(());
    }
    walked
}
