//! How long a snapshot would take, and for how long the app would be down: from how long the last one took.

use serde::{Deserialize, Serialize};

use crate::downtime::Parts;
use crate::snapshot::{Preflight, Totals};

/// What a snapshot would be like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// What it takes, and whether that fits.
    pub preflight: Preflight,
    /// For about how long the app would be down.
    pub downtime_ms: u64,
    /// On what that time would go.
    pub parts: Parts,
    /// Whether nothing is known of an earlier one.
    pub guessed: bool,
}

/// Entries that are checked in a millisecond, where nothing is known.
const CHECKED: u64 = 50;
/// Bytes that are copied in a millisecond, where nothing is known.
const COPIED: u64 = 200_000;
/// What stopping, syncing, starting and answering take, where nothing is known.
const AROUND: u64 = 1000;

/// What is known of a snapshot that was taken before.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    /// What its downtime went on.
    pub parts: Parts,
    /// How long that was in all, in milliseconds: more than its parts.
    pub downtime_ms: u64,
    /// How much data it was.
    pub totals: Totals,
}

/// From the last one.
#[must_use]
pub fn forecast(preflight: Preflight, last: Option<Last>) -> Forecast {
    let holds = preflight.holds();
    let rest = last.map_or(0, |last| last.downtime_ms.saturating_sub(sum(&last.parts)));
    let parts = match last {
        Some(Last { parts, totals: then, .. }) => {
            let scaled = u128::from(parts.verify) * u128::from(holds.entries) / u128::from(then.entries.max(1));
            Parts { verify: u64::try_from(scaled).unwrap_or(u64::MAX), restore: 0, ..parts }
        }
        // One part in a hundred changes while the rest is copied.
        None => Parts {
            stop: AROUND,
            copy: preflight.copied().bytes / 100 / COPIED,
            verify: holds.entries / CHECKED,
            sync: AROUND / 4,
            restore: 0,
            start: AROUND,
            answer: AROUND,
        },
    };
    let downtime_ms = sum(&parts).saturating_add(rest);
    Forecast { preflight, downtime_ms, parts, guessed: last.is_none() }
}

/// What a downtime that ends with the same version goes on.
fn sum(parts: &Parts) -> u64 {
    let all = [parts.stop, parts.copy, parts.verify, parts.sync, parts.start, parts.answer];
    all.iter().fold(0_u64, |sum, part| sum.saturating_add(*part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preflight(entries: u64, bytes: u64) -> Preflight {
        let totals = serde_json::json!({ "entries": entries, "bytes": bytes });
        let volume = serde_json::json!({ "name": "v", "holds": totals, "copied": totals, "reflink": false });
        serde_json::from_value(
            serde_json::json!({ "volumes": [volume], "fileSystems": [], "reserve": 0, "quotas": [] }),
        )
        .unwrap()
    }

    #[test]
    fn the_last_downtime_is_the_measure_and_checking_grows_with_the_data() {
        let parts = Parts { stop: 100, copy: 20, verify: 1000, sync: 10, restore: 9999, start: 50, answer: 4000 };
        let last = Last { parts, downtime_ms: 1180 + 4000 + 7, totals: Totals { entries: 1000, bytes: 1 } };
        let now = forecast(preflight(2000, 1 << 30), Some(last));
        assert_eq!((now.downtime_ms, now.guessed), (100 + 20 + 2000 + 10 + 50 + 4000 + 7, false));
        assert_eq!(now.parts.restore, 0, "a rollback is not what is forecast");
        let guess = forecast(preflight(50_000, 0), None);
        assert_eq!((guess.parts.verify, guess.guessed), (1000, true));
        assert!(
            forecast(preflight(u64::MAX, u64::MAX), Some(Last { totals: Totals::default(), ..last })).downtime_ms > 0
        );
    }
}
