//! Names that share an inode, wherever in the tree they are.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, linkat};

use super::beneath::{Dir, Root, Shown};

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

/// For each inode with several names: where in the copy its first one is. Forgotten once all its names were seen.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<u64, First>>);

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links")
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
        // Held while the first is made: a second one must find it.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = known.get_mut(&inode) else {
            let new = make()?;
            known.insert(inode, First { node: Arc::clone(node), name: name.into(), left: links - 1 });
            return Ok(Linked::First(new));
        };
        if Arc::ptr_eq(&first.node, node) {
            linkat(dir, &*first.name, dir, name, AtFlags::empty())?;
        } else {
            let (from, _) = root.open_far(root.dir(), first.node.way())?;
            linkat(&from, &*first.name, dir, name, AtFlags::empty())?;
        }
        first.left -= 1;
        if first.left == 0 {
            known.remove(&inode);
        }
        Ok(Linked::Again)
    }
}
