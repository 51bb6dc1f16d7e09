//! Content against its digests, and digests for content that has none yet. Paced, and to be interrupted at any time.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::fs::FileType;

use super::beneath::{Dir, Root};
use super::catalog::{Catalog, Digest, Event, Lines, Reader};
use super::crew::{self, Crew, Lead};
use super::data;
use super::descent::Descent;
use super::entry::Entry;
use super::links::Node;
use super::make::Kit;
use super::meter::{Interrupted, Meter, Progress};
use super::tree::threads;
use crate::sys::signals::Interrupt;

/// Files of one job.
const BATCH: usize = 16;
/// How many wrong files are named.
const NAMED: usize = 20;

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Scrub<'a> {
    /// The copy.
    pub copy: &'a Path,
    /// What is known of it.
    pub catalog: &'a Catalog,
    /// Bytes a second, at most.
    pub rate: Option<u64>,
    /// How many files are passed over, from the beginning: where an earlier scrub of the same catalog ended.
    pub from: u64,
}

/// What a scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Files that were looked at or passed over.
    pub position: u64,
    /// Files whose content was held against its digest.
    pub checked: u64,
    /// Files without a digest.
    pub undigested: u64,
    /// Files whose content is wrong, or that cannot be read.
    pub wrong: u64,
    /// Some of these, and why.
    pub damage: Vec<String>,
    /// Whether it came to the end.
    pub complete: bool,
}

struct Batch {
    dir: Arc<Dir>,
    node: Arc<Node>,
    items: Vec<(Entry, Digest)>,
}

#[derive(Default)]
struct Part {
    files: u64,
    lines: Vec<u8>,
    missing: u64,
}

/// What was found so far, by all threads: an interrupt that ends the work takes nothing of it away.
#[derive(Default)]
struct Found(Mutex<Scrubbed>);

impl Found {
    fn lock(&self) -> MutexGuard<'_, Scrubbed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, text: String) {
        let mut found = self.lock();
        found.wrong += 1;
        if found.damage.len() < NAMED {
            found.damage.push(text);
        }
    }
}

/// Holds the content of all files against their digests. Damage is a finding, not an error; an interrupt ends it early.
pub fn scrub(order: &Scrub<'_>, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Scrubbed> {
    let meter = Arc::new(Meter::new(interrupt, order.rate));
    let found = Found::default();
    let result = files(order, &meter, progress, (false, &found), |_| Ok(()));
    let mut found = found.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.damage.sort_unstable();
    match result {
        Err(error) if error.downcast_ref::<Interrupted>().is_some() => Ok(found),
        Err(error) => Err(error),
        Ok(()) => Ok(Scrubbed { complete: true, ..found }),
    }
}

/// Digests what has no digest yet (it was reflinked) and replaces the file of the digests. Whether all have one now:
/// interrupted, it keeps what it has, and goes on from there the next time.
pub fn complete(order: &Scrub<'_>, progress: &dyn Progress, interrupt: &Interrupt) -> Result<bool> {
    let mut new = order.catalog.digests.clone().into_os_string();
    new.push(".new");
    let new = Path::new(&new);
    match std::fs::remove_file(new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove `{}`", new.display()));
        }
        _ => {}
    }
    let mut lines = Lines::create(new)?;
    let (mut missing, mut done) = (0, 0);
    let meter = Arc::new(Meter::new(interrupt, order.rate));
    let result = files(order, &meter, progress, (true, &Found::default()), |part| {
        missing += part.missing;
        done += part.files;
        lines.write(&part.lines)
    });
    match result {
        Err(error) if error.downcast_ref::<Interrupted>().is_some() => {
            // What was not come to keeps what it had.
            let mut reader = Reader::open(order.catalog)?;
            let mut rest = Vec::new();
            while let Some(event) = reader.next()? {
                let Event::Entry(entry, digest) = event else { continue };
                if entry.kind != FileType::RegularFile {
                    continue;
                }
                if done > 0 {
                    done -= 1;
                    continue;
                }
                digest.write(&mut rest);
                missing += u64::from(digest == Digest::Missing);
                if rest.len() > 1 << 16 {
                    lines.write(&rest)?;
                    rest.clear();
                }
            }
            lines.write(&rest)?;
        }
        other => other?,
    }
    let sum = Reader::open(order.catalog)?.header().sum.clone();
    lines.finish_digests(&sum, missing)?;
    std::fs::File::open(new)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync `{}`", new.display()))?;
    crate::sys::durable::rename(new, &order.catalog.digests)?;
    Ok(missing == 0)
}

fn files(
    order: &Scrub<'_>,
    meter: &Arc<Meter>,
    progress: &dyn Progress,
    (fill, found): (bool, &Found),
    take: impl FnMut(Part) -> Result<()>,
) -> Result<()> {
    let root = Root::open(order.copy).with_context(|| format!("cannot open `{}`", order.copy.display()))?;
    let reader = Reader::open(order.catalog)?;
    crew::run(
        threads(),
        |batch: Batch, kit: &mut Kit, crew, _| part(&root, &batch, meter, (fill, found), (kit, crew)),
        take,
        || {
            let (entries, bytes) = meter.read();
            progress.done(entries, bytes);
            Ok(meter.check()?)
        },
        |lead| walk(&root, reader, if fill { 0 } else { order.from }, meter, lead),
    )?;
    let (entries, bytes) = meter.read();
    progress.done(entries, bytes);
    Ok(())
}

fn walk(root: &Root, mut reader: Reader, from: u64, meter: &Meter, lead: &mut Lead<'_, Batch, Part>) -> Result<()> {
    let mut descent = Descent::new(root)?;
    let mut nodes: Vec<Arc<Node>> = Vec::new();
    let mut items = Vec::new();
    let mut passed = 0;
    let mut flush = |items: &mut Vec<_>, descent: &mut Descent<'_>, node: &Arc<Node>| -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        lead.submit(Batch { dir: descent.dir()?, node: Arc::clone(node), items: std::mem::take(items) })
    };
    while let Some(event) = reader.next()? {
        meter.check()?;
        let here = nodes.last().cloned().unwrap_or_default();
        match event {
            Event::Entry(entry, digest) if entry.kind == FileType::RegularFile => {
                passed += 1;
                // What is passed over is still handed in, so that positions add up.
                let digest = if passed > from { Some(digest) } else { None };
                items.push((entry, digest.unwrap_or(Digest::Elsewhere)));
                if items.len() == BATCH {
                    flush(&mut items, &mut descent, &here)?;
                }
            }
            Event::Entry(..) => {}
            Event::Enter(entry) => {
                flush(&mut items, &mut descent, &here)?;
                if nodes.is_empty() {
                    nodes.push(here);
                } else {
                    let node = Node::below(&here, &entry.name);
                    descent.enter(&entry.name).with_context(|| format!("cannot open `{}`", node.shown(b".")))?;
                    nodes.push(node);
                }
            }
            Event::Leave => {
                flush(&mut items, &mut descent, &here)?;
                nodes.pop();
                descent.leave();
            }
        }
    }
    Ok(())
}

fn part(
    root: &Root,
    batch: &Batch,
    meter: &Arc<Meter>,
    (fill, found): (bool, &Found),
    (kit, crew): (&mut Kit, Crew<'_>),
) -> Result<Part> {
    let mut part = Part::default();
    if fill {
        // The app is up again: digests are not worth any of its time.
        kit.be_idle();
    }
    for (entry, digest) in &batch.items {
        meter.check()?;
        let read = matches!(digest, Digest::Known(_)) != fill && *digest != Digest::Elsewhere;
        let mut now = *digest;
        if read {
            match content(root, &batch.dir, entry, meter, kit, crew) {
                Ok(sum) if fill => now = Digest::Known(sum),
                Ok(sum) => {
                    found.lock().checked += 1;
                    if *digest != Digest::Known(sum) {
                        let shown = batch.node.shown(&entry.name);
                        found.wrong(format!("`{shown}` has other content than its digest says"));
                    }
                }
                Err(error) if error.downcast_ref::<Interrupted>().is_some() || fill => {
                    return Err(error.context(format!("cannot read `{}`", batch.node.shown(&entry.name))));
                }
                Err(error) => found.wrong(format!("`{}` cannot be read: {error:#}", batch.node.shown(&entry.name))),
            }
        } else if *digest == Digest::Missing {
            found.lock().undigested += 1;
        }
        found.lock().position += 1;
        part.files += 1;
        now.write(&mut part.lines);
        part.missing += u64::from(now == Digest::Missing);
        meter.add_entry();
    }
    Ok(part)
}

fn content(
    root: &Root,
    dir: &Dir,
    entry: &Entry,
    meter: &Arc<Meter>,
    kit: &mut Kit,
    crew: Crew<'_>,
) -> Result<[u8; 32]> {
    let (file, stat) = root.open_file(dir, &entry.name)?;
    if stat.size() != entry.size {
        anyhow::bail!("its size is {} and was {}", stat.size(), entry.size);
    }
    data::digest(&Arc::new(file), &stat, &crew, kit.data(), meter)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::snapshot::test_tree::Place;

    #[test]
    fn a_scrub_keeps_to_its_rate_and_ends_at_once_when_interrupted() {
        let place = Place::new();
        for n in 0..4 {
            place.file(&n.to_string(), vec![n; 1 << 19]);
        }
        place.take("copy");
        let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
        let order = |rate| Scrub { copy: &copy, catalog: &catalog, rate: Some(rate), from: 0 };
        let begun = Instant::now();
        let found = scrub(&order(4 << 20), &(), &Interrupt::never()).unwrap();
        let took = begun.elapsed();
        assert_eq!((found.checked, found.complete), (4, true));
        assert!(took >= Duration::from_millis(450), "2 MiB at 4 MiB a second took {took:?}");
        // An hour at this rate.
        let interrupt = Interrupt::never();
        let begun = Instant::now();
        let found = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                interrupt.set();
            });
            scrub(&order(600), &(), &interrupt).unwrap()
        });
        let took = begun.elapsed();
        assert!(!found.complete && took < Duration::from_secs(10), "{took:?}: {found:?}");
    }

    /// Ends what it is told of once some files are done.
    struct Ends(Interrupt);

    impl Progress for Ends {
        fn done(&self, entries: u64, _: u64) {
            if entries > 2 {
                self.0.set();
            }
        }
    }

    #[test]
    fn an_interrupted_scrub_says_what_it_had_read() {
        let place = Place::new();
        for n in 0..8 {
            place.file(&n.to_string(), vec![n; 1 << 16]);
        }
        place.take("copy");
        let (copy, catalog) = (place.path("copy"), place.catalog("copy"));
        std::fs::write(copy.join("0"), vec![9; 1 << 16]).unwrap();
        // All but the first few of them for an hour.
        let order = Scrub { copy: &copy, catalog: &catalog, rate: Some(1 << 18), from: 0 };
        let interrupt = Interrupt::never();
        let found = scrub(&order, &Ends(interrupt.clone()), &interrupt).unwrap();
        assert!(!found.complete && (1..8).contains(&found.checked), "{found:?}");
        assert_eq!((found.wrong, &*found.damage), (1, &["`0` has other content than its digest says".to_owned()][..]));
    }
}
