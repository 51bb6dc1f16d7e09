//! Runs the snapshot engine on a plain tree, for measuring and for tests from outside.
//!
//! ```text
//! cargo build --release --example tree        # target/release/examples/tree
//!
//! tree take SOURCE COPY CATALOG [options]      copies SOURCE to COPY (which must not be there) and records it in the
//!                                              files CATALOG.entries and CATALOG.digests; then verifies the structure
//!                                              of the copy against SOURCE, then one syncfs
//!     --digest              content is digested where it is read
//!     --no-reflink          reflinks are not tried
//!     --no-verify           without the verification
//!     --no-sync             without the syncfs
//!     --running             as a staging copy, of a tree that may change meanwhile; implies --no-verify
//!     --old COPY CATALOG    takes over from this earlier copy what did not change
//! tree restore COPY CATALOG TARGET [options]   builds TARGET (which must not be there) from COPY; verifies it; syncs
//!     --digest --no-reflink --no-verify --no-sync as above
//!     --live LIVE CATALOG   takes over from LIVE, of which CATALOG is a record, what did not change
//! tree verify COPY CATALOG [--source SOURCE] [--record CATALOG]    the structure
//! tree scrub COPY CATALOG [--rate BYTES]                           the content
//! tree complete COPY CATALOG [--rate BYTES]                        digests what has no digest yet
//! ```
//! It prints one JSON object: seconds of each part, and what was counted. The exit code is 0, or 1 with `error: …`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cc_warm::snapshot::catalog::Catalog;
use cc_warm::snapshot::flush::Flush;
use cc_warm::snapshot::predecessor::Predecessor;
use cc_warm::snapshot::restore::{Restore, restore};
use cc_warm::snapshot::scrub::{Scrub, complete, scrub};
use cc_warm::snapshot::take::{Take, take};
use cc_warm::snapshot::tree::Copied;
use cc_warm::snapshot::verify::{Check, verify};
use cc_warm::sys::signals::Interrupt;
use serde_json::{Value, json};

fn main() -> ExitCode {
    match run(&mut Arguments(std::env::args_os().skip(1).map(PathBuf::from).collect())) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments(Vec<PathBuf>);

impl Arguments {
    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|argument| argument != Path::new(name));
        self.0.len() < before
    }

    fn option<const N: usize>(&mut self, name: &str) -> Result<Option<[PathBuf; N]>> {
        let Some(at) = self.0.iter().position(|argument| argument == Path::new(name)) else { return Ok(None) };
        ensure!(self.0.len() > at + N, "{name} wants {N} values");
        let mut values = self.0.drain(at..=at + N).skip(1);
        Ok(Some(std::array::from_fn(|_| values.next().unwrap_or_default())))
    }

    fn all<const N: usize>(&mut self) -> Result<[PathBuf; N]> {
        let all: Result<[PathBuf; N], _> = std::mem::take(&mut self.0).try_into();
        all.map_err(|all| anyhow::anyhow!("wrong arguments: {all:?}; the head of examples/tree.rs has the usage"))
    }
}

fn catalog(path: &Path) -> Catalog {
    let with = |end: &str| {
        let mut path = path.to_owned().into_os_string();
        path.push(end);
        PathBuf::from(path)
    };
    Catalog { entries: with(".entries"), digests: with(".digests") }
}

fn run(arguments: &mut Arguments) -> Result<Value> {
    ensure!(!arguments.0.is_empty(), "the head of examples/tree.rs has the usage");
    let verb = arguments.0.remove(0);
    match verb.to_str() {
        Some("take") => take_tree(arguments),
        Some("restore") => restore_tree(arguments),
        Some("verify") => verify_tree(arguments),
        Some(verb @ ("scrub" | "complete")) => scrub_tree(verb, arguments),
        _ => bail!("unknown: `{}`", verb.display()),
    }
}

fn take_tree(arguments: &mut Arguments) -> Result<Value> {
    let (digest, reflink) = (arguments.flag("--digest"), !arguments.flag("--no-reflink"));
    let running = arguments.flag("--running");
    let (check, sync) = (!arguments.flag("--no-verify") && !running, !arguments.flag("--no-sync"));
    let old = arguments.option::<2>("--old")?.map(|[tree, path]| (tree, catalog(&path)));
    let [source, target, path] = arguments.all()?;
    let catalog = catalog(&path);
    let predecessor = old.as_ref().map(|(tree, catalog)| Predecessor { tree, catalog, shutdown: None });
    finish(&target, check, sync, |interrupt, flush| {
        let order =
            Take { source: &source, target: &target, flush, catalog: &catalog, predecessor, running, digest, reflink };
        let copied = take(&order, &(), interrupt)?;
        let check = Check { source: Some(&source), flags: copied.lessened == 0, ..Check::of(&target, &catalog) };
        Ok((copied, check))
    })
}

fn restore_tree(arguments: &mut Arguments) -> Result<Value> {
    let (digest, reflink) = (arguments.flag("--digest"), !arguments.flag("--no-reflink"));
    let (check, sync) = (!arguments.flag("--no-verify"), !arguments.flag("--no-sync"));
    let live = arguments.option::<2>("--live")?.map(|[tree, path]| (tree, catalog(&path)));
    let [source, path, target] = arguments.all()?;
    let catalog = catalog(&path);
    let live = live.as_ref().map(|(tree, catalog)| Predecessor { tree, catalog, shutdown: None });
    finish(&target, check, sync, |interrupt, flush| {
        let order = Restore { source: &source, catalog: &catalog, target: &target, flush, live, digest, reflink };
        let copied = restore(&order, &(), interrupt)?;
        let check = Check { flags: copied.lessened == 0, live: true, ..Check::of(&target, &catalog) };
        Ok((copied, check))
    })
}

fn finish<'a>(
    target: &Path,
    check: bool,
    sync: bool,
    copy: impl FnOnce(&Interrupt, &Flush) -> Result<(Copied, Check<'a>)>,
) -> Result<Value> {
    let interrupt = Interrupt::on_signals()?;
    let begin = Instant::now();
    let flush = Flush::hold(target.parent().filter(|up| !up.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let (copied, order) = copy(&interrupt, &flush)?;
    let copying = begin.elapsed();
    if check {
        let order = Check { flush: Some(&flush), ..order };
        verify(&order, &(), &interrupt)?;
    }
    let verifying = begin.elapsed().saturating_sub(copying);
    let syncing = if sync { flush.finish()? } else { std::time::Duration::ZERO };
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "copying": copying.as_secs_f64(),
        "verifying": verifying.as_secs_f64(),
        "syncing": syncing.as_secs_f64(),
        "entries": copied.entries,
        "bytes": copied.bytes,
        "written": copied.written,
        "reflinked": copied.reflinked,
        "taken_over": copied.taken_over,
        "sockets": copied.sockets,
        "sparse": copied.sparse,
        "lessened": copied.lessened,
        "digested": copied.digested,
        "takeover": copied.takeover.to_string(),
        "sum": copied.sum,
        "most_memory_kib": most_memory()?,
    }))
}

fn verify_tree(arguments: &mut Arguments) -> Result<Value> {
    let source = arguments.option::<1>("--source")?.map(|[path]| path);
    let record = arguments.option::<1>("--record")?.map(|[path]| catalog(&path));
    let [copy, path] = arguments.all()?;
    let catalog = catalog(&path);
    let begin = Instant::now();
    let check = Check { source: source.as_deref(), record: record.as_ref(), ..Check::of(&copy, &catalog) };
    let entries = verify(&check, &(), &Interrupt::on_signals()?)?;
    Ok(json!({"seconds": begin.elapsed().as_secs_f64(), "entries": entries, "most_memory_kib": most_memory()?}))
}

fn scrub_tree(verb: &str, arguments: &mut Arguments) -> Result<Value> {
    let rate = match arguments.option::<1>("--rate")? {
        Some([text]) => Some(text.to_str().context("--rate is a number")?.parse()?),
        None => None,
    };
    let [copy, path] = arguments.all()?;
    let catalog = catalog(&path);
    let order = Scrub { copy: &copy, catalog: &catalog, rate, from: 0 };
    let begin = Instant::now();
    if verb == "complete" {
        let whole = complete(&order, &(), &Interrupt::on_signals()?)?;
        return Ok(json!({"seconds": begin.elapsed().as_secs_f64(), "complete": whole}));
    }
    let found = scrub(&order, &(), &Interrupt::on_signals()?)?;
    ensure!(found.wrong == 0, "{} files are wrong: {:?}", found.wrong, found.damage);
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "checked": found.checked,
        "undigested": found.undigested,
        "complete": found.complete,
    }))
}

fn most_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
