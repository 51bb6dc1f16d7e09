//! A tree from which what did not change is taken over, walked in step with the one that is copied.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::beneath::{Dir, Root};
use super::catalog::{Catalog, Cursor, Digest, Reader};
use super::descent::Descent;
use super::entry::Entry;
use super::flags;
use super::moment::{Moment, granularity};
use super::stat::Stat;
use super::takeover::{self, Now, Refusal, Rule};

/// A tree with a catalog, from which what did not change is taken over by hard links.
#[derive(Debug, Clone, Copy)]
pub struct Predecessor<'a> {
    /// For a copy: a snapshot's copy of the volume, or a staging copy. For a restore: the live tree, which must then be
    /// deleted once it was exchanged, because it shares inodes with what is live.
    pub tree: &'a Path,
    /// What is known of the live tree that it is a copy of (or that it is).
    pub catalog: &'a Catalog,
    /// What the shutdown of the boot before this one wrote once it had synced all, if it did.
    pub shutdown: Option<&'a Moment>,
}

/// What was made of a predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// There is none.
    None,
    /// Nothing of it could be believed.
    Refused(Refusal),
    /// What did not change was taken over.
    ByRule,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("there was nothing to take over from"),
            Self::Refused(why) => write!(f, "nothing was taken over: {why}"),
            Self::ByRule => f.write_str("what did not change was taken over"),
        }
    }
}

/// A predecessor of which something may be believed.
#[derive(Debug)]
pub struct Believed {
    /// Its tree.
    pub root: Root,
    /// What may be taken over.
    pub rule: Rule,
}

impl Believed {
    /// Opens `known` and asks the rule: `now`, with the live tree on a file system of `kind`.
    pub fn open(
        known: Option<Predecessor<'_>>,
        now: &Moment,
        kind: &str,
    ) -> Result<(Option<(Self, Reader)>, Takeover)> {
        let Some(known) = known else { return Ok((None, Takeover::None)) };
        let reader = Reader::open(known.catalog)?;
        let now = Now {
            moment: now.clone(),
            shutdown: known.shutdown.cloned(),
            file_system: kind.to_owned(),
            granularity: granularity(),
            while_running: takeover::while_running(),
        };
        let rule = match Rule::of(reader.header(), &now) {
            Ok(rule) => rule,
            Err(refusal) => return Ok((None, Takeover::Refused(refusal))),
        };
        let root = Root::open(known.tree).with_context(|| format!("cannot open `{}`", known.tree.display()))?;
        Ok((Some((Self { root, rule }, reader)), Takeover::ByRule))
    }

    /// The file that is `recorded`, and lies in `dir` of this tree, if it may get a second name in a copy of what is
    /// `found`.
    #[must_use]
    pub fn may_link(&self, dir: &Dir, recorded: &Entry, found: &Entry) -> Option<Stat> {
        // Flags that guard a file would be taken from one tree, for its deletion, and be gone from the other as well.
        if !self.rule.is_unchanged(recorded, found) || flags::guard(recorded.flags) {
            return None;
        }
        self.root.stat_at(dir, &found.name).ok().filter(|stat| recorded.differs(stat).is_none())
    }
}

/// Where in a predecessor the walk is.
pub struct Steps<'s> {
    cursor: Cursor,
    descent: Descent<'s>,
    /// For each folder that the walk is in, but the top: whether the predecessor has it.
    has: Vec<bool>,
}

impl<'s> Steps<'s> {
    /// At the top of `root`, which `reader` is the catalog of.
    pub fn new(root: &'s Root, reader: Reader) -> Result<Self> {
        Ok(Self { cursor: Cursor::new(reader)?.0, descent: Descent::new(root)?, has: Vec::new() })
    }

    /// What is recorded as `name` in this folder. Names must be asked for in order.
    pub fn find(&mut self, name: &[u8]) -> Result<Option<(Entry, Digest)>> {
        self.cursor.find(name)
    }

    /// Into the folder `name`.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let mut has = self.cursor.enter(name)?.is_some();
        if has && self.descent.enter(name).is_err() {
            // Recorded, and not there: nothing is taken over from it.
            self.cursor.leave()?;
            self.cursor.stray();
            has = false;
        }
        self.has.push(has);
        Ok(())
    }

    /// This folder, where the predecessor has it.
    pub fn dir(&mut self) -> Result<Option<Arc<Dir>>> {
        if self.has.last().copied().unwrap_or(true) { Ok(Some(self.descent.dir()?)) } else { Ok(None) }
    }

    /// Back up.
    pub fn leave(&mut self) -> Result<()> {
        if let Some(has) = self.has.pop() {
            self.cursor.leave()?;
            if has {
                self.descent.leave();
            }
        }
        Ok(())
    }
}
