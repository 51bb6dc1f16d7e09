//! `cc-warm snapshot`

use anyhow::Result;
use serde::Serialize;

use super::session::{Session, print_json};
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::downtime::seconds;
use crate::error::{self, Exit};
use crate::snapshot::{Preflight, bytes};
use crate::sys::out::{say, show};
use crate::update::manual::{self, Forecast};

/// Takes a known-good snapshot of an app now. The app is stopped for as long as that takes.
///
/// Only of an app that is healthy and whose version is known: a snapshot never replaces a known-good by worse. Most of the
/// data is copied while the app still runs; while it is stopped, only what changed meanwhile.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps.
    #[arg(required = true, value_name = "APP")]
    apps: Vec<AppName>,
    /// Only say what would be copied, whether it fits, and for how long the app would be down.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let apps = session.select(&args.apps)?;
    if args.dry_run {
        return dry_run(&session, &apps);
    }
    session.for_each(&apps, |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        manual::snapshot(context, session.config.app(name)?, &lock)
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    app: &'a AppName,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<Forecast>,
    /// Why none could be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn dry_run(session: &Session, apps: &[AppName]) -> Result<Exit> {
    let mut rows = Vec::new();
    let mut worst = Exit::Done;
    for app in apps {
        let row = match manual::forecast(&session.host, session.config.app(app)?) {
            Ok(forecast) => {
                if !session.json {
                    show!("{}", text(app, &forecast).trim_end());
                }
                let refusal = forecast.preflight.refusal();
                let exit = if refusal.is_some() { Exit::Failed } else { Exit::Done };
                worst = worst.max(exit);
                Row { app, exit: exit as u8, forecast: Some(forecast), error: refusal }
            }
            Err(error) => {
                let (exit, report) = (error::exit_of(&error), error::report(&error));
                worst = worst.max(exit);
                if !session.json {
                    say!("{app}: {}", report.trim_end());
                }
                Row { app, exit: exit as u8, forecast: None, error: Some(report) }
            }
        };
        rows.push(row);
    }
    if session.json {
        print_json(&serde_json::json!({ "format": 1, "dryRun": true, "apps": rows }))?;
    }
    Ok(worst)
}

fn text(app: &AppName, forecast: &Forecast) -> String {
    let Forecast { preflight, downtime_ms, parts, guessed } = forecast;
    let holds = preflight.holds();
    let mut text = format!("{app}: a snapshot would be of {} in {} entries\n", bytes(holds.bytes), holds.entries);
    for volume in &preflight.volumes {
        let way = if volume.reflink { "shared with the live data" } else { "copied" };
        let rest = if volume.copied == volume.holds { "" } else { ", the rest did not change since the known-good" };
        text.push_str(&format!(
            "  - volume {}: {} in {} entries; {way}: {} in {} entries{rest}\n",
            volume.name,
            bytes(volume.holds.bytes),
            volume.holds.entries,
            bytes(volume.copied.bytes),
            volume.copied.entries
        ));
    }
    text.push_str(&disks(preflight));
    let how = if *guessed { "a guess, since none was taken before" } else { "by how long the last one took" };
    let parts = Some(parts.describe()).filter(|parts| !parts.is_empty()).map_or(String::new(), |p| format!(": {p}"));
    text.push_str(&format!(
        "  - nearly all of it is copied while the app runs; then it would be down for about {} ({how}{parts})\n",
        seconds(*downtime_ms)
    ));
    if let Some(refusal) = preflight.refusal() {
        text.push_str(&format!("  ! it does not fit: {refusal}\n"));
    }
    text
}

fn disks(preflight: &Preflight) -> String {
    let line = |one: &crate::snapshot::FileSystem| {
        let needed = one.snapshot.saturating_add(one.restore);
        format!(
            "  - `{}`: {} are needed ({} for the snapshot, {} for the way back), {} are free, {} stay in reserve\n",
            one.path.display(),
            bytes(needed),
            bytes(one.snapshot),
            bytes(one.restore),
            bytes(one.free),
            bytes(preflight.reserve)
        )
    };
    preflight.file_systems.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downtime::Parts;

    #[test]
    fn a_dry_run_says_what_is_copied_where_it_goes_and_how_long_it_takes() {
        let preflight: Preflight = serde_json::from_value(serde_json::json!({
            "volumes": [
                { "name": "login_data", "holds": { "entries": 1203, "bytes": 1 << 30 },
                  "copied": { "entries": 13, "bytes": 12 << 20 }, "reflink": false },
                { "name": "login_media", "holds": { "entries": 20, "bytes": 1 << 20 },
                  "copied": { "entries": 20, "bytes": 1 << 20 }, "reflink": true },
            ],
            "fileSystems": [{ "path": "/var/lib/ci-warm", "snapshot": 13 << 20, "restore": 1 << 30, "inodes": 1256,
                              "free": 100 << 20, "freeInodes": null }],
            "reserve": 0,
        }))
        .unwrap();
        let parts = Parts { stop: 1000, verify: 250, start: 900, ..Parts::default() };
        let forecast = Forecast { preflight, downtime_ms: 2150, parts, guessed: false };
        insta::assert_snapshot!(text(&"login".parse().unwrap(), &forecast), @r"
        login: a snapshot would be of 1.0 GiB in 1223 entries
          - volume login_data: 1.0 GiB in 1203 entries; copied: 12.0 MiB in 13 entries, the rest did not change since the known-good
          - volume login_media: 1.0 MiB in 20 entries; shared with the live data: 1.0 MiB in 20 entries
          - `/var/lib/ci-warm`: 1.0 GiB are needed (13.0 MiB for the snapshot, 1.0 GiB for the way back), 100.0 MiB are free, 0 bytes stay in reserve
          - nearly all of it is copied while the app runs; then it would be down for about 2.15 s (by how long the last one took: stop 1.00 s, verify 0.25 s, start 0.90 s)
          ! it does not fit: on the file system of `/var/lib/ci-warm` 1.0 GiB are needed (13.0 MiB for the snapshot, 1.0 GiB for the way back, 0 bytes in reserve), 100.0 MiB are free
        ");
    }
}
