//! The `.env` of an app, as abra reads it (`godotenv` 1.5): what its lines mean, and edits in place. Lines may refer to earlier
//! ones, to themselves too (`COMPOSE_FILE="$COMPOSE_FILE:more.yml"`), so a file is never written anew from what it means.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::identity::Env;

/// The keys that name the recipe, and behind a colon the version.
const RECIPE_KEYS: [&str; 2] = ["TYPE", "RECIPE"];

/// One assignment.
struct Line<'a> {
    /// Where it stands, up to the end of its last line.
    span: Range<usize>,
    /// Everything before the key: white space, `export`.
    lead: &'a str,
    key: &'a str,
    /// As written, quotes and comment included.
    written: &'a str,
}

/// Every assignment in `text`. What is in quotes may go on over lines, and nothing in it is an assignment.
fn assignments(text: &str) -> Vec<Line<'_>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |length| from + length);
        let mut end = line_end(at);
        if let Some(mut line) = assignment(text[at..end].trim_end_matches('\r')) {
            let start = at + line.lead.len() + text[at + line.lead.len()..].find('=').map_or(0, |sign| sign + 1);
            if let Some(length) = quoted_length(&text[start..]) {
                end = line_end(start + length);
            }
            line.written = text[start..end].trim_end_matches('\r');
            line.span = at..start + line.written.len();
            all.push(line);
        }
        at = end + 1;
    }
    all
}

fn assignment(line: &str) -> Option<Line<'_>> {
    let mut rest = line.trim_start();
    if let Some(exported) = rest.strip_prefix("export").filter(|after| after.starts_with([' ', '\t'])) {
        rest = exported.trim_start();
    }
    let lead = &line[..line.len() - rest.len()];
    let (key, written) = rest.split_once('=')?;
    let key = key.trim_end();
    let plain = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    (plain && !key.as_bytes()[0].is_ascii_digit()).then_some(Line { span: 0..line.len(), lead, key, written })
}

/// What the lines of `text` come to, with nothing taken from anybody's environment.
#[must_use]
pub fn values(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in assignments(text) {
        let value = value(line.written, &all);
        all.insert(line.key.to_owned(), value);
    }
    all
}

/// What identifies the configuration in `text`: everything but the version, which a deployment writes.
#[must_use]
pub fn effective(text: &str) -> Env {
    let mut all = values(text);
    for key in RECIPE_KEYS {
        if let Some(value) = all.get_mut(key)
            && let Some(at) = value.find(':')
        {
            value.truncate(at);
        }
    }
    Env(all)
}

/// The version (or, after a chaos deployment, the commit) that `text` says is deployed.
#[must_use]
pub fn version(text: &str) -> Option<String> {
    let all = values(text);
    RECIPE_KEYS.iter().find_map(|key| all.get(*key)?.split_once(':').map(|(_, version)| version.to_owned()))
}

/// Keys that a `.env.sample` wants set: assigned nothing, with no comment sign before them.
pub fn required(sample: &str) -> impl Iterator<Item = &str> {
    assignments(sample)
        .into_iter()
        .filter(|line| value(line.written, &BTreeMap::new()).is_empty())
        .filter_map(|line| (!line.written.contains('$') || line.written.trim().is_empty()).then_some(line.key))
}

/// Whether the line of `key` says that its secret is nothing to be generated.
#[must_use]
pub fn not_generated(text: &str, key: &str) -> bool {
    let says = |written: &str| written.split_once('#').is_some_and(|(_, comment)| comment.contains("generate=false"));
    assignments(text).iter().any(|line| line.key == key && says(line.written))
}

/// `text` with `wanted` in it: where a key is assigned, its last line is changed in place; else one is added at the end.
/// A value that is right already leaves its line as it is. Fails where abra would not read it so.
pub fn lay(text: &str, wanted: &BTreeMap<String, String>) -> Result<String> {
    let mut text = text.to_owned();
    for (key, value) in wanted {
        if values(&text).get(key) != Some(value) {
            // A value may be secret: it is not quoted.
            let written = quoted(value).with_context(|| {
                format!("the value of `{key}` cannot be written into an `.env` so that abra reads it: it ends with a quotation mark or a backslash")
            })?;
            text = replace_last(&text, key, &written)
                .unwrap_or_else(|| format!("{}{key}={written}\n", with_newline(&text)));
        }
    }
    let read = values(&text);
    let lost = wanted.iter().find(|(key, value)| read.get(*key) != Some(*value));
    lost.is_none().then_some(text).with_context(|| {
        let key = lost.map(|(key, _)| key.as_str()).unwrap_or_default();
        format!("`{key}` cannot be set in the `.env`: a quotation mark before it has no other that ends it")
    })
}

/// `text` naming `version` of `recipe`, on the line that names the recipe.
#[must_use]
pub fn with_version(text: &str, recipe: &str, version: &str) -> String {
    for key in RECIPE_KEYS {
        let quote = assignments(text).iter().find(|line| line.key == key).map(|line| {
            line.written
                .trim_start()
                .chars()
                .next()
                .filter(|c| matches!(c, '"' | '\''))
                .map_or("", |c| if c == '"' { "\"" } else { "'" })
        });
        if let Some(quote) = quote
            && let Some(changed) = replace_last(text, key, &format!("{quote}{recipe}:{version}{quote}"))
        {
            return changed;
        }
    }
    format!("{}TYPE={recipe}:{version}\n", with_newline(text))
}

/// `text` naming whatever version `other` names.
#[must_use]
pub fn with_version_of(text: &str, recipe: &str, other: &str) -> String {
    match version(other) {
        Some(version) => with_version(text, recipe, &version),
        None => text.to_owned(),
    }
}

fn with_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// The last line that assigns `key`, with `written` for its value; a comment behind the value stays.
fn replace_last(text: &str, key: &str, written: &str) -> Option<String> {
    let line = assignments(text).into_iter().rfind(|line| line.key == key)?;
    let behind = &line.written[value_length(line.written)..];
    // Anything else was a part of the value, in a spelling that nobody reads alike.
    let comment = if behind.trim_start().starts_with('#') && behind.starts_with([' ', '\t']) { behind } else { "" };
    let changed = format!("{}{}={written}{comment}", line.lead, line.key);
    Some(format!("{}{changed}{}", &text[..line.span.start], &text[line.span.end..]))
}

/// How far what is in quotes reaches, those included; `None`: it is not in quotes.
fn quoted_length(written: &str) -> Option<usize> {
    let start = written.len() - written.trim_start_matches([' ', '\t']).len();
    let quote = written[start..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let bytes = written.as_bytes();
    // A backslash before it keeps a quote from ending the value, whatever stands before the backslash.
    let end = (start + 1..bytes.len()).find(|&at| bytes[at] == quote as u8 && bytes[at - 1] != b'\\')?;
    Some(end + 1)
}

/// How far the value reaches in what stands behind the `=`.
fn value_length(written: &str) -> usize {
    quoted_length(written).unwrap_or_else(|| {
        let start = written.len() - written.trim_start().len();
        let comment = [" #", "\t#"].iter().filter_map(|sign| written.find(sign)).min();
        let end = comment.unwrap_or(written.len());
        written[..end].trim_end().len().max(start)
    })
}

fn value(written: &str, earlier: &BTreeMap<String, String>) -> String {
    let Some(end) = quoted_length(written) else { return expand(written[..value_length(written)].trim(), earlier) };
    let text = written[..end - 1].trim_start().replace("\r\n", "\n");
    // All of them go, not only the outermost.
    match text.trim_matches('"') {
        _ if text.starts_with('\'') => text.trim_matches('\'').to_owned(),
        inner => expand(&unescaped(inner), earlier),
    }
}

/// `text` of double quotes without its backslashes, but for those before a `$`.
fn unescaped(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = if c == '\\' { rest.clone().next() } else { None };
        match next {
            Some('n') => done.push('\n'),
            Some('r') => done.push('\r'),
            Some(other) if other != '$' => done.push(other),
            _ => {
                done.push(c);
                continue;
            }
        }
        rest.next();
    }
    done
}

/// `$NAME` and `${NAME}` from what stands before. Only names in capitals are any, and a bracket before one is taken for a part of it.
fn expand(text: &str, earlier: &BTreeMap<String, String>) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let escaped = rest[..at].ends_with('\\');
        done.push_str(&rest[..at - usize::from(escaped)]);
        let after = &rest[at + 1..];
        let inside = after.strip_prefix('(').unwrap_or(after);
        let inside = inside.strip_prefix('{').unwrap_or(inside);
        let is_name = |c: &u8| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == b'_';
        let length = inside.bytes().take_while(is_name).count();
        let behind = inside[length..].strip_prefix('}').unwrap_or(&inside[length..]);
        let literal = &rest[at..rest.len() - behind.len()];
        match &inside[..length] {
            _ if escaped => done.push_str(literal),
            "" => done.push_str(literal),
            name => done.push_str(earlier.get(name).map_or("", String::as_str)),
        }
        rest = behind;
    }
    done + rest
}

/// `value` as it is written; `None`: there is no way to write it.
fn quoted(value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c);
    let mut double = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => double.push_str("\\n"),
            '\r' => double.push_str("\\r"),
            '"' | '\\' | '$' => double.extend(['\\', c]),
            c => double.push(c),
        }
    }
    double.push('"');
    let bare = value.replace('$', "\\$");
    let mut ways = [value.to_owned(), format!("'{value}'"), double, bare].into_iter();
    // Before a comment, nothing at all is not read as nothing.
    if value.is_empty() || !value.chars().all(plain) {
        ways.next();
    }
    // A quotation mark that nothing ends is refused.
    let is_whole = |written: &String| quoted_length(written).is_some() || !written.starts_with(['"', '\'']);
    ways.filter(|written| !written.contains(['\n', '\r']) && is_whole(written)).find(|written| {
        let read = values(&format!("V={written} # c\nNEXT=1\n"));
        read.len() == 2 && read.get("V").is_some_and(|read| read == value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn reads_lines_as_abra_does() {
        let text = "# c\nTYPE=notes:1.0.0+1\nexport A=1\n B = \"x $A ${A}y \\$A\\n\" # why\nC='$A # no'\nD=a#b # c\nE=\n\
                    COMPOSE_FILE=\"compose.yml\"\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.db.yml\"\n#F=1\n2G=1\nnothing\nH=$UNSET.\n";
        let expected = of(&[
            ("TYPE", "notes:1.0.0+1"),
            ("A", "1"),
            ("B", "x 1 1y $A\n"),
            ("C", "$A # no"),
            ("D", "a#b"),
            ("E", ""),
            ("COMPOSE_FILE", "compose.yml:compose.db.yml"),
            ("H", "."),
        ]);
        assert_eq!(values(text), expected);
        assert_eq!(version(text).as_deref(), Some("1.0.0+1"));
    }

    #[test]
    fn what_abra_writes_into_it_changes_no_identity() {
        let text = "TYPE=notes\nDOMAIN=a.b\n";
        let written = with_version(text, "notes", "1.0.0+1");
        assert_eq!(written, "TYPE=notes:1.0.0+1\nDOMAIN=a.b\n");
        assert_eq!(effective(text).digest(), effective(&written).digest());
        assert_ne!(effective(text).digest(), effective("TYPE=notes\nDOMAIN=a.c\n").digest());
    }

    #[test]
    fn the_version_is_written_in_place() {
        for (text, expected) in [
            ("A=1\nTYPE=\"notes:1.0.0+1\" # what\nB=2\n", "A=1\nTYPE=\"notes:2.0.0+1\" # what\nB=2\n"),
            ("RECIPE=notes\r\nB=2", "RECIPE=notes:2.0.0+1\r\nB=2"),
            ("B=2", "B=2\nTYPE=notes:2.0.0+1\n"),
            ("TYPE=\"a\"'b\n", "TYPE=\"notes:2.0.0+1\"\n"),
        ] {
            assert_eq!(with_version(text, "notes", "2.0.0+1"), expected);
            assert_eq!(version(expected).as_deref(), Some("2.0.0+1"));
        }
        assert_eq!(with_version_of("TYPE=a:1\n", "a", "TYPE=a:2\n"), "TYPE=a:2\n");
    }

    #[test]
    fn lays_its_own_keys_in_place_and_leaves_the_rest() {
        let text = "# mine\nA=1 # one\nexport B=\"two\"\nC=\"$A\"\nC=\"$C:x\"\nD='1\n2' # d\nE=5\n";
        let wanted = of(&[("A", "1"), ("B", "it's $5"), ("C", "z"), ("D", "1 2"), ("NEW", "n")]);
        let laid = lay(text, &wanted).unwrap();
        let expected = "# mine\nA=1 # one\nexport B=\"it's \\$5\"\nC=\"$A\"\nC=z\nD='1 2' # d\nE=5\nNEW=n\n";
        assert_eq!(laid, expected);
        let again = lay(&laid, &of(&[("B", "it's $5"), ("C", "z")])).unwrap();
        assert_eq!(again, laid, "done again, it changes nothing");
    }

    #[test]
    fn a_value_is_written_so_that_abra_reads_it_or_not_at_all() {
        for (value, written) in [
            ("a-1", Some("a-1")),
            ("", Some("''")),
            ("p$w x", Some("'p$w x'")),
            (r"a\", Some(r"a\")),
            (r"a$B\", Some(r"a\$B\")),
            ("it's", Some("\"it's\"")),
            ("it's \"x\"", Some("it's \"x\"")),
            ("\"x\"", Some("'\"x\"'")),
            ("1\n2", Some("\"1\\n2\"")),
            ("1\n2\\", None),
            ("1\n\"2\"", None),
            ("\"it's\"", None),
            (" #\\", None),
            ("'\\", None),
            ("'\"", None),
        ] {
            assert_eq!(quoted(value).as_deref(), written, "{value:?}");
            let laid = lay("A=1\n", &of(&[("A", value)])).ok();
            assert_eq!(laid, written.map(|written| format!("A={written}\n")), "{value:?}");
        }
        let error = lay("A='1\n", &of(&[("B", "secret's")])).unwrap_err().to_string();
        assert!(error.contains("`B`") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn quotes_names_and_backslashes_are_read_as_abra_does() {
        let text = "A='1\nB=no\n2'\r\nC=\"-\r\n-\" # c\nD=\"a\\\"b\\\\\\$A\\x\"\nE=$A$lower ${A} ${X}\nF=user:$2y$05$abc\n\
                    G='$A \\' # '\nL=5\n";
        let expected = of(&[
            ("A", "1\nB=no\n2"),
            ("C", "-\n-"),
            ("D", "a\"b\\$Ax"),
            ("E", "1\nB=no\n2$lower 1\nB=no\n2 "),
            ("F", "user:y$abc"),
            ("G", "$A \\' # "),
            ("L", "5"),
        ]);
        assert_eq!(values(text), expected);
        let bare = "A=1\nH=${A:-1} \\$A $(x) $(A) $ ${}\nI=\"\"\nJ=\\\nK='it\nL=5\n";
        let expected =
            of(&[("A", "1"), ("H", "1:-1} $A $(x) 1) $ ${}"), ("I", ""), ("J", "\\"), ("K", "'it"), ("L", "5")]);
        assert_eq!(values(bare), expected);
        assert_eq!(required("A='\nB=\n'\nC=\n").collect::<Vec<_>>(), ["C"]);
    }

    #[test]
    fn knows_what_a_sample_requires_and_what_is_not_generated() {
        let sample = "TYPE=a\nA=\nB=\"\" # fill in\n#C=\nD=$A\nE=x\nSECRET_K_VERSION=v1 # length=10 generate=false\n";
        assert_eq!(required(sample).collect::<Vec<_>>(), ["A", "B"]);
        assert!(not_generated(sample, "SECRET_K_VERSION") && !not_generated(sample, "E"));
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read_back_as_it_was_laid(value in "[^\0]{0,30}", text in "([A-C]=[a-z$\"' #]{0,8}\n){0,4}") {
            let wanted = of(&[("B", &value), ("Z", &value)]);
            let Ok(laid) = lay(&text, &wanted) else {
                proptest::prop_assert!(value.ends_with(['"', '\'', '\\']) || text.contains(['"', '\'']));
                return Ok(());
            };
            let read = values(&laid);
            proptest::prop_assert_eq!(read.get("B"), Some(&value), "{}", laid);
            proptest::prop_assert_eq!(read.get("Z"), Some(&value), "{}", laid);
        }

        #[test]
        fn nothing_in_a_file_makes_it_panic(text in "[ -~\n\té$\"'\\\\{}]{0,80}") {
            let _ = (values(&text), effective(&text), version(&text), required(&text).count());
            let _ = with_version(&text, "r", "1");
        }
    }
}
