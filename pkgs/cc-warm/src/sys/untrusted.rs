//! Text that comes from a recipe, an app, docker or the network. It has no `Display`: whoever shows it names the
//! sink, and gets it escaped for that sink.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Foreign text, as it came (invalid UTF-8 replaced).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Takes over `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Takes over at most `cap` bytes, replacing what is not UTF-8.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], cap: usize) -> Self {
        Self(String::from_utf8_lossy(&bytes[..bytes.len().min(cap)]).into_owned())
    }

    /// The text itself, for matching and comparing, never for showing.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// For a terminal or a log: one line; controls, bidirectional overrides and other invisible characters as `\u{..}`.
    #[must_use]
    pub fn terminal(&self) -> String {
        self.0.chars().map(|c| visible(c, false)).collect()
    }

    /// For a terminal or a log, with its line breaks and tabs kept.
    #[must_use]
    pub fn terminal_lines(&self) -> String {
        self.0.replace("\r\n", "\n").chars().map(|c| visible(c, true)).collect()
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted(\"{}\")", self.terminal())
    }
}

fn visible(c: char, lines: bool) -> String {
    if lines && (c == '\n' || c == '\t') || !hidden(c) { c.to_string() } else { c.escape_unicode().to_string() }
}

/// Characters that move the cursor, reorder text or cannot be seen.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
