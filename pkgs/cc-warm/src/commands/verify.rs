//! `cc-warm verify`

use anyhow::Result;
use serde::Serialize;

use super::results::worse;
use super::session::{Session, Voice, print_json};
use crate::alert::{Alert, Kind as AlertKind};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::snapshot::{Audit, Depth, Finding, Role, Snapshot, Store, Work};
use crate::sys::out::show;
use crate::update::context::Context;

/// Checks the snapshots of apps: their structure against what was recorded, the content of every file against its digest.
///
/// Reads, and changes nothing but a note of what is wrong: from a damaged snapshot nothing is taken over any more. Runs
/// beside whatever else is done to an app.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps; all declared ones if none is named.
    #[arg(value_name = "APP")]
    apps: Vec<AppName>,
    /// Read at most so much in a second: bytes, or with K, M, G.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    rate_limit: Option<u64>,
    /// The structure alone: no content is read.
    #[arg(long, conflicts_with = "rate_limit")]
    structure: bool,
}

/// The snapshots of one app.
#[derive(Debug, Serialize)]
struct Row {
    app: AppName,
    snapshots: Vec<Audit>,
    /// Those that cannot be read.
    unreadable: Vec<Unreadable>,
    /// How many went, because others took their place, while they were read.
    #[serde(skip_serializing_if = "is_none")]
    replaced: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
struct Unreadable {
    id: String,
    why: String,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let depth = Depth { content: !args.structure, rate: args.rate_limit };
    let mut rows = Vec::new();
    let mut worst = Exit::Done;
    let mut untold = None;
    for app in session.select(&args.apps)? {
        let voice = Voice::of(&app);
        let row = check(&session, &app, depth, &voice)?;
        if row.is_bad() {
            worst = Exit::Failed;
        }
        // Whatever keeps an alert from being written: what was found is shown, and the other apps are checked.
        untold = untold.or(tell(&session.context(&voice), &row).err());
        if !session.json {
            show!("{}", text(&row).trim_end());
        }
        rows.push(row);
        if session.host.interrupt.is_set() {
            worst = worse(worst, Exit::Cancelled);
            break;
        }
    }
    if session.json {
        print_json(&serde_json::json!({ "format": 1, "apps": rows }))?;
    }
    session.deliver();
    untold.map_or(Ok(worst), Err)
}

fn check(session: &Session, app: &AppName, depth: Depth, voice: &Voice) -> Result<Row> {
    let store = Store::new(&session.host.dirs, app);
    let work = Work { reporter: voice, interrupt: &session.host.interrupt };
    let mut row = Row { app: app.clone(), snapshots: Vec::new(), unreadable: Vec::new(), replaced: 0, error: None };
    let listing = match store.list() {
        Ok(listing) => listing,
        Err(error) => {
            row.error = Some(format!("{error:#}"));
            return Ok(row);
        }
    };
    for snapshot in &listing.snapshots {
        match store.audit(snapshot, depth, work) {
            Ok(audit) if audit.problems.is_empty() || is_there(&store, snapshot) => row.snapshots.push(audit),
            // An update replaced it meanwhile.
            Ok(_) => row.replaced += 1,
            Err(_) if !is_there(&store, snapshot) => row.replaced += 1,
            Err(error) => return Err(error),
        }
    }
    let unreadable = listing.unreadable.into_iter();
    row.unreadable =
        unreadable.map(|one| Unreadable { id: one.id.to_string(), why: format!("{:#}", one.why) }).collect();
    Ok(row)
}

fn is_there(store: &Store, snapshot: &Snapshot) -> bool {
    store.folder(&snapshot.id).is_dir()
}

impl Row {
    fn is_bad(&self) -> bool {
        let damaged = self.snapshots.iter().any(|audit| !audit.problems.is_empty());
        damaged || !self.unreadable.is_empty() || self.error.is_some()
    }
}

fn tell(context: &Context<'_>, row: &Row) -> Result<()> {
    if !row.is_bad() {
        let whole = !row.snapshots.is_empty() && row.snapshots.iter().all(|audit| audit.finding() == Finding::Whole);
        return if whole { context.resolve(&row.app, &[AlertKind::SnapshotDamaged]) } else { Ok(()) };
    }
    let bad: Vec<&Audit> = row.snapshots.iter().filter(|audit| !audit.problems.is_empty()).collect();
    let ids: Vec<&str> =
        bad.iter().map(|audit| audit.id.as_str()).chain(row.unreadable.iter().map(|one| one.id.as_str())).collect();
    let title = format!("{}: something is wrong with its snapshots", row.app);
    let mut alert = Alert::new(AlertKind::SnapshotDamaged, ids.join(" "), title);
    for audit in bad {
        alert = alert.fact(format!("snapshot {}", audit.id), audit.problems.join("; "));
    }
    for one in &row.unreadable {
        alert = alert.fact(format!("snapshot {}", one.id), one.why.as_str());
    }
    if let Some(error) = &row.error {
        alert = alert.fact("names", error.as_str());
    }
    let alert = alert.hint(format!("cc-warm snapshot {}, while it is healthy", row.app));
    // The damaged one is kept for a while as the one before, and nothing else ends what was told of it.
    context.raise(&row.app, alert.hint(format!("cc-warm verify {}, once it is gone", row.app)))
}

fn text(row: &Row) -> String {
    let app = &row.app;
    let mut text = String::new();
    if row.snapshots.is_empty() && !row.is_bad() {
        return match row.replaced {
            0 => format!("{app}: no snapshot\n"),
            count => format!(
                "{app}: nothing is known: {count} snapshot(s) were replaced while they were read\n  \
                 hint: cc-warm verify {app}\n"
            ),
        };
    }
    for audit in &row.snapshots {
        let role = match audit.role {
            Role::Current => "known-good",
            Role::Previous => "the one before",
            Role::Leftover => "left over",
        };
        let state = match audit.finding() {
            Finding::Damaged(_) => "DAMAGED",
            Finding::Whole => "whole",
            Finding::Unfinished => "interrupted",
        };
        let unclean = if audit.unclean { ", after a kill" } else { "" };
        let undigested = match audit.undigested {
            0 => String::new(),
            count => format!(", {count} without a digest yet"),
        };
        text.push_str(&format!(
            "{app}: snapshot {} ({role}) of {}, {}{unclean}: {state}; {} entries, the content of {} files{undigested}\n",
            audit.id,
            audit.version,
            audit.taken_at.strftime("%Y-%m-%d %H:%M UTC"),
            audit.entries,
            audit.checked
        ));
        for problem in &audit.problems {
            text.push_str(&format!("  - {problem}\n"));
        }
    }
    for one in &row.unreadable {
        text.push_str(&format!("{app}: snapshot {} CANNOT BE READ: {}\n", one.id, one.why));
    }
    if let Some(error) = &row.error {
        text.push_str(&format!("{app}: its snapshots CANNOT BE READ: {error}\n"));
    }
    if row.is_bad() {
        text.push_str(&format!("  hint: check the disk; while the app is healthy: cc-warm snapshot {app}\n"));
    }
    text
}

/// A number of bytes as people write it.
fn size(text: &str) -> Result<u64, Problem> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let count = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).filter(|count| *count > 0);
    count.ok_or_else(|| Problem::new(format!("`{text}` is no number of bytes (say, `50M`)")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotId;

    fn audit(id: &str, problems: &[&str]) -> Audit {
        Audit {
            id: SnapshotId::parse(id).unwrap(),
            role: Role::Current,
            version: "1.0.0+1".parse().unwrap(),
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            unclean: false,
            entries: 12,
            checked: 10,
            undigested: 0,
            problems: problems.iter().map(ToString::to_string).collect(),
            complete: true,
        }
    }

    #[test]
    fn says_of_each_snapshot_what_it_is_and_what_is_wrong() {
        let previous = Audit { role: Role::Previous, unclean: true, undigested: 3, ..audit("b2", &[]) };
        let row = Row {
            app: "login".parse().unwrap(),
            snapshots: vec![previous, audit("a1", &["volume `login_data`: `db/f` has another size"])],
            unreadable: vec![Unreadable { id: "c3".to_owned(), why: "`manifest.json` has format 2".to_owned() }],
            replaced: 1,
            error: None,
        };
        insta::assert_snapshot!(text(&row), @r"
        login: snapshot b2 (the one before) of 1.0.0+1, 1970-01-01 00:00 UTC, after a kill: whole; 12 entries, the content of 10 files, 3 without a digest yet
        login: snapshot a1 (known-good) of 1.0.0+1, 1970-01-01 00:00 UTC: DAMAGED; 12 entries, the content of 10 files
          - volume `login_data`: `db/f` has another size
        login: snapshot c3 CANNOT BE READ: `manifest.json` has format 2
          hint: check the disk; while the app is healthy: cc-warm snapshot login
        ");
        let mut none =
            Row { app: "login".parse().unwrap(), snapshots: vec![], unreadable: vec![], replaced: 0, error: None };
        insta::assert_snapshot!(text(&none), @"login: no snapshot");
        none.replaced = 2;
        insta::assert_snapshot!(text(&none), @r"
        login: nothing is known: 2 snapshot(s) were replaced while they were read
          hint: cc-warm verify login
        ");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, wanted) in [("1", Some(1)), ("50M", Some(50 << 20)), ("2g", Some(2 << 30)), ("0", None), ("", None)]
        {
            assert_eq!(size(text).ok(), wanted, "{text}");
        }
        for bad in ["M", "x", "-1", "1T", "99999999999999999999"] {
            size(bad).unwrap_err();
        }
    }
}
