//! How much a tree holds, and how much of it is not in a predecessor, without holding it.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FileType, StatxAttributes};
use serde::{Deserialize, Serialize};

use super::beneath::{Root, Shown, Stat};
use super::descent::Descent;
use super::entry::Entry;
use super::known::Known;
use super::moment::Moment;
use super::predecessor::{Believed, Steps};
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

/// What a tree holds, and what of it would have to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Measured {
    pub(super) holds: Totals,
    pub(super) copied: Totals,
}

/// What of a volume cannot be copied as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsuitable(String);

/// Of the live tree `path`, of which a copy could be taken; what did not change since `known` would be taken over from it.
pub(super) fn live(path: &Path, known: Option<&Known>) -> Result<Measured> {
    measure(path, known, true)
}

/// Of the tree `path`.
pub(super) fn tree(path: &Path) -> Result<Totals> {
    Ok(measure(path, None, false)?.holds)
}

/// What vanishes while it is looked at does not count.
fn measure(path: &Path, known: Option<&Known>, live: bool) -> Result<Measured> {
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
            Walk { root: &root, live, old, measured: Measured::default(), linked: HashSet::new(), layer: None };
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
        if stat.links() > 1
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
        let one = Totals { entries: 1, bytes: stat.allocated() };
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
        let empty = tree(dir.path()).unwrap();
        assert_eq!(empty.entries, 1);
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("folder/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("folder/file"), dir.path().join("again")).unwrap();
        fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let full = live(dir.path(), None).unwrap();
        assert_eq!((full.holds.entries, full.copied), (4, full.holds));
        assert!((100_000..1_000_000).contains(&(full.holds.bytes - empty.bytes)), "{full:?}");
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
        let error = format!("{:#}", tree(Path::new("/")).unwrap_err());
        assert!(error.contains("is a mount inside the volume"), "{error}");
    }
}
