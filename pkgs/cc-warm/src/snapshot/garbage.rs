//! What is garbage: pure functions of names and ages. Whatever is not current, previous or kept failed data is garbage by
//! its name; a name that is none of ours is never touched.

use std::collections::BTreeSet;
use std::time::Duration;

use super::generations::{self, Generations};
use super::record::SnapshotId;

/// What is built, and not whole yet: in the folder of snapshots `.new-<id>`, beside a volume `.cc-warm-new-<operation>`.
pub(super) const UNFINISHED: &str = ".new-";
/// A staging copy, in the folder of snapshots.
pub(super) const STAGING: &str = ".staging-";
/// Restored data that has not changed places with the live data.
pub(super) const NEW: &str = ".cc-warm-new-";
/// What was live before a restore.
pub(super) const FAILED: &str = ".cc-warm-failed-";
/// What is to be deleted.
pub(super) const TRASH: &str = ".cc-warm-trash-";
/// Failed data is not given up before this, however short the disk is.
pub(super) const FAILED_AT_LEAST: Duration = Duration::from_hours(24);

/// Whether the entry `name` of an app's folder of snapshots is garbage. `names`: `None` if no snapshot was ever named;
/// then whole ones are kept, whoever lost the names.
pub(super) fn in_store(name: &str, names: Option<&Generations>) -> bool {
    if [UNFINISHED, STAGING, TRASH].iter().any(|prefix| name.starts_with(prefix)) {
        return true;
    }
    if name == generations::FILE {
        return false;
    }
    match (names, SnapshotId::parse(name)) {
        (Some(names), Ok(id)) => !names.names(&id),
        _ => false,
    }
}

/// What the entry `name` beside a volume's `_data` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside<'a> {
    /// Failed data of this operation.
    Failed(&'a str),
    /// Garbage.
    Garbage,
    /// None of ours.
    Foreign,
}

/// What the entry `name` beside a volume's `_data` is.
pub(super) fn beside(name: &str) -> Beside<'_> {
    if let Some(operation) = name.strip_prefix(FAILED) {
        return Beside::Failed(operation);
    }
    if name.starts_with(NEW) || name.starts_with(TRASH) { Beside::Garbage } else { Beside::Foreign }
}

/// Failed data: which operation's, since when it is kept, how much it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failed {
    pub(super) operation: String,
    pub(super) age: Duration,
    pub(super) bytes: u64,
}

/// The operations whose failed data goes: what is older than `keep`; and where `missing` bytes are wanted, the oldest
/// first, but none within a day. `spared` is the operation in hand.
pub(super) fn failed_to_go(all: &[Failed], keep: Duration, missing: u64, spared: Option<&str>) -> BTreeSet<String> {
    let mut oldest_first: Vec<&Failed> = all.iter().filter(|one| Some(one.operation.as_str()) != spared).collect();
    oldest_first.sort_by_key(|one| std::cmp::Reverse(one.age));
    let mut going = BTreeSet::new();
    let mut freed = 0_u64;
    for one in oldest_first {
        let expired = one.age >= keep;
        let wanted = freed < missing && one.age >= FAILED_AT_LEAST;
        if expired || wanted || going.contains(&one.operation) {
            going.insert(one.operation.clone());
            freed = freed.saturating_add(one.bytes);
        }
    }
    going
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::config::duration::Span;

    fn names() -> Generations {
        let first = Generations::promoted(None, &SnapshotId::new("old"), "h", (Timestamp::UNIX_EPOCH, Span::days(7)));
        Generations::promoted(Some(first), &SnapshotId::new("new"), "h", (Timestamp::UNIX_EPOCH, Span::days(7)))
    }

    #[test]
    fn only_what_no_name_keeps_is_garbage() {
        let table = [
            ("new", false, false),
            ("old", false, false),
            ("older", true, false),
            ("generations.json", false, false),
            (".new-abc", true, true),
            (".staging-abc", true, true),
            (".cc-warm-trash-1", true, true),
            ("notes of the operator.txt", false, false),
            (".hidden", false, false),
            ("lost+found", false, false),
        ];
        for (name, named, unnamed) in table {
            assert_eq!(in_store(name, Some(&names())), named, "{name}");
            assert_eq!(in_store(name, None), unnamed, "{name}, with no names");
        }
    }

    #[test]
    fn beside_a_volume_only_our_own_names_are_ours() {
        for name in ["_data", "owner", "opts.json", ".cc-warm", "x.cc-warm-new-1", ".new"] {
            assert_eq!(beside(name), Beside::Foreign, "{name}");
        }
        assert_eq!(beside(".cc-warm-failed-op"), Beside::Failed("op"));
        assert_eq!(beside(".cc-warm-new-op"), Beside::Garbage);
        assert_eq!(beside(".cc-warm-trash-x"), Beside::Garbage);
    }

    #[test]
    fn failed_data_goes_when_it_is_old_or_the_disk_is_short_but_not_within_a_day() {
        let hours = |n: u64| Duration::from_hours(n);
        let one = |operation: &str, age: u64, bytes| Failed { operation: operation.to_owned(), age: hours(age), bytes };
        let all = [one("week", 24 * 8, 10), one("days", 48, 10), one("day", 25, 10), one("hour", 1, 10)];
        let keep = hours(24 * 7);
        let go = |missing, spared| failed_to_go(&all, keep, missing, spared).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(go(0, None), "week");
        assert_eq!(go(10, None), "week", "what expired counts as freed");
        assert_eq!(go(11, None), "days week");
        assert_eq!(go(u64::MAX, None), "day days week");
        assert_eq!(go(u64::MAX, Some("days")), "day week");
    }

    proptest! {
        #[test]
        fn no_failed_data_goes_within_a_day_and_before_its_time(
            ages in prop::collection::vec((0..400_u64, 0..100_u64), 0..8), keep in 0..300_u64, missing in 0..500_u64,
        ) {
            let all: Vec<Failed> = ages.iter().enumerate().map(|(n, (age, bytes))| {
                Failed { operation: n.to_string(), age: Duration::from_hours(*age), bytes: *bytes }
            }).collect();
            let keep = Duration::from_hours(keep);
            let going = failed_to_go(&all, keep, missing, None);
            for one in &all {
                if one.age >= keep {
                    prop_assert!(going.contains(&one.operation));
                }
                if going.contains(&one.operation) && one.age < keep {
                    prop_assert!(one.age >= FAILED_AT_LEAST);
                    let older: u64 = all.iter().filter(|o| o.age > one.age).map(|o| o.bytes).sum();
                    prop_assert!(older < missing, "it went although older data was enough");
                }
            }
        }
    }
}
