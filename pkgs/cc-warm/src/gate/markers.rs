//! Phrases in release notes that mean work for the operator. A phrase that denies one does not hold; where it is not clear
//! whether it denies, it holds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

pub use super::phrases::DEFAULT;

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
pub struct Markers {
    patterns: Vec<Pattern>,
    /// All of them at once: most notes match none.
    any: RegexSet,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// It names a character that [`Plain`] takes for emphasis, so it sees the text with those.
    keeps_emphasis: bool,
}

/// At most so many places of one note are named.
const MOST_FOUND: usize = 20;
/// And so many matches of one pattern are looked at.
const MOST_MATCHES: usize = 200;
/// Bytes before a match, and behind it, that may deny it. Nobody denies anything in a longer sentence.
const MOST_AROUND: usize = 2000;
/// The most memory that one compiled pattern may take.
const PATTERN_CAP: usize = 4 << 20;

/// Ends with a negation and nothing but filling after it. Behind `not`, what may be a verb or a place is none: "do not
/// restart before", "not in your environment".
static DENIED_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    const FILLING: &str = r"any|an?|the|further|additional|other|known|special|more|new|extra|database|db|data|schema|config\w*|manual|operator|user|admin\w*|be|is|are|to|need\w*|requir\w*|introduc\w*|contain\w*|includ\w*|involv\w*|caus\w*|expect\w*|do";
    const NOUNS: &str = r"changes?|restarts?|steps?|work|migrations?|downtime|backups?|settings?|environment|variables?|secrets?|of|in|you\w*";
    fixed(&format!(
        r"(?:\b(?:no|zero|without|nothing|free\s+of)(?:\s+(?:{FILLING}|{NOUNS}))*|(?:\bnot|n't)(?:\s+(?:{FILLING}))*)\s*$"
    ))
});
/// What says when something must be done; "no restart before the migration" denies the restart alone.
static IN_TIME: LazyLock<Regex> = LazyLock::new(|| fixed(r"^(?:before|prior|after|first)\b"));
static NEEDED: LazyLock<Regex> = LazyLock::new(|| fixed(r"\b(?:need|requir|necessary)"));
static NEGATION: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"\b(?:no|not|never|cannot|zero|without|nothing|fails?|unless|until|free\s+of)\b|n't\b"));
/// "Without it, …" says what happens otherwise.
static WITHOUT_FIRST: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\W*without\b"));
static DENIED_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"^\s*(?:\w+\s+){0,1}(?:(?:is|are|was|were)\s+(?:not|no longer)|(?:is|are|was|were)n't|not)\s+(?:\w+\s+)?(?:needed|required|necessary|expected|there)\b|^\s*[:-]?\s*(?:none|nothing|n/a|no)\s*(?:[.!\n]|$)",
    )
});
static EXCEPTION: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"\b(?:unless|except|but|only|if|however|otherwise|apart|though|still)\b"));

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles them")]
fn fixed(pattern: &str) -> Regex {
    build(pattern).expect("a constant pattern")
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).case_insensitive(true).size_limit(PATTERN_CAP).build()
}

/// Refuses what is no marker: it is compiled as the gate will.
pub fn check(pattern: &str) -> Result<(), regex::Error> {
    build(pattern).map(drop)
}

impl Markers {
    /// `patterns`, compiled once for as many apps as have the same.
    pub fn of(patterns: &[String]) -> Result<Arc<Self>, regex::Error> {
        static COMPILED: Mutex<BTreeMap<Vec<String>, Arc<Markers>>> = Mutex::new(BTreeMap::new());
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
        let pattern = |pattern: &String| -> Result<Pattern, regex::Error> {
            let keeps_emphasis = ["_", "`", "~", "<", r"\*", r"\[", r"\]"].iter().any(|mark| pattern.contains(mark));
            Ok(Pattern { regex: build(pattern)?, keeps_emphasis })
        };
        let any = RegexSetBuilder::new(patterns)
            .case_insensitive(true)
            .size_limit(PATTERN_CAP.saturating_mul(patterns.len().clamp(1, 16)))
            .build()?;
        Ok(Self { patterns: patterns.iter().map(pattern).collect::<Result<_, _>>()?, any })
    }

    /// Every place in `text` that a marker matches and nothing denies, at most one a line, in order.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for keeps_emphasis in [false, true] {
            if !self.patterns.iter().any(|pattern| pattern.keeps_emphasis == keeps_emphasis) {
                continue;
            }
            let plain = Plain::of(text, keeps_emphasis);
            let patterns = self.any.matches(&plain.text).into_iter().map(|index| &self.patterns[index]);
            let patterns = patterns.filter(|pattern| pattern.keeps_emphasis == keeps_emphasis);
            let mut matches: Vec<Range<usize>> = patterns
                .flat_map(|pattern| pattern.regex.find_iter(&plain.text).take(MOST_MATCHES))
                .map(|found| found.range())
                .filter(|range| !range.is_empty())
                .collect();
            matches.sort_by_key(|range| (range.start, range.end));
            for range in matches.iter().filter(|range| !denied(&plain.text, range, &matches)) {
                let line = plain.line_at(range.start);
                if all.iter().any(|found| found.line == line) {
                    continue;
                }
                let short = |text: &str| text.chars().take(200).collect::<String>();
                let phrase = plain.text[range.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
                let text = short(text.lines().nth(line - 1).unwrap_or_default().trim());
                all.push(Found { line, text, phrase: short(&phrase) });
                if all.len() == MOST_FOUND {
                    break;
                }
            }
        }
        all.sort_by_key(|found| found.line);
        all
    }
}

/// Whether what stands around `matched` in its own sentence denies it. `all` are the matches, in order.
fn denied(text: &str, matched: &Range<usize>, all: &[Range<usize>]) -> bool {
    let ends = ['.', '!', '?', ';', '\n'];
    let near = text.floor_char_boundary(matched.start.saturating_sub(MOST_AROUND));
    let begin = match text[near..matched.start].rfind(ends) {
        Some(at) => near + at + 1,
        None if near == 0 => 0,
        None => return false,
    };
    // What other markers matched is filling: "no manual migration needed" holds two.
    let mut before = String::new();
    let mut at = begin;
    for other in all.iter().filter(|other| other.start >= begin && other.start < matched.start) {
        before.push_str(text.get(at..other.start.max(at)).unwrap_or_default());
        at = at.max(other.end.min(matched.start));
    }
    before.push_str(text.get(at..matched.start).unwrap_or_default());
    let whole_before = &text[begin..matched.start];
    let after = &text[matched.end..text.ceil_char_boundary(matched.end.saturating_add(MOST_AROUND).min(text.len()))];
    // A heading "Breaking changes" with "None" below it is one thought.
    let after_sentence = &after[..after.find(['.', '!', '?', ';']).unwrap_or(after.len())];
    let after_line = &after[..after.find(ends).unwrap_or(after.len())];
    if EXCEPTION.is_match(after_line) || EXCEPTION.is_match(whole_before) {
        return false;
    }
    let otherwise = WITHOUT_FIRST.is_match(whole_before) && !after_line.trim().is_empty();
    let of_time = || IN_TIME.is_match(&text[matched.clone()]) && !NEEDED.is_match(&before);
    let denied_before = DENIED_BEFORE.is_match(&before)
        && !of_time()
        && NEGATION.find_iter(whole_before).count() == 1
        && !NEGATION.is_match(after_line)
        && !otherwise;
    let denied_after = DENIED_AFTER.is_match(after_sentence) && !NEGATION.is_match(whole_before);
    denied_before || denied_after
}

/// Markup that stands inside of phrases: tags that only style, and the targets of links.
static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"</?(?:a|abbr|b|big|br|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|ins|kbd|li|mark|ol|p|s|small|span|strike|strong|sub|summary|sup|td|th|tr|tt|u|ul)(?:\s[^<>]{0,300})?/?>|\]\([^()\s]{0,300}\)|&(?:nbsp|#160|ensp|emsp|thinsp);",
    )
});

/// A line that only says that the next ones matter.
static SHOUT: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^\W*(?:important|attention|warning|caution|danger|note|breaking)\W*$"));

/// A note as one searches it: paragraphs as lines, no emphasis, single spaces; and which line each byte came from.
struct Plain {
    text: String,
    /// For each byte of `text`, its line, from 1.
    lines: Vec<u32>,
    /// Whether the line before was a quotation.
    quoted: bool,
}

impl Plain {
    fn of(text: &str, keeps_emphasis: bool) -> Self {
        let mut plain = Self { text: String::new(), lines: Vec::new(), quoted: false };
        let mut after_blank = true;
        for (number, line) in text.lines().enumerate() {
            let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
            let trimmed = line.trim();
            let begins_block = trimmed.is_empty()
                || trimmed.starts_with(['#', '+', '>', '|'])
                // A list item; `**bold**` at the start of a line is none.
                || trimmed.starts_with("- ")
                || trimmed.starts_with("* ")
                || trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(". ");
            let quoted_on = trimmed.starts_with('>') && plain.quoted && !after_blank;
            if (begins_block || after_blank) && !quoted_on {
                plain.push('\n', number);
            } else {
                plain.push(' ', number);
            }
            plain.quoted = trimmed.starts_with('>') && !trimmed.trim_start_matches(['>', ' ']).is_empty();
            after_blank = trimmed.is_empty() || trimmed.starts_with('#') || SHOUT.is_match(trimmed);
            let content = if quoted_on { trimmed.trim_start_matches(['>', ' ']) } else { trimmed };
            if keeps_emphasis {
                content.chars().for_each(|c| plain.push(if c.is_whitespace() { ' ' } else { c }, number));
            } else {
                let replaced = MARKUP.replace_all(content, |found: &regex::Captures<'_>| {
                    let found = &found[0];
                    if found.starts_with('&') || found.contains("br") || found.contains("li") { " " } else { "" }
                });
                replaced.chars().for_each(|c| plain.push_plain(c, number));
            }
        }
        plain
    }

    fn push_plain(&mut self, c: char, line: u32) {
        match c {
            '*' | '`' | '~' | '[' | ']' | '\\' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {}
            '_' => self.push(' ', line),
            '‐' | '‑' | '‒' | '–' | '−' => self.push('-', line),
            '’' | 'ʼ' => self.push('\'', line),
            c if c.is_whitespace() => self.push(' ', line),
            c => self.push(c, line),
        }
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
        let (markers, mut missed) = (markers(), Vec::new());
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
            "This requires manual-migration of the volume",
            "<b>Breaking</b> <i>change</i>",
            "[Breaking](https://h/x) changes",
            "A breaking config change",
            "BREAKING: sqlite is gone",
            "> **Warning**\n> the volume moved",
            "> [!IMPORTANT]\n> read the guide",
            "# Attention!\n\nthe volume moved",
            "WARNING: the volume moved",
            "⚠️ the volume moved",
            "> a manual\n> migration",
            "1. run the migration\n2. Please re-deploy",
            "Don’t forget to update your .env",
            "please add `FOO=bar` to your .env",
            "Please compare your config with .env.sample",
            "The variable `FOO` was renamed to `BAR`",
            "SMTP_HOST must be set now",
            "Secrets must be regenerated",
            "Generate a new secret with `abra app secret generate -a example.org`",
            "run `abra app YOURAPPDOMAIN cmd app migrate`",
            "Users will have to log in again, and you'll need to run occ upgrade",
            "After upgrading, run occ db:add-missing-indices",
            "docker exec into the container",
            "take a backup of the database first",
            "Once done it cannot be rolled back",
            "Don't upgrade if you use LDAP",
            "There is no automatic migration: data will be lost",
            "No breaking changes in the API. Postgres upgrade required, see the migration guide",
            "Not only manual steps, but also new secrets",
            "no more manual_migration script; migrate by hand",
            "There are no manual steps unless you use S3",
            "Without manual migration the app does not start",
            "No action required? Wrong: action required",
        ] {
            missed.extend(markers.find(text).is_empty().then_some(text));
        }
        assert_eq!(missed, Vec::<&str>::new());
    }

    #[test]
    fn passes_what_asks_for_nothing_or_denies_it() {
        let (markers, mut wrong) = (markers(), Vec::new());
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
            "No **manual migration** needed",
            "no manual\nmigration\nis needed",
            "No\u{a0}manual\u{a0}steps",
            "This upgrade does not require any manual intervention.",
            "It doesn't need a manual migration",
            "There aren't any breaking changes",
            "No action is required.",
            "No action required",
            "You do not need to do anything.",
            "you don't have to change anything",
            "nothing must be changed by hand",
            "Without any breaking changes.",
            "zero breaking changes",
            "Important fixes for the login page",
            "Fixes a warning in the log",
            "Adds support for generating sitemaps",
            "chore: update image to v1.2.3",
            "Manual: typo fixed",
            "upgraded the base image; faster migrations",
        ] {
            wrong.extend(markers.find(text).into_iter().map(|found| (text, found.phrase)));
        }
        assert_eq!(wrong, []);
    }

    #[test]
    fn what_stands_far_away_denies_nothing() {
        let far = "and so on, ".repeat(MOST_AROUND);
        for (note, holds) in [
            (format!("There is no {far} manual migration"), true),
            (format!("A manual migration {far} is not needed"), true),
            (format!("{far}. No manual migration is needed. {far}"), false),
            (format!("{} no manual migration", "ä".repeat(MOST_AROUND)), true),
        ] {
            assert_eq!(markers().find(&note).is_empty(), !holds, "{}…", &note[..40]);
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
