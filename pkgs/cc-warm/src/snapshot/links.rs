//! Names that share an inode, wherever in the tree they are.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use anyhow::Result;
use rustix::fs::{AtFlags, linkat};
use rustix::io::Errno;

use super::beneath::{Dir, Root, Shown};
use super::trash;

/// A folder by its way from the top: where something lies, without a descriptor.
#[derive(Debug, Default)]
pub(super) struct Node {
    up: Option<Arc<Node>>,
    name: Box<[u8]>,
}

impl Node {
    /// The folder `name` in `up`.
    #[must_use]
    pub(super) fn below(up: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self { up: Some(Arc::clone(up)), name: name.into() })
    }

    /// The names that lead to it from the top.
    #[must_use]
    pub(super) fn way(&self) -> Vec<&[u8]> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(up) = &at.up {
            names.push(&*at.name);
            at = up;
        }
        names.reverse();
        names
    }

    /// Where `name` in it is, for messages; of a long way, both ends.
    #[must_use]
    pub(super) fn shown(&self, name: &[u8]) -> String {
        let way = self.way();
        let mut text = String::new();
        for (at, folder) in way.iter().enumerate() {
            if way.len() > 16 && at == 8 {
                text.push_str(&format!("(… {} folders …)/", way.len() - 16));
            }
            if at < 8 || at + 8 >= way.len() {
                text.push_str(&format!("{}/", Shown(folder)));
            }
        }
        text + &Shown(name).to_string()
    }
}

impl Drop for Node {
    /// One by one: a tree may be deeper than the stack.
    fn drop(&mut self) {
        let mut up = self.up.take();
        while let Some(node) = up {
            up = Arc::into_inner(node).and_then(|mut node| node.up.take());
        }
    }
}

/// Names that a file may have on each file system that is taken over from: the least of their limits, ext2's. On ext4 it is
/// 65,000, on btrfs 65,535.
const MOST: u32 = 32_000;

/// Whether a file that has `old` names may get `new` more, all of them: where the last of them did not fit, the first
/// would be there already, and the file be two.
pub(super) fn fit(old: u32, new: u32) -> bool {
    old.saturating_add(new) <= MOST
}

struct First {
    node: Arc<Node>,
    name: Box<[u8]>,
    left: u32,
}

/// Locks, each for some of the inodes: threads that make different files do not wait for each other.
const SHARDS: u64 = 16;
/// Inodes whose first names are held in memory, for each lock. In tests few, so that they go both ways.
const HELD: usize = if cfg!(test) { 2 } else { 16 << 10 };
/// The folder beside a copy in which the others have a name while it is made. No volume has a name like that.
const BESIDE: &str = ".cc-warm-links";

/// For each inode with several names: where in the copy its first one is. Forgotten once all its names were seen.
///
/// A tree may have millions of them. What is too much for the memory has a further name in a folder beside the copy, by
/// its inode's number, until the copy is complete.
#[derive(Debug)]
pub(super) struct Links {
    shards: Vec<Mutex<Shard>>,
    beside: PathBuf,
}

#[derive(Default)]
struct Shard {
    held: HashMap<u64, First>,
    /// The folder of the names that are not held, once there is one.
    beside: Option<OwnedFd>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shard")
    }
}

/// What became of a name.
#[derive(Debug)]
pub(super) enum Linked<T> {
    /// It is the inode's first one, and was made.
    First(T),
    /// It was linked to the first.
    Again,
}

impl Links {
    /// For a copy that is made in the folder `above`, in which nothing else is.
    pub(super) fn new(above: &Path) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), beside: above.join(BESIDE) }
    }

    /// Links `name` in `dir` (which is `node` of `root`) to the first name of `inode`, which has `links` names; if it is
    /// the first itself, it is made by `make`.
    pub(super) fn link<T>(
        &self,
        (inode, links): (u64, u32),
        (root, node, dir): (&Root, &Arc<Node>, &Dir),
        name: &[u8],
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Linked<T>> {
        if links < 2 {
            return Ok(Linked::First(make()?));
        }
        let number = usize::try_from(inode % SHARDS).unwrap_or_default();
        // Held while the first is made: a second one must find it.
        let mut shard = self.shards[number].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = shard.held.get_mut(&inode) {
            if Arc::ptr_eq(&first.node, node) {
                linkat(dir, &*first.name, dir, name, AtFlags::empty())?;
            } else {
                let (from, _) = root.open_far(root.dir(), first.node.way())?;
                linkat(&from, &*first.name, dir, name, AtFlags::empty())?;
            }
            first.left -= 1;
            if first.left == 0 {
                shard.held.remove(&inode);
            }
            return Ok(Linked::Again);
        }
        if let Some(beside) = &shard.beside {
            match linkat(beside, by_number(inode), dir, name, AtFlags::empty()) {
                Ok(()) => return Ok(Linked::Again),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let new = make()?;
        if shard.held.len() < HELD || !self.put_beside(&mut shard, number, inode, (dir, name)) {
            shard.held.insert(inode, First { node: Arc::clone(node), name: name.into(), left: links - 1 });
        }
        Ok(Linked::First(new))
    }

    /// Gives the file `name` in `dir` a name beside the copy. `false` where that cannot be.
    fn put_beside(&self, shard: &mut Shard, number: usize, inode: u64, (dir, name): (&Dir, &[u8])) -> bool {
        let open = || -> io::Result<OwnedFd> {
            let path = self.beside.join(number.to_string());
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            Ok(fs::File::open(path)?.into())
        };
        if shard.beside.is_none() {
            shard.beside = open().ok();
        }
        shard.beside.as_ref().is_some_and(|to| linkat(dir, name, to, by_number(inode), AtFlags::empty()).is_ok())
    }

    /// The copy is complete, and the names beside it go.
    pub(super) fn finish(&self) -> Result<()> {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
        trash::delete(&self.beside)
    }
}

fn by_number(inode: u64) -> String {
    format!("{inode:x}")
}

#[cfg(test)]
mod tests {
    use super::super::test_tree::{Place, see};
    use super::*;

    #[test]
    fn more_files_with_several_names_than_are_held_keep_them_all_and_no_other() {
        let place = Place::new();
        let (one, other) = (place.source().join("one"), place.source().join("two/three"));
        for folder in [&one, &other] {
            fs::create_dir_all(folder).unwrap();
        }
        let count = 20 * HELD * usize::try_from(SHARDS).unwrap();
        for number in 0..count {
            let first = one.join(format!("{number}"));
            fs::write(&first, format!("{number}")).unwrap();
            fs::hard_link(&first, one.join(format!("{number} again"))).unwrap();
            fs::hard_link(&first, other.join(format!("{number}"))).unwrap();
        }
        place.take("copy");
        let copy = place.path("copy");
        assert!(!copy.with_file_name(BESIDE).exists());
        // Which names are one file, too.
        assert_eq!(see(&place.source()), see(&copy));
    }
}
