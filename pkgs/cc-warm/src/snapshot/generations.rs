//! Which snapshots of an app are kept by name (`generations.json`, format 1): `current`, the known-good, and `previous`, the
//! one before. One rename moves both, whatever the number of volumes.

use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::record::{FORMAT, SnapshotId, must_be_readable};
use crate::config::duration::Span;
use crate::sys::durable;

/// The file's name in the folder of snapshots.
pub(super) const FILE: &str = "generations.json";

/// The names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Generations {
    pub(super) format: u32,
    pub(super) helper: String,
    pub(super) current: SnapshotId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Previous>,
    /// Fields of newer programs.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The known-good before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) id: SnapshotId,
    /// Since when it is not the current one any more.
    pub(super) replaced_at: Timestamp,
}

impl Generations {
    /// Those in the folder `dir`. A file that cannot be read is an error: nothing may be called garbage then.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let Some(value) = durable::read_json::<Value>(&path)? else { return Ok(None) };
        must_be_readable(&path, &value)?;
        serde_json::from_value(value).map(Some).with_context(|| format!("`{}` does not parse", path.display()))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        durable::replace_json(&dir.join(FILE), self)
    }

    /// Whether `id` is kept by one of the names.
    pub(super) fn names(&self, id: &SnapshotId) -> bool {
        self.current == *id || self.previous.as_ref().is_some_and(|previous| previous.id == *id)
    }

    /// `id` as the new current one of what was `before`. A previous one stays for as long as it shall be kept: several new
    /// ones must not be all that is left soon after data went wrong, and it is the oldest that is sure to be good. Done
    /// again, it changes nothing.
    pub(super) fn promoted(
        before: Option<Self>,
        id: &SnapshotId,
        helper: &str,
        (now, keep): (Timestamp, Span),
    ) -> Self {
        match before {
            Some(before) if before.current == *id => before,
            Some(before) => {
                let former = Previous { id: before.current, replaced_at: now };
                let kept = before.previous.filter(|previous| previous.id != *id && !previous.is_over(keep, now));
                Self {
                    format: FORMAT,
                    helper: helper.to_owned(),
                    previous: Some(kept.unwrap_or(former)),
                    current: id.clone(),
                    unknown: before.unknown,
                }
            }
            None => Self {
                format: FORMAT,
                helper: helper.to_owned(),
                current: id.clone(),
                previous: None,
                unknown: Map::new(),
            },
        }
    }

    /// Without a previous one that was replaced `keep` ago; `None` if there is nothing to change. A clock that went back
    /// keeps it.
    pub(super) fn expired(&self, keep: Span, now: Timestamp) -> Option<Self> {
        self.previous.as_ref()?.is_over(keep, now).then(|| Self { previous: None, ..self.clone() })
    }
}

impl Previous {
    /// Whether it was replaced `keep` ago.
    fn is_over(&self, keep: Span, now: Timestamp) -> bool {
        let age = now.duration_since(self.replaced_at);
        std::time::Duration::try_from(age).is_ok_and(|age| age >= keep.duration())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> SnapshotId {
        SnapshotId::new(&format!("s{n}"))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_one_before_is_kept_for_as_long_as_it_shall_be() {
        let keep = Span::seconds(50);
        let first = Generations::promoted(None, &id(1), "h", (at(0), keep));
        let second = Generations::promoted(Some(first.clone()), &id(2), "h", (at(100), keep));
        assert_eq!(second.previous, Some(Previous { id: id(1), replaced_at: at(100) }));
        for (now, goes) in [(100, false), (149, false), (150, true), (1000, true), (0, false)] {
            assert_eq!(second.expired(keep, at(now)).is_some(), goes, "at {now}");
        }
        assert_eq!(second.expired(keep, at(150)).unwrap().current, id(2));
        assert_eq!(first.expired(keep, at(150)), None);
        for (now, previous) in [(101, id(1)), (149, id(1)), (0, id(1)), (150, id(2))] {
            let third = Generations::promoted(Some(second.clone()), &id(3), "h", (at(now), keep));
            assert_eq!((third.current, third.previous.unwrap().id), (id(3), previous), "at {now}");
        }
    }

    proptest! {
        #[test]
        fn where_none_is_kept_the_last_two_that_were_promoted_are_named(order in prop::collection::vec(0..4_usize, 1..20)) {
            let mut names = None;
            let mut distinct: Vec<usize> = Vec::new();
            for (now, n) in order.iter().enumerate() {
                if distinct.last() != Some(n) {
                    distinct.push(*n);
                }
                let when = (at(now.try_into().unwrap()), Span::seconds(0));
                names = Some(Generations::promoted(names, &id(*n), "h", when));
            }
            let names = names.unwrap();
            prop_assert_eq!(&names.current, &id(*distinct.last().unwrap()));
            let before = distinct.iter().rev().nth(1).map(|n| id(*n));
            prop_assert_eq!(names.previous.as_ref().map(|previous| previous.id.clone()), before);
            let again = Generations::promoted(Some(names.clone()), &names.current, "h", (at(1000), Span::seconds(0)));
            prop_assert_eq!(again, names);
        }
    }
}
