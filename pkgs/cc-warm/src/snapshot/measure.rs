//! How much a tree holds, and how much of it is not in a predecessor, without holding it.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FileType, StatxAttributes};
use serde::{Deserialize, Serialize};

use super::beneath::{Root, Shown};
use super::descent::Descent;
use super::entry::Entry;
use super::known::Known;
use super::moment::Moment;
use super::predecessor::{Believed, Steps};
use super::stat::{Stat, Time};
use super::takeover::Rule;
use super::tree::{Listing, file_system};

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Entries, its folders among them; several names of one file count once.
    pub entries: u64,
    /// Bytes that they occupy.
    pub bytes: u64,
}

impl Totals {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::plus)
    }
}

/// What a tree holds, and what of it would have to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Measured {
    pub(super) holds: Amount,
    pub(super) copied: Amount,
    /// The times that are hardest to keep.
    pub(super) times: Times,
}

/// How much it is, by the ways to count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    /// Where it lies.
    pub(super) totals: Totals,
    /// Bytes of content, holes left out: what a copy's progress counts.
    pub(super) content: u64,
    /// Bytes in blocks of the size that was asked for.
    pub(super) blocks: u64,
    /// Bytes of the records that btrfs makes of it.
    pub(super) btrfs: u64,
}

impl Amount {
    /// Of the entry that is `stat`, in blocks of `block` bytes.
    fn of(stat: &Stat, block: u64) -> Self {
        let is_file = stat.kind() == FileType::RegularFile;
        let size = if is_file { stat.size() } else { 0 };
        // What is so short and has no block lies in its inode, unless it is a hole.
        let content = if stat.allocated() == 0 { size.min(INLINE) } else { size.min(stat.allocated()) };
        let least = match stat.kind() {
            FileType::RegularFile => content,
            FileType::Directory => 1,
            _ => 0,
        };
        Self {
            totals: Totals { entries: 1, bytes: stat.allocated() },
            content,
            blocks: stat.allocated().max(least.div_ceil(block.max(1)).saturating_mul(block)),
            btrfs: if is_file && size <= INLINE { ENTRY_OF_BTRFS / 2 + 2 * size } else { ENTRY_OF_BTRFS },
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            totals: self.totals.plus(other.totals),
            content: self.content.saturating_add(other.content),
            blocks: self.blocks.saturating_add(other.blocks),
            btrfs: self.btrfs.saturating_add(other.btrfs),
        }
    }
}

/// So much content at most lies beside a file's inode (btrfs: 2 KiB), which btrfs has twice unless it is told otherwise.
const INLINE: u64 = 2048;
/// What an entry takes of btrfs's records, with their copy: measured, 3.6 KB.
const ENTRY_OF_BTRFS: u64 = 4096;

/// Of all times of a tree those that not every file system can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Times(Option<[Time; 3]>);

impl Times {
    /// The first one, the last one, and one with fractions of a second, if any has some.
    pub(super) fn hardest(self) -> impl Iterator<Item = Time> {
        self.0.into_iter().flatten()
    }

    fn note(&mut self, time: Time) {
        let [first, last, fine] = self.0.unwrap_or([time; 3]);
        let rounded = |time: Time| (time.nanos.is_multiple_of(1000), time.nanos == 0);
        self.0 = Some([first.min(time), last.max(time), if rounded(time) < rounded(fine) { time } else { fine }]);
    }
}

/// What of a volume cannot be copied as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsuitable(pub(super) String);

/// Of the live tree `path`, of which a copy could be taken to where blocks have `block` bytes; what did not change since
/// `known` would be taken over from it.
pub(super) fn live(path: &Path, known: Option<&Known>, block: u64) -> Result<Measured> {
    measure(path, known, block, true)
}

/// Of the tree `path`, likewise.
pub(super) fn tree(path: &Path, block: u64) -> Result<Amount> {
    Ok(measure(path, None, block, false)?.holds)
}

/// What vanishes while it is looked at does not count.
fn measure(path: &Path, known: Option<&Known>, block: u64, live: bool) -> Result<Measured> {
    let measure = || -> Result<Measured> {
        let root = Root::open(path)?;
        let kind = file_system(root.dir())?;
        let (believed, _) = Believed::open(known.map(Known::predecessor), &Moment::now()?, &kind)?;
        let (believed, reader) = believed.unzip();
        let old = match (&believed, reader) {
            (Some(believed), Some(reader)) => Some((believed.rule, Steps::new(&believed.root, reader)?)),
            _ => None,
        };
        let mut walk =
            Walk { root: &root, live, block, old, measured: Measured::default(), linked: HashSet::new(), layer: None };
        walk.count(root.stat(), b".", None)?;
        walk.run()?;
        Ok(walk.measured)
    };
    let crosses = |error: &anyhow::Error| -> Option<Unsuitable> {
        let error = error.downcast_ref::<std::io::Error>().filter(|e| e.kind() == ErrorKind::CrossesDevices)?;
        Some(Unsuitable(error.to_string()))
    };
    let measured = measure().map_err(|error| crosses(&error).map_or(error, Into::into));
    measured.with_context(|| format!("cannot measure `{}`", path.display()))
}

struct Walk<'r> {
    root: &'r Root,
    live: bool,
    block: u64,
    old: Option<(Rule, Steps<'r>)>,
    measured: Measured,
    linked: HashSet<u64>,
    /// The device that files with several names say they are on.
    layer: Option<(u32, u32)>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let mut descent = Descent::new(self.root)?;
        let mut above = vec![self.list(&mut descent)?];
        while let Some(folders) = above.last_mut() {
            let Some(name) = folders.pop_front() else {
                above.pop();
                if descent.leave().is_some()
                    && let Some((_, old)) = &mut self.old
                {
                    old.leave()?;
                }
                continue;
            };
            let stat = match descent.enter(&name) {
                Ok(stat) => stat,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e.into()),
            };
            self.count(&stat, &name, None)?;
            if let Some((_, old)) = &mut self.old {
                old.enter(&name)?;
            }
            above.push(self.list(&mut descent)?);
        }
        Ok(())
    }

    /// Counts what is in the folder and is no folder; the names of those that are.
    fn list(&mut self, descent: &mut Descent<'_>) -> Result<VecDeque<Box<[u8]>>> {
        let dir = descent.dir()?;
        let listing = Listing::read(self.root, &dir)?;
        for name in listing.names.iter() {
            match self.root.stat_at(&dir, name) {
                Ok(stat) => {
                    let recorded = match &mut self.old {
                        Some((_, old)) => old.find(name)?.map(|(entry, _)| entry),
                        None => None,
                    };
                    self.count(&stat, name, recorded.as_ref())?;
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(listing.folders)
    }

    fn count(&mut self, stat: &Stat, name: &[u8], recorded: Option<&Entry>) -> Result<(), Unsuitable> {
        if let Some(what) = hindrance(stat.attributes()).filter(|_| self.live) {
            let which = if name == b"." { "it".to_owned() } else { format!("`{}` in it", Shown(name)) };
            return Err(Unsuitable(format!("{which} {what}")));
        }
        if self.live
            && stat.links() > 1
            && stat.kind() != FileType::Directory
            && *self.layer.get_or_insert(stat.file_system()) != stat.file_system()
        {
            let why = "its file system numbers the files of each layer by itself (overlayfs), so it cannot be told which \
                       names belong to one file; put the data on another one, or mount it with `xino=on`";
            return Err(Unsuitable(why.to_owned()));
        }
        if stat.links() > 1 && stat.kind() != FileType::Directory && !self.linked.insert(stat.inode()) {
            return Ok(());
        }
        let one = Amount::of(stat, self.block);
        self.measured.times.note(stat.mtime());
        self.measured.holds = self.measured.holds.plus(one);
        let unchanged =
            |rule: &Rule| recorded.is_some_and(|recorded| rule.is_unchanged(recorded, &Entry::of(stat, name)));
        let taken_over =
            stat.kind() == FileType::RegularFile && self.old.as_ref().is_some_and(|(rule, _)| unchanged(rule));
        if !taken_over {
            self.measured.copied = self.measured.copied.plus(one);
        }
        Ok(())
    }
}

/// Why what has `attributes` cannot be copied as it is; `None`: it can.
fn hindrance(attributes: StatxAttributes) -> Option<&'static str> {
    if attributes.contains(StatxAttributes::ENCRYPTED) {
        return Some("is encrypted by its file system (fscrypt): a copy would lie there in the clear");
    }
    attributes
        .contains(StatxAttributes::VERITY)
        .then_some("is protected by fs-verity: a copy would have lost that protection")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn holes_and_further_names_occupy_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let empty = tree(dir.path(), 512).unwrap().totals;
        assert_eq!(empty.entries, 1);
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("folder/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("folder/file"), dir.path().join("again")).unwrap();
        fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let full = live(dir.path(), None, 512).unwrap();
        assert_eq!((full.holds.totals.entries, full.copied), (4, full.holds));
        assert!((100_000..1_000_000).contains(&(full.holds.totals.bytes - empty.bytes)), "{full:?}");
        assert!((100_000..=102_048).contains(&full.holds.content), "{full:?}");
    }

    #[test]
    fn what_is_copied_to_larger_blocks_takes_more_of_them() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            fs::write(dir.path().join(n.to_string()), vec![1; 100]).unwrap();
        }
        let [small, large] = [512, 64 << 10].map(|block| tree(dir.path(), block).unwrap());
        assert_eq!((large.blocks, large.content), (11 * (64 << 10), 1000));
        assert!(small.blocks < large.blocks && small.totals == large.totals, "{small:?} {large:?}");
        assert!((11 * 2048..11 * 5000).contains(&small.btrfs), "{small:?}");
    }

    #[test]
    fn the_times_that_are_hard_to_keep_are_the_outermost_and_one_with_fractions() {
        let at = |seconds, nanos| Time { seconds, nanos };
        let mut times = Times::default();
        assert_eq!(times.hardest().count(), 0);
        for time in [at(5, 0), at(-7, 0), at(9, 1_000_000), at(8, 123_456_789), at(6, 0)] {
            times.note(time);
        }
        assert_eq!(times.hardest().collect::<Vec<_>>(), [at(-7, 0), at(9, 1_000_000), at(8, 123_456_789)]);
    }

    #[test]
    fn what_a_copy_would_not_keep_hinders_it() {
        for (attributes, word) in [
            (StatxAttributes::empty(), None),
            (StatxAttributes::IMMUTABLE | StatxAttributes::COMPRESSED, None),
            (StatxAttributes::ENCRYPTED | StatxAttributes::NODUMP, Some("fscrypt")),
            (StatxAttributes::VERITY, Some("fs-verity")),
        ] {
            let found = hindrance(attributes);
            assert_eq!(found.is_some(), word.is_some());
            assert!(found.unwrap_or_default().contains(word.unwrap_or_default()), "{found:?}");
        }
    }

    #[test]
    fn a_mount_inside_is_an_error_that_names_it() {
        let error = format!("{:#}", tree(Path::new("/"), 512).unwrap_err());
        assert!(error.contains("is a mount inside the volume"), "{error}");
    }
}
