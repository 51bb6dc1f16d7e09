//! How much a tree holds, without holding it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FileType;
use serde::Serialize;

use super::beneath::{Root, Stat};
use super::descent::Descent;

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
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

/// Of the tree `path`. What vanishes while it is looked at does not count.
pub(super) fn tree(path: &Path) -> Result<Totals> {
    let problem = || format!("cannot measure `{}`", path.display());
    let root = Root::open(path).with_context(problem)?;
    let mut walk = Walk { root: &root, totals: Totals::default(), linked: HashSet::new() };
    walk.count(root.stat());
    let mut descent = Descent::new(&root).with_context(problem)?;
    let mut above = vec![walk.list(&mut descent).with_context(problem)?];
    while let Some(folders) = above.last_mut() {
        let Some(name) = folders.pop() else {
            above.pop();
            descent.leave();
            continue;
        };
        match descent.enter(&name) {
            Ok(_) => above.push(walk.list(&mut descent).with_context(problem)?),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(problem),
        }
    }
    Ok(walk.totals)
}

struct Walk<'r> {
    root: &'r Root,
    totals: Totals,
    linked: HashSet<u64>,
}

impl Walk<'_> {
    /// Counts what is in the folder; the names of folders in it.
    fn list(&mut self, descent: &mut Descent<'_>) -> std::io::Result<Vec<Box<[u8]>>> {
        let dir = descent.dir()?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        dir.each(|name, _| names.push(name.into()))?;
        let mut folders = Vec::new();
        for name in names {
            match self.root.stat_at(&dir, &name) {
                Ok(stat) => {
                    self.count(&stat);
                    if stat.kind() == FileType::Directory {
                        folders.push(name);
                    }
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(folders)
    }

    fn count(&mut self, stat: &Stat) {
        let again = stat.links() > 1 && stat.kind() != FileType::Directory && !self.linked.insert(stat.inode());
        if !again {
            self.totals = self.totals.plus(Totals { entries: 1, bytes: stat.allocated() });
        }
    }
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
        let full = tree(dir.path()).unwrap();
        assert_eq!(full.entries, 4);
        assert!((100_000..1_000_000).contains(&(full.bytes - empty.bytes)), "{full:?}");
    }

    #[test]
    fn a_mount_inside_is_an_error_that_names_it() {
        let error = format!("{:#}", tree(Path::new("/")).unwrap_err());
        assert!(error.contains("is a mount inside the volume"), "{error}");
    }
}
