//! Who is told how far long work is.

use super::measure::Totals;

/// Told what takes long, and how far it is. Called by the thread that does the work.
pub trait Reporter {
    /// `what` begins, of `total` where that is known.
    fn begin(&self, what: &str, total: Option<Totals>) {
        let _ = (what, total);
    }

    /// So much of it is done.
    fn done(&self, done: Totals) {
        let _ = done;
    }

    /// It is over.
    fn end(&self) {}
}

impl Reporter for () {}
