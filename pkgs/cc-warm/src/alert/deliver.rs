//! Sends what is due, sink by sink.
//!
//! A sink that does not answer is left alone for the rest of the pass; one that refuses a message gets the others. More
//! than a few alerts at once go as one digest. What failed waits (1 min, doubling, at most 1 h), but not once the sink
//! is seen to work again.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use super::message::{DIGEST_CAP, Message};
use super::outbox::{Outbox, Slot, take};
use super::record::{Fate, Record};
use super::routes::Routes;
use super::sink;
use crate::config::Sink;
use crate::sys::durable;
use crate::sys::fault;
use crate::sys::signals::Interrupt;

/// Most told events that are remembered.
const TOLD_CAP: usize = 5000;

/// How to deliver.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to wait for another process that delivers; it sends what was there when it began.
    pub wait: Duration,
    /// More alerts than this for one sink in one pass go as one digest; `None`: never.
    pub digest_over: Option<usize>,
    /// Ends the pass before the next message.
    pub interrupt: Interrupt,
    /// Which sinks are told about which app.
    pub routes: Routes,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Messages that were taken; a digest is one.
    pub sent: usize,
    /// Alerts that some sink has yet to take; with no sink, all that wait.
    pub left: usize,
    /// By sink: why its last failure in this pass, safe to show.
    pub failures: BTreeMap<String, String>,
    /// Files that cannot be used, and why.
    pub unreadable: Vec<String>,
    /// Another process delivers: nothing was done.
    pub busy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(30),
            digest_over: Some(3),
            interrupt: Interrupt::never(),
            routes: Routes::default(),
        }
    }
}

impl Outbox {
    /// Sends what is due to `sinks`, by name. A failing sink is no error: it is in the result, and tried again later.
    pub fn deliver(&self, sinks: &BTreeMap<String, Sink>, now: Timestamp, options: &Options) -> Result<Delivery> {
        durable::make_dir(&self.dir.join("told"))?;
        let Some(_turn) = take(&self.dir.join("turn"), options.wait)? else {
            return Ok(Delivery { busy: true, ..Delivery::default() });
        };
        let mut delivery = Delivery::default();
        for (name, sink) in sinks {
            self.serve(name, sink, sinks, now, options, &mut delivery)?;
        }
        self.tidy(sinks, &options.routes, now, &mut delivery)?;
        Ok(delivery)
    }

    /// One sink's part of a pass.
    fn serve(
        &self,
        name: &str,
        sink: &Sink,
        sinks: &BTreeMap<String, Sink>,
        now: Timestamp,
        options: &Options,
        delivery: &mut Delivery,
    ) -> Result<()> {
        let mut owed = self.pending()?.0;
        owed.retain(|record| record.is_owed(name) && options.routes.lead(record, name));
        // What has failed before comes last: one bad message must not stand in the way of the others.
        owed.sort_by_key(|record| (record.attempts(name), record.first_at));
        let (due, waiting): (Vec<_>, Vec<_>) = owed.into_iter().partition(|record| record.is_due(name, now));
        let mut queue = batches(due, options.digest_over);
        let mut waiting = Some(waiting);
        while let Some(batch) = queue.pop_front() {
            if options.interrupt.is_set() {
                break;
            }
            let batch = self.announce(&batch, name)?;
            if batch.is_empty() {
                continue;
            }
            let sent = sink::send(sink, &message(&batch));
            fault::point("outbox.sent")?;
            match sent {
                Ok(()) => {
                    delivery.sent += 1;
                    self.note(&batch, sinks, &options.routes, |record, sent| {
                        record.took(name, sent.number, sent.says);
                    })?;
                    let rest = waiting.take().unwrap_or_default().into_iter().filter(|record| !record.refused_by(name));
                    queue.extend(batches(rest.collect(), options.digest_over));
                }
                Err(error) if error.refused && batch.len() > 1 => {
                    for single in batch.into_iter().rev() {
                        queue.push_front(vec![single]);
                    }
                }
                Err(error) => {
                    self.note(&batch, sinks, &options.routes, |record, _| {
                        record.failed(name, &error.to_string(), error.refused, now);
                    })?;
                    delivery.failures.insert(name.to_owned(), error.to_string());
                    if !error.refused {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes down that the messages of `batch` are about to be sent, and gives those that are still owed: what ends
    /// from here on may have been heard.
    fn announce(&self, batch: &[Record], sink: &str) -> Result<Vec<Record>> {
        let lock = self.lock()?;
        let mut owed = Vec::new();
        for record in batch {
            let Ok(Some(mut record)) = self.load(&record.id, Slot::Pending) else { continue };
            if record.is_owed(sink) {
                record.trying(sink);
                self.apply(&lock, &record.id.clone(), Slot::Pending, Fate::Pending(Box::new(record.clone())))?;
                owed.push(record);
            }
        }
        Ok(owed)
    }

    /// Writes down what became of the messages of `batch`. Their records may have changed while they were sent.
    fn note(
        &self,
        batch: &[Record],
        sinks: &BTreeMap<String, Sink>,
        routes: &Routes,
        change: impl Fn(&mut Record, &Record),
    ) -> Result<()> {
        let lock = self.lock()?;
        for sent in batch {
            let Ok(Some(mut record)) = self.load(&sent.id, Slot::Pending) else { continue };
            change(&mut record, sent);
            let fate = match settled(record.clone(), sinks, routes) {
                Fate::Unchanged => Fate::Pending(Box::new(record)),
                fate => fate,
            };
            self.apply(&lock, &sent.id, Slot::Pending, fate)?;
        }
        Ok(())
    }

    fn pending(&self) -> Result<(Vec<Record>, Vec<String>)> {
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for (id, slot) in self.ids("")? {
            match self.load(&id, slot) {
                Ok(Some(record)) if slot == Slot::Pending => records.push(record),
                Ok(_) => {}
                Err(error) => unreadable.push(format!("{error:#}")),
            }
        }
        Ok((records, unreadable))
    }

    /// Settles what no configured sink is owed, forgets what is old, removes what killed writers left.
    fn tidy(
        &self,
        sinks: &BTreeMap<String, Sink>,
        routes: &Routes,
        now: Timestamp,
        delivery: &mut Delivery,
    ) -> Result<()> {
        let lock = self.lock()?;
        let (records, unreadable) = self.pending()?;
        delivery.unreadable = unreadable;
        for record in records {
            let id = record.id.clone();
            let fate = settled(record, sinks, routes);
            delivery.left += usize::from(fate == Fate::Unchanged);
            self.apply(&lock, &id, Slot::Pending, fate)?;
        }
        let mut events = Vec::new();
        for (id, slot) in self.ids("")?.into_iter().filter(|&(_, slot)| slot == Slot::Told) {
            let Ok(Some(record)) = self.load(&id, slot) else { continue };
            if record.is_stale(now) {
                self.apply(&lock, &id, slot, Fate::Gone)?;
            } else if record.is_event() {
                events.push((record.at, id));
            }
        }
        events.sort();
        for (_, id) in &events[..events.len().saturating_sub(TOLD_CAP)] {
            self.apply(&lock, id, Slot::Told, Fate::Gone)?;
        }
        for dir in [self.dir.clone(), self.dir.join("told")] {
            for entry in fs::read_dir(dir)?.flatten() {
                // Every writer holds the lock that we hold.
                if entry.file_name().to_string_lossy().starts_with(".new-") {
                    durable::remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Where `record` belongs, when these are the sinks and these of them are told about it.
fn settled(record: Record, sinks: &BTreeMap<String, Sink>, routes: &Routes) -> Fate {
    let told: Vec<&String> = sinks.keys().filter(|sink| routes.lead(&record, sink)).collect();
    record.settled(told)
}

fn message(batch: &[Record]) -> Message {
    match batch {
        [one] => Message::one(one),
        several => Message::digest(&several.iter().collect::<Vec<_>>()),
    }
}

fn batches(records: Vec<Record>, digest_over: Option<usize>) -> VecDeque<Vec<Record>> {
    let size = if digest_over.is_some_and(|limit| records.len() > limit) { DIGEST_CAP } else { 1 };
    let mut batches = VecDeque::new();
    for record in records {
        match batches.back_mut() {
            Some(last) if Vec::len(last) < size => last.push(record),
            _ => batches.push_back(vec![record]),
        }
    }
    batches
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
