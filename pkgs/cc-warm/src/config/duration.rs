//! Durations as people write them: whole seconds, or `90s`, `5min`, `1h 30min`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time; a day has 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self::seconds(days * 24 * 60 * 60)
    }

    /// So long.
    #[must_use]
    pub const fn of(duration: Duration) -> Self {
        Self(duration)
    }

    /// For the standard library.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Reads a text like `90s`, `5min`, `1h 30min`, `7d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let span: jiff::Span = text.parse().map_err(|e| format!("`{text}` is no duration: {e}"))?;
        let duration = span
            .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .map_err(|e| format!("`{text}` is no duration: {e}"))?;
        Duration::try_from(duration).map(Self).map_err(|_| format!("`{text}` is negative"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let millis = self.0.subsec_millis();
        let mut parts = Vec::new();
        for (unit, size) in [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)] {
            if rest >= size {
                parts.push(format!("{}{unit}", rest / size));
                rest %= size;
            }
        }
        if millis > 0 {
            parts.push(format!("{millis}ms"));
        }
        if parts.is_empty() { f.write_str("0s") } else { f.write_str(&parts.join(" ")) }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(u64),
            Text(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Seconds(seconds)) => Ok(Self::seconds(seconds)),
            Ok(Written::Text(text)) => Self::parse(&text).map_err(serde::de::Error::custom),
            Err(_) => {
                Err(serde::de::Error::custom("a duration is whole seconds or a text like \"90s\", \"5min\", \"7d\""))
            }
        }
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Whole seconds, or a text like \"90s\", \"5min\", \"1h 30min\", \"7d\".",
            "type": ["integer", "string"],
            "minimum": 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds_and_text_and_shows_what_it_reads() {
        for (json, seconds, shown) in [
            ("90", 90, "1min 30s"),
            ("\"5min\"", 300, "5min"),
            ("\"7d\"", 604_800, "7d"),
            ("\"1h 30m\"", 5400, "1h 30min"),
            ("0", 0, "0s"),
        ] {
            let span: Span = serde_json::from_str(json).unwrap();
            assert_eq!((span.0.as_secs(), span.to_string().as_str()), (seconds, shown), "{json}");
            let back: Span = serde_json::from_str(&serde_json::to_string(&span).unwrap()).unwrap();
            assert_eq!(back, span);
        }
        for json in ["\"soon\"", "-1", "\"-5s\"", "1.5", "null", "\"\""] {
            serde_json::from_str::<Span>(json).unwrap_err();
        }
    }
}
