//! Text that comes from a recipe, an app, docker or the network. It has no `Display`: whoever shows it names the
//! sink, and gets it escaped for that sink.
//!
//! In every sink, characters that move the cursor, reorder text or cannot be seen are shown as `\u{..}`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most characters of a header value.
const HEADER_CAP: usize = 1000;

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

    /// At most `chars` characters of it, with a note of how much is left out.
    #[must_use]
    pub fn capped(&self, chars: usize) -> Self {
        let Some((end, _)) = self.0.char_indices().nth(chars) else { return self.clone() };
        let left_out = self.0[end..].chars().count();
        Self(format!("{}… ({left_out} more characters)", &self.0[..end]))
    }

    /// For a terminal or a log: one line.
    #[must_use]
    pub fn terminal(&self) -> String {
        self.0.chars().map(|c| visible(c, false)).collect()
    }

    /// For a terminal, a log or a plain text, with its line breaks and tabs kept.
    #[must_use]
    pub fn terminal_lines(&self) -> String {
        self.0.replace("\r\n", "\n").chars().map(|c| visible(c, true)).collect()
    }

    /// For a terminal or a log, where there is room for one line: the first one, with a mark if there is more.
    #[must_use]
    pub fn first_line(&self) -> String {
        let text = self.0.trim();
        let first = text.lines().next().unwrap_or_default();
        let more = if first.len() < text.len() { " …" } else { "" };
        Self::new(first).terminal() + more
    }

    /// For HTML: text, or an attribute's value in quotes. Line breaks are kept.
    #[must_use]
    pub fn html(&self) -> String {
        self.escape_each(|c| match c {
            '&' => Some("&amp;"),
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            '"' => Some("&quot;"),
            '\'' => Some("&#39;"),
            '`' => Some("&#96;"),
            _ => None,
        })
    }

    /// For XML 1.0: text, or an attribute's value in quotes. Line breaks are kept, in attributes too.
    #[must_use]
    pub fn xml(&self) -> String {
        self.escape_each(|c| match c {
            '&' => Some("&amp;"),
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            '"' => Some("&quot;"),
            '\'' => Some("&apos;"),
            '\n' => Some("&#10;"),
            '\t' => Some("&#9;"),
            _ => None,
        })
    }

    /// For Markdown, within a line (a table's cell too): a code span. Nothing else is safe with every renderer: some
    /// turn what looks like a mention, an issue or a link into one after the backslashes are gone, but not in code.
    #[must_use]
    pub fn markdown(&self) -> String {
        let text = self.terminal().replace('|', "\\u{7c}");
        if text.trim().is_empty() {
            return "` `".to_owned();
        }
        let fence = "`".repeat(longest_run(&text, '`') + 1);
        // A renderer takes one space off each side, if both are there.
        format!("{fence} {text} {fence}")
    }

    /// For Markdown, as a block of its own at the left margin: fenced code, with its line breaks.
    #[must_use]
    pub fn markdown_block(&self) -> String {
        let text = self.terminal_lines();
        let fence = "`".repeat((longest_run(&text, '`') + 1).max(3));
        format!("{fence}text\n{}\n{fence}\n", text.trim_end_matches('\n'))
    }

    /// For the value of an HTTP header: visible ASCII and inner spaces, at most 1,000 characters.
    #[must_use]
    pub fn header(&self) -> String {
        let mut value = String::new();
        for c in self.0.trim().chars() {
            let piece = if matches!(c, ' '..='~') { c.to_string() } else { c.escape_unicode().to_string() };
            if value.len() + piece.len() > HEADER_CAP {
                break;
            }
            value.push_str(&piece);
        }
        value.trim().to_owned()
    }

    /// For the value of a Prometheus label, between its double quotes: one line of the text format.
    #[must_use]
    pub fn metrics_label(&self) -> String {
        let mut value = String::new();
        for c in self.terminal().chars() {
            match c {
                '\\' => value.push_str("\\\\"),
                '"' => value.push_str("\\\""),
                c => value.push(c),
            }
        }
        value
    }

    fn escape_each(&self, escape: impl Fn(char) -> Option<&'static str>) -> String {
        let mut text = String::new();
        for c in self.terminal_lines().chars() {
            match escape(c) {
                Some(escaped) => text.push_str(escaped),
                None => text.push(c),
            }
        }
        text
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

/// Characters that move the cursor, reorder text, cannot be seen, or are none.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        // Noncharacters: no XML may have them.
        || u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
}

fn longest_run(text: &str, of: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == of { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Foreign text at its worst, for every test of something that shows foreign text.
#[cfg(any(test, feature = "fault-points"))]
pub mod nasty {
    /// One claim to break each.
    pub const CORPUS: &[&str] = &[
        "",
        " ",
        "\n",
        "plain",
        "two\nlines\r\nand a third\rand a return",
        "\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}]8;;https://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{9b}31mC1\u{9d}0;x\u{9c}\u{85}next",
        "user\u{202e}gpj.exe\u{2066}\u{2069}\u{200f}\u{61c}",
        "zero\u{200b}width\u{feff}\u{2060}\u{ad}\u{34f}\u{3164}\u{e0041}\u{180e}",
        "nul\0byte\u{7f}\u{8}\u{8}\u{8}",
        "noncharacters \u{fffe}\u{ffff}\u{fdd0}\u{1ffff} \u{fffd}",
        "line\u{2028}separator\u{2029}paragraph",
        "<script>alert(1)</script><img src=x onerror=alert(1)>",
        "\" onmouseover=\"alert(1)\" x='y' `z`",
        "]]><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>&e;&amp;&#60;",
        "<!-- --><!channel> <@U123> --> <?xml?>",
        "[click](javascript:alert(1)) ![i](https://evil.example/p.png) <https://evil.example>",
        "https://evil.example/x www.evil.example evil@evil.example //evil.example",
        "@everyone @here @admin #1 !1 owner/repo#2 deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "[ref]\n\n[ref]: https://evil.example 'title'",
        "` `` ``` ```` ~~~\n```\n~~~\n````html\n<b>",
        "```",
        "`",
        "``x",
        "x`",
        "a | b | c\n|---|---|\n\\| \\",
        "    indented\n\tcode\n# head\n- item\n1. one\n> quote\n***\n===\n---",
        "<details><summary>x</summary>\n\n**bold** _em_ ~~s~~ $math$ \\(x\\)",
        "value\r\nSet-Cookie: a=b\r\n\r\n<html>",
        "value\nAuthorization: Bearer x",
        "=?utf-8?q?=0d=0aX:_y?=",
        "\"} 1\nfake_metric{x=\"",
        "back\\slash \\n \\\" \\",
        "äöü 日本語 🔥 e\u{301} \u{1f468}\u{200d}\u{1f469}",
        "{\"json\": \"\\u0000\", \"a\": [1,2}\u{1}",
        "${jndi:ldap://x} $(reboot) `reboot` ; rm -rf / && | %s %n {0} {{7*7}}",
        "../../etc/passwd\0.png",
        "-rf --help",
    ];
}

#[cfg(test)]
#[path = "untrusted_tests.rs"]
mod tests;
