//! Going down and up a tree of any depth with a bounded number of descriptors.

use std::io;
use std::sync::Arc;

use super::beneath::{Dir, Root, Shown};
use super::changed::Exchanged;
use super::stat::Stat;

/// How many of the deepest folders stay open, and at most how many checkpoints above them.
const OPEN: usize = 32;

struct Level {
    name: Box<[u8]>,
    inode: u64,
    dir: Option<Arc<Dir>>,
}

/// Where one is in a tree. The folder one is in is open; of those above, the last few and some in between are, and the
/// others are opened again from the nearest of these (and must still be the same folder) when one gets back to them.
pub struct Descent<'r> {
    root: &'r Root,
    top: Arc<Dir>,
    levels: Vec<Level>,
    spacing: usize,
    checkpoints: usize,
}

impl<'r> Descent<'r> {
    /// At the top.
    pub fn new(root: &'r Root) -> io::Result<Self> {
        let (top, _) = root.open_far(root.dir(), [])?;
        Ok(Self { root, top: Arc::new(top), levels: Vec::new(), spacing: OPEN, checkpoints: 0 })
    }

    /// The folder one is in.
    pub fn dir(&mut self) -> io::Result<Arc<Dir>> {
        let Some(level) = self.levels.last() else { return Ok(Arc::clone(&self.top)) };
        if let Some(dir) = &level.dir {
            return Ok(Arc::clone(dir));
        }
        let inode = level.inode;
        let nearest = self.levels.iter().rposition(|level| level.dir.is_some());
        let from = nearest.and_then(|at| self.levels[at].dir.as_ref()).unwrap_or(&self.top);
        let rest = self.levels[nearest.map_or(0, |at| at + 1)..].iter().map(|level| &*level.name);
        let (dir, stat) = self.root.open_far(from, rest)?;
        if stat.inode() != inode {
            return Err(io::Error::other(Exchanged));
        }
        let dir = Arc::new(dir);
        if let Some(level) = self.levels.last_mut() {
            level.dir = Some(Arc::clone(&dir));
        }
        Ok(dir)
    }

    /// Into the folder `name` of the one that one is in.
    pub fn enter(&mut self, name: &[u8]) -> io::Result<Stat> {
        let (dir, stat) = self.root.open_dir(&*self.dir()?, name)?;
        self.levels.push(Level { name: name.into(), inode: stat.inode(), dir: Some(Arc::new(dir)) });
        self.close_some();
        Ok(stat)
    }

    /// Back up; the name of the folder that was left, `None` at the top.
    pub fn leave(&mut self) -> Option<Box<[u8]>> {
        let level = self.levels.pop()?;
        if self.levels.len().is_multiple_of(self.spacing) {
            self.checkpoints = self.checkpoints.saturating_sub(1);
        }
        Some(level.name)
    }

    /// How many folders below the top.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The names that lead here from the top.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().map(|level| &*level.name)
    }

    /// Where `name` of this folder is, for messages.
    #[must_use]
    pub fn shown(&self, name: &[u8]) -> String {
        let depth = self.levels.len();
        let mut text = String::new();
        for (at, level) in self.levels.iter().enumerate() {
            if depth > 16 && at == 8 {
                text.push_str(&format!("(… {} folders …)/", depth - 16));
            }
            if at < 8 || at + 8 >= depth {
                text.push_str(&format!("{}/", Shown(&level.name)));
            }
        }
        text + &Shown(name).to_string()
    }

    fn close_some(&mut self) {
        let here = self.levels.len() - 1;
        if here.is_multiple_of(self.spacing) {
            self.checkpoints += 1;
            if self.checkpoints > OPEN {
                self.spacing *= 2;
                self.checkpoints = here / self.spacing + 1;
                let spacing = self.spacing;
                for (at, level) in self.levels.iter_mut().enumerate().take(here.saturating_sub(OPEN)) {
                    if !at.is_multiple_of(spacing) {
                        level.dir = None;
                    }
                }
            }
        }
        if let Some(old) = here.checked_sub(OPEN)
            && !old.is_multiple_of(self.spacing)
        {
            self.levels[old].dir = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};

    use super::*;

    /// Makes a chain of `depth` folders called `name` below `path`.
    fn chain(path: &std::path::Path, name: &[u8], depth: usize) {
        let root = Root::open(path).unwrap();
        let mut descent = Descent::new(&root).unwrap();
        for _ in 0..depth {
            mkdirat(&*descent.dir().unwrap(), name, Mode::RWXU).unwrap();
            descent.enter(name).unwrap();
        }
    }

    #[test]
    fn goes_down_and_up_4000_folders_of_255_bytes_with_few_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let name = [b'\xff'; 255];
        chain(dir.path(), &name, 4000);
        let root = Root::open(dir.path()).unwrap();
        let mut descent = Descent::new(&root).unwrap();
        let mut most = 0;
        for at in 0..4000 {
            descent.enter(&name).unwrap();
            if at % 50 == 0 {
                most = most.max(descent.levels.iter().filter(|level| level.dir.is_some()).count());
            }
        }
        assert!(most <= 3 * OPEN, "{most} descriptors");
        assert!(descent.dir().unwrap().names().unwrap().is_empty());
        while let Some(left) = descent.leave() {
            assert_eq!(descent.dir().unwrap().names().unwrap().len(), 1);
            if descent.depth().is_multiple_of(50) {
                most = most.max(descent.levels.iter().filter(|level| level.dir.is_some()).count());
            }
            unlinkat(&*descent.dir().unwrap(), &*left, AtFlags::REMOVEDIR).unwrap();
        }
        assert!(most <= 3 * OPEN, "{most} descriptors");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_was_exchanged_meanwhile_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        chain(dir.path(), b"d", 200);
        let root = Root::open(dir.path()).unwrap();
        let mut descent = Descent::new(&root).unwrap();
        for _ in 0..200 {
            descent.enter(b"d").unwrap();
        }
        fs::rename(dir.path().join("d/d"), dir.path().join("away")).unwrap();
        chain(&dir.path().join("d"), b"d", 199);
        let mut wrong = None;
        while descent.leave().is_some() && wrong.is_none() {
            wrong = descent.dir().err();
        }
        assert!(wrong.unwrap().to_string().contains("exchanged"));
    }

    #[test]
    fn shows_both_ends_of_a_long_way() {
        let dir = tempfile::tempdir().unwrap();
        chain(dir.path(), b"d", 20);
        let root = Root::open(dir.path()).unwrap();
        let mut descent = Descent::new(&root).unwrap();
        for _ in 0..20 {
            descent.enter(b"d").unwrap();
        }
        assert_eq!(descent.shown(b"a\nb"), "d/d/d/d/d/d/d/d/(… 4 folders …)/d/d/d/d/d/d/d/d/a\\nb");
    }
}
