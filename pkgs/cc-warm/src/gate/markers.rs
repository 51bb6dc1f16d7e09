//! Phrases in release notes that mean work for the operator. A phrase that denies one does not hold; where it is not clear
//! whether it denies, it holds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

/// Regular expressions, case-insensitive, that hold an update by default. They see each paragraph as one line, without
/// Markdown's emphasis and with single spaces.
pub const DEFAULT: &[&str] = &[
    r"\bmanual(?:ly)?\s+(?:\w+\s+){0,2}(?:migrat\w*|steps?|actions?|interventions?|upgrad\w*|updat\w*|work|chang\w*)",
    r"\b(?:migrat\w*|steps?|upgrad\w*|chang\w*)\s+(?:must|need(?:s|ed)? to|ha(?:s|ve) to|should)\s+be\s+(?:done|made|run|performed|executed|applied)(?:\s+manually|\s+by\s+hand)?",
    r"\bmanually\s+(?:run|execute|apply|change|edit|remove|delete|add|set|create|rename|drop|migrate|upgrade|update)",
    r"\bby hand\b",
    r"\bbreaking[\s-]+changes?\b",
    r"\bbreaks?\s+(?:backwards?[\s-]+)?compatib\w+",
    r"\bbackwards?[\s-]+incompatib\w+",
    r"\bnot\s+backwards?[\s-]+compatible",
    r"\b(?:operator|admin\w*|user|maintainer)s?\s+(?:action|intervention)s?\s+(?:is|are\s+)?(?:required|needed|necessary)",
    r"\bactions?\s+(?:is\s+|are\s+)?(?:required|needed|necessary)",
    r"\b(?:you|operators?|admins?|administrators?)\s+(?:must|need to|have to|will need to|will have to|should)\b",
    r"\bmust\s+(?:be\s+)?(?:run|migrat\w*|upgrad\w*|updat\w*|set|chang\w*|back(?:ed)?\s+up|remov\w*|delet\w*|renam\w*|recreat\w*)",
    r"\b(?:before|prior to)\s+(?:you\s+)?(?:upgrad\w*|updat\w*|deploy\w*)",
    r"\bafter\s+(?:the\s+)?(?:upgrad\w*|updat\w*|deploy\w*)[,:]?\s+(?:you|run|execute|please)\b",
    r"\b(?:please|remember to|make sure to|be sure to)\s+(?:run|execute|migrat\w*|back\s?up|backup|dump|set|remove|delete|rename|rotate|insert|generate)",
    r"\bback\s?up\s+(?:your|the)\s+(?:data\w*|volumes?|app)",
    r"\b(?:dump|export)\s+(?:and\s+(?:restore|import)|your|the)\s+(?:data\w*|db)",
    r"\bdata\s+(?:loss|will be lost)",
    r"\bdo not (?:upgrade|update|deploy)",
    r"\b(?:new|rename[sd]?|rotat\w+)\s+(?:a\s+|the\s+)?(?:required\s+)?secrets?\b",
    r"\bnew\s+(?:required|mandatory)\s+(?:env\w*|variables?|settings?|secrets?)",
    r"\babra\s+app\s+(?:cmd|command|run|secret|config|volume|undeploy|restore|backup)\b",
];

/// A place in a note that a marker matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The line, from 1.
    pub line: usize,
    /// That line.
    pub text: String,
    /// What matched.
    pub phrase: String,
}

/// Markers, compiled.
#[derive(Debug)]
pub struct Markers(Vec<Regex>);

static DENIED_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"\b(?:no|zero|without|free of|not\s+(?:an?|any|introduce|contain|include|require|need))(?:\s+(?:any|a|an|further|additional|other|known|special|more|new|database|db|data|schema|extra))*\s*$",
    )
});
static NEGATION: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"\b(?:no|not|never|cannot|zero|without|nothing|fails?|unless|until|free of)\b|n['’]t\b"));
static DENIED_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"^\s*(?:\w+\s+){0,1}(?:(?:is|are|was|were)\s+(?:not|no longer)|(?:is|are|was|were)n['’]t|not)\s+(?:\w+\s+)?(?:needed|required|necessary|expected|there)\b|^\s*[:–—-]?\s*(?:none|nothing|n/a|no)\s*(?:[.!\n]|$)",
    )
});
static EXCEPTION: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"\b(?:unless|except|but|only|if|however|otherwise|apart)\b"));

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles them")]
fn fixed(pattern: &str) -> Regex {
    build(pattern).expect("a constant pattern")
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).case_insensitive(true).size_limit(4 << 20).build()
}

impl Markers {
    /// `patterns`, compiled once for as many apps as have the same.
    pub fn of(patterns: &[String]) -> Result<Arc<Self>, regex::Error> {
        static COMPILED: LazyLock<Mutex<BTreeMap<Vec<String>, Arc<Markers>>>> = LazyLock::new(Mutex::default);
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(markers) = compiled.get(patterns) {
            return Ok(Arc::clone(markers));
        }
        let markers = Arc::new(Self::new(patterns)?);
        compiled.insert(patterns.to_vec(), Arc::clone(&markers));
        Ok(markers)
    }

    /// Compiles `patterns`, case-insensitive.
    pub fn new(patterns: &[String]) -> Result<Self, regex::Error> {
        patterns.iter().map(|pattern| build(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// Every place in `text` that a marker matches and nothing denies, at most one a line, in order.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Found> {
        let plain = Plain::of(text);
        let mut all: Vec<Found> = Vec::new();
        for marker in &self.0 {
            for matched in marker.find_iter(&plain.text) {
                if matched.is_empty() || denied(&plain.text, matched.start(), matched.end()) {
                    continue;
                }
                let line = plain.line_at(matched.start());
                let text = text.lines().nth(line - 1).unwrap_or_default().trim();
                all.push(Found {
                    line,
                    text: text.chars().take(200).collect(),
                    phrase: matched.as_str().split_whitespace().collect::<Vec<_>>().join(" "),
                });
            }
        }
        all.sort_by_key(|found| found.line);
        all.dedup_by_key(|found| found.line);
        all
    }
}

/// Whether what stands around `start..end` in its own sentence denies it.
fn denied(text: &str, start: usize, end: usize) -> bool {
    let ends = ['.', '!', '?', ';', '\n'];
    let before = &text[..start];
    let sentence_start = before.rfind(ends).map_or(0, |at| at + 1);
    let before = &before[sentence_start..];
    let after = &text[end..];
    // A heading "Breaking changes" with "None" below it is one thought.
    let after_sentence = &after[..after.find(['.', '!', '?', ';']).unwrap_or(after.len())];
    let after_line = &after[..after.find(ends).unwrap_or(after.len())];
    if EXCEPTION.is_match(after_line) || EXCEPTION.is_match(before) {
        return false;
    }
    let denied_before =
        DENIED_BEFORE.is_match(before) && NEGATION.find_iter(before).count() == 1 && !NEGATION.is_match(after_line);
    let denied_after = DENIED_AFTER.is_match(after_sentence) && !NEGATION.is_match(before);
    denied_before || denied_after
}

/// A note as one searches it: paragraphs as lines, no emphasis, single spaces; and which line each byte came from.
struct Plain {
    text: String,
    /// For each byte of `text`, its line, from 1.
    lines: Vec<u32>,
}

impl Plain {
    fn of(text: &str) -> Self {
        let mut plain = Self { text: String::new(), lines: Vec::new() };
        let mut after_blank = true;
        for (number, line) in text.lines().enumerate() {
            let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
            let trimmed = line.trim();
            let begins_block = trimmed.starts_with(['#', '-', '*', '+', '>', '|']) || trimmed.is_empty();
            if begins_block || after_blank {
                plain.push('\n', number);
            } else {
                plain.push(' ', number);
            }
            after_blank = trimmed.is_empty() || trimmed.starts_with('#');
            for c in trimmed.chars() {
                match c {
                    '*' | '_' | '`' | '~' | '\u{ad}' | '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{feff}' => {}
                    c if c.is_whitespace() => plain.push(' ', number),
                    '‐' | '‑' | '‒' => plain.push('-', number),
                    c => plain.push(c, number),
                }
            }
        }
        plain
    }

    fn push(&mut self, c: char, line: u32) {
        if c == ' ' && self.text.ends_with([' ', '\n']) {
            return;
        }
        self.text.push(c);
        self.lines.resize(self.text.len(), line);
    }

    fn line_at(&self, byte: usize) -> usize {
        self.lines.get(byte).map_or(1, |&line| line as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn markers() -> Arc<Markers> {
        Markers::of(&DEFAULT.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn finds_what_asks_for_an_operator() {
        for text in [
            "Manual migration required",
            "This needs a **manual** migration.",
            "A manual\nmigration is needed",
            "a manual\u{a0}step",
            "Manual database migration: see below",
            "BREAKING CHANGE: the volume moved",
            "## Breaking changes\n\n- the volume moved",
            "this is a breaking-change",
            "Action required!",
            "You must run `abra app cmd x`",
            "the migration must be run by the operator",
            "Before upgrading, back up your database",
            "please run the migration",
            "No downtime. Manual migration required.",
            "It will not work without a manual migration",
            "no longer works without manual migration",
            "Manual migration is not required unless you use postgres 13",
            "no manual steps except: rotate the secret",
            "There are no breaking changes, but you must set FOO",
            "New required env variable FOO",
            "Breaking changes: no more sqlite",
            "operators need to insert a new secret",
            "m‍anual migration",
        ] {
            assert!(!markers().find(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn passes_what_asks_for_nothing_or_denies_it() {
        for text in [
            "",
            "Bump to 26.0.4",
            "Security fixes, faster start",
            "No manual migration needed",
            "no manual steps are required.",
            "There are no breaking changes.",
            "without breaking changes",
            "Breaking changes: none",
            "## Breaking changes\n\nNone\n\n## Fixes\n\n- a crash",
            "Manual migration is not needed.",
            "Manual steps are not required",
            "This is not a breaking change",
            "No further manual steps",
        ] {
            assert_eq!(markers().find(text), [], "{text}");
        }
    }

    #[test]
    fn names_line_and_phrase() {
        let found = markers().find("# 2.0\n\nfixes\nand a _manual_\nmigration\n");
        assert_eq!(
            found,
            [Found { line: 4, text: "and a _manual_".to_owned(), phrase: "manual migration".to_owned() }]
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_names_lines_that_exist(text in any::<String>()) {
            for found in markers().find(&text) {
                prop_assert!(found.line <= text.lines().count().max(1));
            }
        }

        #[test]
        fn a_marker_in_a_paragraph_of_its_own_is_always_found(before in "[a-zA-Z ,.\n]{0,80}", after in "[a-zA-Z ,.]{0,80}") {
            let text = format!("{before}\n\nmanual migration required.\n\n{after}");
            prop_assert!(!markers().find(&text).is_empty(), "{text}");
        }
    }
}
