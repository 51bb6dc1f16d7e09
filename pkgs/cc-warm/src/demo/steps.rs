//! The steps of the demo.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::maker::{Behaviour, Release};
use super::sandbox::APP;
use super::tour::Tour;
use crate::sys::clock::Deadline;

const HEALTHY: Release<'static> = Release { version: "", format: 1, behaviour: Behaviour::Healthy, note: None };

/// All of them, in their order.
pub(super) fn all(tour: &mut Tour<'_>) -> Result<()> {
    first_deployment(tour)?;
    healthy_update(tour)?;
    major_is_held(tour)?;
    note_on_the_way_is_held(tour)?;
    broken_latest_goes_back(tour)?;
    kill_in_the_middle(tour)
}

fn first_deployment(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A first deployment");
    tour.sandbox.maker.publish(&Release { version: "1.0.0+1", ..HEALTHY })?;
    Tour::say("a maintainer publishes 1.0.0+1: a small server that keeps notes, in data of format 1");
    tour.run(&["update"], 0)?;
    tour.check_runs("1.0.0+1")?;
    for note in ["buy milk", "call home"] {
        tour.sandbox.write_note(note)?;
    }
    tour.check_notes(&["buy milk", "call home"])
}

fn healthy_update(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A healthy update is committed");
    tour.sandbox.maker.publish(&Release { version: "1.1.0+2", format: 2, ..HEALTHY })?;
    Tour::say("1.1.0+2 migrates the data to format 2 when it starts; 1.0.0+1 could not read it any more");
    tour.run(&["plan", "--no-diff"], 0)?;
    tour.run(&["update"], 0)?;
    tour.check_runs("1.1.0+2")?;
    tour.check_notes(&["buy milk", "call home"])?;
    let status = tour.run(&["status"], 0)?;
    tour.check("the known-good is the data from before the update", status.contains("1.0.0+1 of"), &status)?;
    tour.run(&["update"], 0)?;
    tour.check_runs("1.1.0+2")
}

fn major_is_held(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A major is held, with its notes");
    let note = "The storage is new. Export your notes first, then run the import by hand.\n";
    tour.sandbox.maker.publish(&Release { version: "2.0.0+9", format: 9, note: Some(note), ..HEALTHY })?;
    let text = tour.run(&["update"], 10)?;
    tour.check(
        "both reasons are named: the step, and the note with its line",
        text.contains("a major step: 1.1.0+2 → 2.0.0+9") && text.contains("release/2.0.0+9, line 1"),
        &text,
    )?;
    tour.check_runs("1.1.0+2")?;
    tour.check_alert("held", "by hand")?;
    let before = tour.alerts();
    tour.run(&["update"], 10)?;
    tour.check("the same fact is not told twice", tour.alerts() == before, &tour.alerts())
}

fn note_on_the_way_is_held(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A manual migration between here and the latest is held");
    Tour::say("the operator stays on 1.x for now: `update.ignore = [ \"2.0.0+9\" ]`");
    tour.sandbox.configure(|config| config["apps"][APP]["update"] = serde_json::json!({ "ignore": ["2.0.0+9"] }))?;
    let note = "Faster search.\n\nManual migration: rebuild the index.\n";
    tour.sandbox.maker.publish(&Release { version: "1.2.0+2", format: 2, note: Some(note), ..HEALTHY })?;
    tour.sandbox.maker.publish(&Release { version: "1.3.0+2", format: 2, note: Some("Fixes.\n"), ..HEALTHY })?;
    let text = tour.run(&["update"], 10)?;
    tour.check("the note of 1.2.0+2 holds 1.3.0+2, by file and line", text.contains("release/1.2.0+2, line 3"), &text)?;
    tour.check_runs("1.1.0+2")?;
    Tour::say("the operator reads it, does it, and approves");
    tour.run(&["approve", APP, "1.3.0+2"], 0)?;
    tour.run(&["update"], 0)?;
    tour.check_runs("1.3.0+2")?;
    tour.check_notes(&["buy milk", "call home"])
}

fn broken_latest_goes_back(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A broken latest goes back, with the data");
    tour.sandbox.write_note("written on 1.3")?;
    tour.sandbox.maker.publish(&Release { version: "1.4.0+3", format: 3, behaviour: Behaviour::Broken, note: None })?;
    Tour::say("1.4.0+3 migrates the data to format 3, and then answers every request with an error");
    let text = tour.run(&["update"], 11)?;
    tour.check("the reason is what the probe saw", text.contains("answered 500"), &text)?;
    tour.check_runs("1.3.0+2")?;
    tour.check_notes(&["buy milk", "call home", "written on 1.3"])?;
    tour.check_alert("rolled-back", "answered 500")?;
    let failed = std::fs::read_dir(tour.sandbox.volume()?)?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(".cc-warm-failed-"))
        .context("the failed data is not there")?;
    let refused = tour.sandbox.start_on(&failed.path(), "1.3.0+2", 2)?;
    tour.check(
        "the version alone could not have gone back: 1.3.0+2 refuses the data that 1.4.0+3 left",
        refused,
        "it started",
    )?;
    let text = tour.run(&["update"], 0)?;
    tour.check("a bad version is tried once", text.contains("1.4.0+3 is not tried"), &text)
}

fn kill_in_the_middle(tour: &mut Tour<'_>) -> Result<()> {
    tour.step("A kill in the middle, and the recovery");
    tour.sandbox.maker.publish(&Release { version: "1.5.0+3", format: 3, ..HEALTHY })?;
    Tour::say("cc-warm is killed as soon as 1.5.0+3 is deployed, before it is known to be healthy");
    let mut update = Command::new(tour.sandbox.program())
        .arg("--config")
        .arg(tour.sandbox.config())
        .args(["update", APP])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Deadline::after(Duration::from_secs(30));
    while !tour.journal().contains("\"deployed\"") {
        if deadline.is_over() || update.try_wait()?.is_some() {
            update.kill()?;
            anyhow::bail!("the update never deployed: {}", tour.journal());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    update.kill()?;
    update.wait()?;
    let status = tour.run(&["status"], 0)?;
    tour.check(
        "status says so, and what to do",
        status.contains("cut short at `deployed`") && status.contains("cc-warm recover"),
        &status,
    )?;
    tour.run(&["recover"], 0)?;
    tour.check_runs("1.3.0+2")?;
    tour.check_notes(&["buy milk", "call home", "written on 1.3"])?;
    tour.check_alert("recovered", "1.5.0+3")?;
    Tour::say("a power cut does not make a version bad: it is tried again");
    tour.run(&["update"], 0)?;
    tour.check_runs("1.5.0+3")?;
    tour.check_notes(&["buy milk", "call home", "written on 1.3"])?;
    tour.run(&["history", APP], 0).map(drop)
}
