//! When a stateful app may be stopped for an update.

use jiff::civil::{DateTime, Time, Weekday};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of the week, in the host's time. It belongs to the day on which it opens, and may close on the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// The days on which it opens; all by default.
    #[serde(default = "every_day")]
    days: Vec<Day>,
    /// When it opens, as `HH:MM`.
    #[schemars(with = "String")]
    from: Time,
    /// When it closes, as `HH:MM`; on the next day, if that is earlier.
    #[schemars(with = "String")]
    to: Time,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn of(weekday: Weekday) -> Self {
        match weekday {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

fn every_day() -> Vec<Day> {
    use Day::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun]
}

impl Window {
    /// Whether `now`, in the host's time, lies in it.
    #[must_use]
    pub fn contains(&self, now: DateTime) -> bool {
        let today = self.days.contains(&Day::of(now.weekday()));
        if self.from <= self.to {
            return today && self.from <= now.time() && now.time() < self.to;
        }
        let yesterday = self.days.contains(&Day::of(now.weekday().previous()));
        (today && self.from <= now.time()) || (yesterday && now.time() < self.to)
    }

    /// Whether it is never open.
    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to || self.days.is_empty()
    }
}

/// Whether `now`, in the host's time, lies in one of `windows`; always, if there is none.
#[must_use]
pub fn is_open(windows: &[Window], now: DateTime) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.contains(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(json: &str) -> Window {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn is_open_from_its_beginning_until_before_its_end() {
        let daily = window(r#"{"from":"02:00","to":"05:00"}"#);
        // 2026-03-06 is a Friday.
        let late = window(r#"{"days":["fri"],"from":"23:00","to":"02:00"}"#);
        for (window, now, open) in [
            (&daily, "2026-03-06T01:59:59", false),
            (&daily, "2026-03-06T02:00:00", true),
            (&daily, "2026-03-06T04:59:59", true),
            (&daily, "2026-03-06T05:00:00", false),
            (&late, "2026-03-06T01:00:00", false),
            (&late, "2026-03-06T23:30:00", true),
            (&late, "2026-03-07T01:59:00", true),
            (&late, "2026-03-07T02:00:00", false),
            (&late, "2026-03-07T23:30:00", false),
        ] {
            assert_eq!(window.contains(now.parse().unwrap()), open, "{window:?} at {now}");
        }
    }

    #[test]
    fn no_window_is_always_and_one_of_many_is_enough() {
        let now = "2026-03-06T12:00:00".parse().unwrap();
        let closed = window(r#"{"from":"02:00","to":"05:00"}"#);
        let open = window(r#"{"from":"11:00","to":"13:00"}"#);
        assert!(is_open(&[], now));
        assert!(!is_open(std::slice::from_ref(&closed), now));
        assert!(is_open(&[closed, open], now));
    }

    #[test]
    fn refuses_times_and_days_that_there_are_not() {
        for bad in [
            r#"{"from":"24:30","to":"05:00"}"#,
            r#"{"from":"2","to":"05:00"}"#,
            r#"{"days":["monday"],"from":"02:00","to":"05:00"}"#,
            r#"{"from":"02:00"}"#,
        ] {
            serde_json::from_str::<Window>(bad).unwrap_err();
        }
    }
}
