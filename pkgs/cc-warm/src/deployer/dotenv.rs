//! The `.env` of an app, as abra reads it: what its lines mean, and edits in place. Lines may refer to earlier ones, to
//! themselves too (`COMPOSE_FILE="$COMPOSE_FILE:more.yml"`), so a file is never written anew from what it means.

use std::collections::BTreeMap;

use crate::identity::Env;

/// The keys that name the recipe, and behind a colon the version.
const RECIPE_KEYS: [&str; 2] = ["TYPE", "RECIPE"];

/// One assignment.
struct Line<'a> {
    /// Everything before the key: white space, `export`.
    lead: &'a str,
    key: &'a str,
    /// As written, quotes and comment included.
    written: &'a str,
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
    (plain && !key.as_bytes()[0].is_ascii_digit()).then_some(Line { lead, key, written })
}

/// What the lines of `text` come to, with nothing taken from anybody's environment.
#[must_use]
pub fn values(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter_map(assignment) {
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
    sample
        .lines()
        .filter_map(assignment)
        .filter(|line| value(line.written, &BTreeMap::new()).is_empty())
        .filter_map(|line| (!line.written.contains('$') || line.written.trim().is_empty()).then_some(line.key))
}

/// Whether the line of `key` says that its secret is nothing to be generated.
#[must_use]
pub fn not_generated(text: &str, key: &str) -> bool {
    let says = |written: &str| written.split_once('#').is_some_and(|(_, comment)| comment.contains("generate=false"));
    text.lines().filter_map(assignment).any(|line| line.key == key && says(line.written))
}

/// `text` with `wanted` in it: where a key is assigned, its last line is changed in place; else one is added at the end.
/// A value that is right already leaves its line as it is.
#[must_use]
pub fn lay(text: &str, wanted: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (key, value) in wanted {
        if values(&text).get(key) != Some(value) {
            text = replace_last(&text, key, &quoted(value))
                .unwrap_or_else(|| format!("{}{key}={}\n", with_newline(&text), quoted(value)));
        }
    }
    text
}

/// `text` naming `version` of `recipe`, on the line that names the recipe.
#[must_use]
pub fn with_version(text: &str, recipe: &str, version: &str) -> String {
    for key in RECIPE_KEYS {
        let quote = text.lines().filter_map(assignment).find(|line| line.key == key).map(|line| {
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
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines.iter().rposition(|line| assignment(line).is_some_and(|line| line.key == key))?;
    let line = assignment(lines[at].trim_end_matches(['\n', '\r']))?;
    let ending = &lines[at][lines[at].trim_end_matches(['\n', '\r']).len()..];
    let behind = &line.written[value_length(line.written)..];
    // Anything else was a part of the value, in a spelling that nobody reads alike.
    let comment = if behind.trim_start().starts_with('#') && behind.starts_with([' ', '\t']) { behind } else { "" };
    let changed = format!("{}{}={written}{comment}{ending}", line.lead, line.key);
    Some(lines[..at].concat() + &changed + &lines[at + 1..].concat())
}

/// How far the value reaches in what stands behind the `=`.
fn value_length(written: &str) -> usize {
    let start = written.len() - written.trim_start().len();
    let rest = &written[start..];
    if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\\' if quote == '"' && !escaped => escaped = true,
                c if c == quote && !escaped => return start + at + 1,
                _ => escaped = false,
            }
        }
    }
    let comment = [" #", "\t#"].iter().filter_map(|sign| written.find(sign)).min();
    let end = comment.unwrap_or(written.len());
    written[..end].trim_end().len().max(start)
}

fn value(written: &str, earlier: &BTreeMap<String, String>) -> String {
    let text = written[..value_length(written)].trim();
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).filter(|_| text.len() > 1);
    if let Some(literal) = inner('\'') {
        return literal.to_owned();
    }
    match inner('"') {
        Some(text) => expand(text, earlier, true),
        None => expand(text, earlier, false),
    }
}

/// `$NAME` and `${NAME}` from what stands before; in double quotes also `\n`, `\"` and the like.
fn expand(text: &str, earlier: &BTreeMap<String, String>, escapes: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let (sign, after) = (&rest[at..=at], &rest[at + 1..]);
        if sign == "\\" {
            let next = after.chars().next();
            match next {
                Some('$') => out.push('$'),
                Some('n') if escapes => out.push('\n'),
                Some('r') if escapes => out.push('\r'),
                Some(c) if escapes => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            }
            rest = &after[next.map_or(0, char::len_utf8)..];
            continue;
        }
        let (braced, name_on) = after.strip_prefix('{').map_or((false, after), |inside| (true, inside));
        let length = name_on.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        let closed = !braced || name_on[length..].starts_with('}');
        if length == 0 || !closed {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(earlier.get(&name_on[..length]).map_or("", String::as_str));
        rest = &name_on[length + usize::from(braced)..];
    }
    out + rest
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '"' | '\\' | '$' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text + "\""
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
        let text = "# mine\nA=1 # one\nexport B=\"two\"\nC=\"$A\"\nC=\"$C:x\"\n";
        let laid = lay(text, &of(&[("A", "1"), ("B", "it's $5"), ("C", "z"), ("NEW", "n")]));
        assert_eq!(laid, "# mine\nA=1 # one\nexport B=\"it's \\$5\"\nC=\"$A\"\nC=z\nNEW=n\n");
        assert_eq!(lay(&laid, &of(&[("B", "it's $5"), ("C", "z")])), laid, "done again, it changes nothing");
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
            let laid = lay(&text, &wanted);
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
