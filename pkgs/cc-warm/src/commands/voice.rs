//! What is said on stderr while something is done to an app: with the elapsed time and a bar on a terminal, plain lines
//! elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::names::AppName;
use crate::snapshot::{Reporter, Totals, bytes};
use crate::sys::notify;
use crate::sys::out::say;
use crate::update::operation::Narrator;

/// How often a journal is told how far something is.
const EVERY: Duration = Duration::from_secs(5);

/// The voice of one app.
pub struct Voice {
    app: String,
    since: Instant,
    terminal: bool,
    work: RefCell<Option<Work>>,
}

/// Something that takes long.
struct Work {
    what: String,
    total: Option<Totals>,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Voice {
    /// That of `app`.
    #[must_use]
    pub fn of(app: &AppName) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { app: app.to_string(), since: Instant::now(), terminal, work: RefCell::new(None) }
    }

    fn bar(&self, what: &str, total: Option<Totals>) -> ProgressBar {
        let length = total.map(|total| if is_of_bytes(total) { total.bytes } else { total.entries });
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(match total {
            Some(total) if is_of_bytes(total) => {
                "{prefix}: [{elapsed}] {bar:24} {bytes}/{total_bytes}, {msg}, {eta} left"
            }
            Some(_) => "{prefix}: [{elapsed}] {bar:24} {pos}/{len} files, {eta} left",
            None => "{prefix}: [{elapsed}] {msg}",
        });
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(format!("{}: {what}", self.app));
        bar.set_message(files(0));
        bar
    }
}

impl Narrator for Voice {
    fn say(&self, text: &str) {
        notify::status(&format!("{}: {text}", self.app));
        if self.terminal {
            say!("{}: [{:6.1} s] {text}", self.app, self.since.elapsed().as_secs_f32());
        } else {
            say!("{}: {text}", self.app);
        }
    }
}

impl Reporter for Voice {
    fn begin(&self, what: &str, total: Option<Totals>) {
        let now = Instant::now();
        let bar = self.terminal.then(|| self.bar(what, total));
        *self.work.borrow_mut() = Some(Work { what: what.to_owned(), total, began: now, told: now, bar });
    }

    fn done(&self, done: Totals) {
        let mut work = self.work.borrow_mut();
        let Some(work) = work.as_mut() else { return };
        if let Some(bar) = &work.bar {
            let by_files = work.total.is_some_and(|total| !is_of_bytes(total));
            bar.set_position(if by_files { done.entries } else { done.bytes });
            bar.set_message(if work.total.is_some() { files(done.entries) } else { so_far(done) });
        } else if work.told.elapsed() >= EVERY {
            work.told = Instant::now();
            let line = line(&work.what, done, work.total, work.began.elapsed());
            notify::status(&format!("{}: {line}", self.app));
            say!("{}: {line}", self.app);
        }
    }

    fn end(&self) {
        if let Some(Work { bar: Some(bar), .. }) = self.work.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// Whether work is counted in bytes, too, and not in files only.
fn is_of_bytes(total: Totals) -> bool {
    total.bytes > 0
}

/// So many files, in words.
fn files(count: u64) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// What is done where nobody knows of how much: bytes, too, if any were counted.
fn so_far(done: Totals) -> String {
    let files = files(done.entries);
    if is_of_bytes(done) { format!("{files}, {}", bytes(done.bytes)) } else { files }
}

/// How far something is, as one line.
fn line(what: &str, done: Totals, total: Option<Totals>, elapsed: Duration) -> String {
    let Some(total) = total else { return format!("{what}: {}", so_far(done)) };
    let left = left(done, total, elapsed).map_or(String::new(), |left| format!(", about {} s left", left.as_secs()));
    if is_of_bytes(total) {
        format!("{what}: {}, {} of {}{left}", files(done.entries), bytes(done.bytes), bytes(total.bytes))
    } else {
        format!("{what}: {} of {} files{left}", done.entries, total.entries)
    }
}

/// What is left at the pace so far, by bytes and by entries, whichever is slower.
fn left(done: Totals, total: Totals, elapsed: Duration) -> Option<Duration> {
    let by = |done: u64, total: u64| {
        let rest = u32::try_from((u128::from(total.saturating_sub(done)) << 10) / u128::from(done.max(1))).ok()?;
        (done > 0).then(|| elapsed.saturating_mul(rest) / (1 << 10))
    };
    by(done.bytes, total.bytes).max(by(done.entries, total.entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_files_bytes_and_an_estimate() {
        let total = Totals { entries: 1000, bytes: 4 << 30 };
        let quarter = Totals { entries: 100, bytes: 1 << 30 };
        insta::assert_snapshot!(line("copying", quarter, Some(total), Duration::from_secs(10)), @"copying: 100 files, 1.0 GiB of 4.0 GiB, about 90 s left");
        insta::assert_snapshot!(line("copying", Totals::default(), Some(total), Duration::ZERO), @"copying: 0 files, 0 bytes of 4.0 GiB");
        let files = Totals { bytes: 0, ..total };
        insta::assert_snapshot!(line("checking", Totals { bytes: 0, ..quarter }, Some(files), Duration::from_secs(10)), @"checking: 100 of 1000 files, about 90 s left");
        insta::assert_snapshot!(line("copying", quarter, None, Duration::ZERO), @"copying: 100 files, 1.0 GiB");
        insta::assert_snapshot!(line("deleting", Totals { bytes: 0, ..quarter }, None, Duration::ZERO), @"deleting: 100 files");
        assert_eq!(left(total, total, Duration::from_secs(1)), Some(Duration::ZERO));
    }
}
