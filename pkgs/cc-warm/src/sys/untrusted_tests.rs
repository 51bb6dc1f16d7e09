use proptest::prelude::*;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::nasty::CORPUS;
use super::*;

/// The corpus, pieces of it glued together, and anything at all.
fn foreign() -> impl Strategy<Value = String> {
    let piece = || prop::sample::select(CORPUS);
    prop_oneof![
        2 => piece().prop_map(str::to_owned),
        3 => prop::collection::vec(piece(), 2..5).prop_map(|pieces| pieces.concat()),
        2 => (piece(), any::<String>()).prop_map(|(a, b)| format!("{b}{a}")),
        1 => any::<String>(),
    ]
}

/// Every sink's claim, on `text`.
fn check(text: &str) {
    let foreign = Untrusted::new(text);
    terminal(&foreign);
    html(&foreign);
    xml(&foreign);
    header(&foreign);
    metrics(&foreign);
    markdown_span(&foreign);
    markdown_block(&foreign);
    let json = serde_json::to_string(&foreign).unwrap();
    assert_eq!(serde_json::from_str::<Untrusted>(&json).unwrap(), foreign);
    assert!(!json.contains('\n') && !json.contains('\u{1b}'));
}

/// Written apart from `hidden`, and narrower: what the Unicode standard and terminals say must never get through.
fn harmful(c: char) -> bool {
    let bidi = matches!(u32::from(c), 0x61c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
    let invisible = matches!(u32::from(c), 0xad | 0x200b..=0x200d | 0x2060..=0x2064 | 0xfeff | 0xe0000..=0xe007f);
    let cursor = u32::from(c) < 0x20 || matches!(u32::from(c), 0x7f..=0x9f | 0x2028 | 0x2029);
    bidi || invisible || cursor
}

fn terminal(foreign: &Untrusted) {
    assert!(!foreign.terminal().contains(harmful), "{foreign:?}");
    let lines = foreign.terminal_lines();
    assert!(!lines.replace(['\n', '\t'], "").contains(harmful), "{lines:?}");
    assert!(!format!("{foreign:?}").contains(harmful));
}

fn html(foreign: &Untrusted) {
    let html = foreign.html();
    assert!(!html.contains(['<', '>', '"', '\'', '`']), "{html}");
    let mut decoded = String::new();
    let mut rest = html.as_str();
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        let (entity, c) =
            [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&#39;", '\''), ("&#96;", '`')]
                .into_iter()
                .find(|(entity, _)| rest[at..].starts_with(entity))
                .unwrap_or_else(|| panic!("a bare & in {html}"));
        decoded.push(c);
        rest = &rest[at + entity.len()..];
    }
    decoded.push_str(rest);
    assert_eq!(decoded, foreign.terminal_lines());
}

fn xml(foreign: &Untrusted) {
    let xml = format!("<a b=\"{0}\" c='{0}'>{0}</a>", foreign.xml());
    let document = roxmltree::Document::parse(&xml).unwrap_or_else(|e| panic!("{e}: {xml}"));
    let root = document.root_element();
    assert_eq!(root.children().filter(|child| !child.is_text()).count(), 0, "{xml}");
    for got in [root.text().unwrap_or_default(), root.attribute("b").unwrap(), root.attribute("c").unwrap()] {
        assert_eq!(got, foreign.terminal_lines(), "{xml}");
    }
}

fn header(foreign: &Untrusted) {
    let value = foreign.header();
    assert!(value.bytes().all(|c| (0x20..=0x7e).contains(&c)) && value.len() <= HEADER_CAP, "{value:?}");
    assert_eq!(value, value.trim());
    ureq::http::HeaderValue::from_str(&value).unwrap();
}

fn metrics(foreign: &Untrusted) {
    let label = foreign.metrics_label();
    // Read as Prometheus reads a label's value: to the first quote that no backslash escapes.
    let line = format!("{label}\"}} 1");
    let mut chars = line.chars();
    let mut value = String::new();
    loop {
        match chars.next().unwrap() {
            '"' => break,
            '\n' => panic!("a line break in {label}"),
            '\\' => match chars.next().unwrap() {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => panic!("\\{c} in {label}"),
            },
            c => value.push(c),
        }
    }
    assert_eq!((value, chars.as_str()), (foreign.terminal(), "} 1"));
}

fn events(markdown: &str) -> Vec<Event<'_>> {
    Parser::new_ext(markdown, Options::all()).collect()
}

/// Within a sentence, a list and a table's cell, all of it is one code span.
fn markdown_span(foreign: &Untrusted) {
    let span = foreign.markdown();
    for (around, before, after) in [
        (format!("before {span} after"), "before ", " after"),
        (format!("- before {span} after\n- next"), "before ", " after"),
        (format!("> # before {span} after"), "before ", " after"),
        (format!("| a | b |\n|---|---|\n| before {span} after | y |"), "before ", " after"),
    ] {
        let all = events(&around);
        let code: Vec<&str> =
            all.iter().filter_map(|e| if let Event::Code(c) = e { Some(&**c) } else { None }).collect();
        let [code] = code[..] else { panic!("{around:?}: {all:?}") };
        let shown = foreign.terminal().replace('|', "\\u{7c}");
        // Runs of spaces at the ends are the renderer's.
        assert_eq!(code.trim_matches(' '), shown.trim_matches(' '), "{around:?}");
        let texts: Vec<&str> =
            all.iter().filter_map(|e| if let Event::Text(t) = e { Some(&**t) } else { None }).collect();
        assert!(texts.contains(&before) && texts.contains(&after), "{around:?}: {all:?}");
        let foreign_tag = |e: &Event| {
            matches!(
                e,
                Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::CodeBlock(_) | Tag::HtmlBlock)
                    | Event::Html(_)
                    | Event::InlineHtml(_)
                    | Event::FootnoteReference(_)
                    | Event::InlineMath(_)
                    | Event::DisplayMath(_)
            )
        };
        assert!(!all.iter().any(foreign_tag), "{around:?}: {all:?}");
    }
}

/// As a block, all of it is one block of code, and what follows is not in it.
fn markdown_block(foreign: &Untrusted) {
    let page = format!("before\n\n{}\nafter", foreign.markdown_block());
    let all = events(&page);
    let outside = |text: &'static str| [Event::Text(text.into()), Event::End(TagEnd::Paragraph)];
    assert_eq!(all[1..3], outside("before"), "{page:?}");
    assert_eq!(all[all.len() - 2..], outside("after"), "{page:?}");
    let block = &all[3..all.len() - 3];
    assert_eq!(block.first(), Some(&Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced("text".into())))), "{page:?}");
    assert_eq!(block.last(), Some(&Event::End(TagEnd::CodeBlock)), "{page:?}");
    let inner: String = block[1..block.len() - 1]
        .iter()
        .map(|event| if let Event::Text(text) = event { &**text } else { panic!("{page:?}: {event:?}") })
        .collect();
    assert_eq!(inner.trim_end_matches('\n'), foreign.terminal_lines().trim_end_matches('\n'), "{page:?}");
}

#[test]
fn every_sink_holds_its_claim_on_the_nasty_corpus() {
    for text in CORPUS {
        check(text);
    }
}

proptest! {
    #[test]
    fn every_sink_holds_its_claim_on_anything(text in foreign()) {
        check(&text);
    }
}

#[test]
fn shows_what_people_need_as_it_is() {
    let text = Untrusted::new("Grüße: \"x\" <y> & z\\ 日本語");
    assert_eq!(text.terminal(), text.raw());
    assert_eq!(text.html(), "Grüße: &quot;x&quot; &lt;y&gt; &amp; z\\ 日本語");
    assert_eq!(Untrusted::new("tab\u{e9}\u{1b}").header(), "tab\\u{e9}\\u{1b}");
    assert_eq!(Untrusted::new("a`b").markdown(), "`` a`b ``");
    assert_eq!(Untrusted::new("a\"b\\").metrics_label(), "a\\\"b\\\\");
}

#[test]
fn a_cap_says_how_much_is_left_out() {
    assert_eq!(Untrusted::new("äöü").capped(3).raw(), "äöü");
    assert_eq!(Untrusted::new("äöüß").capped(1).raw(), "ä… (3 more characters)");
}
