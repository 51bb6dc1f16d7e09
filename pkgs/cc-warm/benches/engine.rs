//! What the benchmark (`tests/bench/snapshots.py`) measures: the engine's steps, each run as the program runs it, with the
//! time of each. Prints one JSON object.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cc_warm::snapshot::catalog::Catalog;
use cc_warm::snapshot::flush::Flush;
use cc_warm::snapshot::predecessor::Predecessor;
use cc_warm::snapshot::restore::{Restore, restore};
use cc_warm::snapshot::scrub::{Scrub, complete};
use cc_warm::snapshot::take::{Take, take};
use cc_warm::snapshot::verify::{Check, verify};
use cc_warm::sys::signals::Interrupt;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    step: Step,
    /// Cargo gives it to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// A copy, verified against its source and durable: what a snapshot is while the app is down. With `--running`, a
    /// staging copy.
    Take(TakeArgs),
    /// A snapshot's copy as a new tree, verified and durable.
    Restore(RestoreArgs),
    /// The digests that a reflinked copy does not have yet.
    Digest { copy: PathBuf, catalog: PathBuf },
}

#[derive(Debug, Args)]
struct TakeArgs {
    source: PathBuf,
    target: PathBuf,
    catalog: PathBuf,
    /// What may be taken over from: a copy and its catalog.
    #[arg(long, num_args = 2)]
    predecessor: Vec<PathBuf>,
    #[arg(long)]
    digest: bool,
    #[arg(long)]
    running: bool,
    #[arg(long)]
    no_reflink: bool,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    source: PathBuf,
    catalog: PathBuf,
    target: PathBuf,
    /// Live data that is not kept, and its record.
    #[arg(long, num_args = 2)]
    live: Vec<PathBuf>,
    #[arg(long)]
    digest: bool,
    #[arg(long)]
    no_reflink: bool,
}

fn main() -> Result<()> {
    let mut result = match Cli::parse().step {
        Step::Take(args) => taken(&args)?,
        Step::Restore(args) => restored(&args)?,
        Step::Digest { copy, catalog } => {
            let since = Instant::now();
            let order = Scrub { copy: &copy, catalog: &known(&catalog), rate: None, from: 0 };
            let complete = complete(&order, &(), &Interrupt::never())?;
            json!({ "total": since.elapsed().as_secs_f64(), "complete": complete })
        }
    };
    result["peak"] = peak()?.into();
    println!("{result}");
    Ok(())
}

/// The most memory that this program had, in bytes.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// What is known of a tree lies in the folder `dir`.
fn known(dir: &Path) -> Catalog {
    Catalog { entries: dir.join("entries"), digests: dir.join("digests") }
}

fn taken(args: &TakeArgs) -> Result<Value> {
    std::fs::create_dir_all(&args.catalog)?;
    let (catalog, never) = (known(&args.catalog), Interrupt::never());
    let old = args.predecessor.get(1).map(|dir| known(dir));
    let predecessor = match (args.predecessor.first(), &old) {
        (Some(tree), Some(catalog)) => Some(Predecessor { tree, catalog, shutdown: None }),
        _ => None,
    };
    let begin = Instant::now();
    let flush = Flush::hold(up(&args.target))?;
    let order = Take {
        source: &args.source,
        target: &args.target,
        flush: &flush,
        catalog: &catalog,
        predecessor,
        running: args.running,
        digest: args.digest,
        reflink: !args.no_reflink,
    };
    let copied = take(&order, &(), &never)?;
    let copy = begin.elapsed();
    if !args.running {
        let flags = copied.lessened == 0;
        let check =
            Check { source: Some(&args.source), flush: Some(&flush), flags, ..Check::of(&args.target, &catalog) };
        verify(&check, &(), &never)?;
    }
    let verified = begin.elapsed();
    flush.finish()?;
    Ok(told(copy, verified, begin.elapsed(), copied.taken_over, copied.reflinked))
}

fn restored(args: &RestoreArgs) -> Result<Value> {
    let (catalog, never) = (known(&args.catalog), Interrupt::never());
    let of_live = args.live.get(1).map(|dir| known(dir));
    let live = match (args.live.first(), &of_live) {
        (Some(tree), Some(catalog)) => Some(Predecessor { tree, catalog, shutdown: None }),
        _ => None,
    };
    let begin = Instant::now();
    let flush = Flush::hold(up(&args.target))?;
    let order = Restore {
        source: &args.source,
        catalog: &catalog,
        target: &args.target,
        flush: &flush,
        live,
        digest: args.digest,
        reflink: !args.no_reflink,
    };
    let copied = restore(&order, &(), &never)?;
    let copy = begin.elapsed();
    let flags = copied.lessened == 0;
    verify(&Check { flush: Some(&flush), flags, live: true, ..Check::of(&args.target, &catalog) }, &(), &never)?;
    let verified = begin.elapsed();
    flush.finish()?;
    Ok(told(copy, verified, begin.elapsed(), copied.taken_over, copied.reflinked))
}

fn up(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn told(copy: Duration, verified: Duration, total: Duration, taken_over: u64, reflinked: u64) -> Value {
    json!({
        "copy": copy.as_secs_f64(),
        "verify": verified.saturating_sub(copy).as_secs_f64(),
        "sync": total.saturating_sub(verified).as_secs_f64(),
        "total": total.as_secs_f64(),
        "taken_over": taken_over,
        "reflinked": reflinked,
    })
}
