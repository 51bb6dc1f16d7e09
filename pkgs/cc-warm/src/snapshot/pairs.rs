//! Whether names of one file are names of one file in its copy, and of no other: of trees of any size, in little memory.

use std::sync::{Mutex, PoisonError};

/// New pairs among which it is worth to look for those that are known; a quarter of these, where that is more. In tests few,
/// so that it is done.
const MANY: usize = if cfg!(test) { 4 } else { 1 << 20 };

/// Which file of a copy stands for which, by their inodes: those that have several names.
#[derive(Debug, Default)]
pub(super) struct Pairs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The original's inode and the copy's.
    pairs: Vec<(u64, u64)>,
    /// How many different ones there were when that was last looked at.
    known: usize,
}

impl State {
    fn leave_out_known(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        self.known = self.pairs.len();
    }
}

impl Pairs {
    /// Takes in a name of `original`, which in the copy is one of `copy`.
    pub(super) fn add(&self, original: u64, copy: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pairs.push((original, copy));
        if state.pairs.len() - state.known >= MANY.max(state.known / 4) {
            state.leave_out_known();
        }
    }

    /// An original that has become several files, or one file with another; `None`: there is none.
    pub(super) fn odd(self) -> Option<u64> {
        let mut state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.leave_out_known();
        let several = state.pairs.windows(2).find(|two| two[0].0 == two[1].0).map(|two| two[0].0);
        several.or_else(|| {
            state.pairs.sort_unstable_by_key(|&(original, copy)| (copy, original));
            state.pairs.windows(2).find(|two| two[0].1 == two[1].1).map(|two| two[1].0)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_is_no_pair(names in prop::collection::vec((0_u64..12, 0_u64..12), 0..40), one_to_one in any::<bool>()) {
            let names: Vec<(u64, u64)> =
                names.into_iter().map(|(original, copy)| (original, if one_to_one { 99 - original } else { copy })).collect();
            let pairs = Pairs::default();
            for &(original, copy) in &names {
                pairs.add(original, copy);
            }
            let (mut copies, mut originals) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
            for (original, copy) in names {
                copies.entry(original).or_default().insert(copy);
                originals.entry(copy).or_default().insert(original);
            }
            let is_odd = |original: &u64| {
                copies[original].len() > 1 || copies[original].iter().any(|copy| originals[copy].len() > 1)
            };
            match pairs.odd() {
                Some(original) => prop_assert!(is_odd(&original), "{original} in {copies:?}"),
                None => prop_assert!(!copies.keys().any(is_odd), "{copies:?}"),
            }
        }
    }
}
