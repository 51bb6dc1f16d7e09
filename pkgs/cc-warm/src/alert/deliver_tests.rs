#[path = "deliver_once_tests.rs"]
mod once;

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};

use super::*;
use crate::alert::{Alert, Kind, Raised};
use crate::config::names::AppName;
use crate::config::secret::SecretFile;
use crate::sys::dirs::Dirs;
use crate::sys::test_server::{Received, Reply, Server};
use crate::sys::untrusted::{Untrusted, nasty};

const DAY: i64 = 24 * 60 * 60;

struct Fixture {
    outbox: Outbox,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(&Dirs::new(dir.path()), "warm1", Duration::from_hours(7 * 24));
        Self { outbox, dir }
    }

    fn deliver(&self, sinks: &BTreeMap<String, Sink>, second: i64) -> Delivery {
        self.outbox.deliver(sinks, at(second), &Options::default()).unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_788_300_000 + second).unwrap()
}

fn login() -> AppName {
    "login".parse().unwrap()
}

fn held(version: &str) -> Alert {
    Alert::new(Kind::Held, version, format!("login: {version} is held"))
        .app(&login())
        .fact("reason", "a major step")
        .notes(Untrusted::new("Run the\nmigration."))
        .hint(format!("cc-warm approve login {version}"))
}

fn event(n: usize) -> Alert {
    Alert::new(Kind::Test, n.to_string(), format!("event {n}"))
}

fn webhook(url: &str) -> Sink {
    Sink::Webhook { url: url.to_owned(), token_file: None }
}

fn sinks(all: impl IntoIterator<Item = (&'static str, Sink)>) -> BTreeMap<String, Sink> {
    all.into_iter().map(|(name, sink)| (name.to_owned(), sink)).collect()
}

/// A receiver whose status the test sets.
fn receiver() -> (Server, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let answer = Arc::clone(&status);
    let server = Server::start(move |_| Reply::text(answer.load(Ordering::SeqCst), "receiver says no"));
    (server, status)
}

fn titles(server: &Server) -> Vec<String> {
    server.received().iter().map(|got| got.json()["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_webhooks_json_is_the_documented_one() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let token = fixture.dir.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    fixture.outbox.raise(held("2.0.0+26.0"), at(0)).unwrap();
    let sink = Sink::Webhook { url: server.url("/hook"), token_file: Some(token.into()) };
    let delivery = fixture.deliver(&sinks([("hook", sink)]), 5);
    assert_eq!((delivery.sent, delivery.left), (1, 0));
    let got = &server.received()[0];
    assert_eq!((got.line.as_str(), got.header("authorization")), ("POST /hook", Some("Bearer s3cret")));
    let mut body = got.json();
    assert_eq!(got.header("idempotency-key"), body["id"].as_str());
    let id = body["id"].take();
    let id = id.as_str().unwrap().split('.').collect::<Vec<_>>();
    assert_eq!((&id[..2], &id[3..]), (&["login", "held"][..], &["1788300000", "1"][..]));
    assert_eq!(
        body,
        json!({
            "format": 1, "id": null, "host": "warm1", "app": "login", "kind": "held", "severity": "notice",
            "title": "login: 2.0.0+26.0 is held",
            "facts": [{ "label": "reason", "value": "a major step" }],
            "notes": "Run the\nmigration.",
            "hints": ["cc-warm approve login 2.0.0+26.0"],
            "first_at": "2026-09-01T22:00:00Z", "at": "2026-09-01T22:00:00Z",
            "resolved": false, "repeats": 0,
            "text": "login: 2.0.0+26.0 is held (held, notice)\nreason: a major step\nnotes:\n    Run the\n    migration.\nhint: cc-warm approve login 2.0.0+26.0",
        })
    );
}

#[test]
fn ntfy_gets_plain_text_with_a_priority() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let stuck = Alert::new(Kind::Stuck, "op", "login is stuck\r\nX-Evil: 1").app(&login()).fact("log", "ü".repeat(600));
    fixture.outbox.raise(stuck.notes(Untrusted::new("n\u{202e}".repeat(9000))), at(0)).unwrap();
    let sink = Sink::Ntfy { url: server.url("/ops"), token_file: None };
    assert_eq!(fixture.deliver(&sinks([("ntfy", sink)]), 0).sent, 1);
    let got = &server.received()[0];
    assert_eq!(got.line, "POST /");
    let body = got.json();
    assert_eq!((&body["topic"], &body["priority"]), (&json!("ops"), &json!(5)));
    assert_eq!(body["tags"], json!(["rotating_light", "cc-warm"]));
    assert_eq!(body["title"], json!("[warm1] login is stuck\\u{d}\\u{a}X-Evil: 1"));
    let message = body["message"].as_str().unwrap();
    assert!(message.len() <= 4000 && message.contains("n\\u{202e}n") && !message.contains('\u{202e}'), "{message}");
}

#[test]
fn a_command_gets_json_on_stdin_and_its_token_in_the_environment() {
    let fixture = Fixture::new();
    let (out, token) = (fixture.dir.path().join("out"), fixture.dir.path().join("token"));
    std::fs::write(&token, "s3cret").unwrap();
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    let script = format!("cat > {0}; echo $CC_WARM_TOKEN >> {0}", out.display());
    let sink =
        Sink::Command { argv: ["sh", "-c", &script].map(str::to_owned).to_vec(), token_file: Some(token.into()) };
    assert_eq!(fixture.deliver(&sinks([("cmd", sink)]), 0).sent, 1);
    let text = std::fs::read_to_string(out).unwrap();
    let (body, said) = text.rsplit_once('}').unwrap();
    assert_eq!(said, "s3cret\n");
    assert_eq!(serde_json::from_str::<Value>(&format!("{body}}}")).unwrap()["kind"], "held");
}

#[test]
fn no_failure_tells_a_token_or_a_secret_path() {
    let fixture = Fixture::new();
    let token = fixture.dir.path().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    let echo = Server::start(|got| {
        let said = format!("no: {}", got.header("authorization").unwrap_or_default());
        Reply::text(403, &said)
    });
    let token_file = Some(SecretFile::from(token));
    let failing = sinks([
        ("hook", Sink::Webhook { url: echo.url("/services/s3cret-path"), token_file: token_file.clone() }),
        ("gone", Sink::Webhook { url: "http://127.0.0.1:1/s3cret-path".to_owned(), token_file: token_file.clone() }),
        ("ntfy", Sink::Ntfy { url: echo.url("/ops"), token_file: token_file.clone() }),
        (
            "cmd",
            Sink::Command {
                argv: ["sh", "-c", "echo $CC_WARM_TOKEN >&2; exit 1"].map(str::to_owned).to_vec(),
                token_file,
            },
        ),
    ]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    let delivery = fixture.deliver(&failing, 0);
    assert_eq!((delivery.failures.len(), delivery.sent, delivery.left), (4, 0, 1), "{delivery:?}");
    assert!(delivery.failures["hook"].contains("answered 403: no: Bearer ***"), "{delivery:?}");
    let on_disk = read_all(fixture.dir.path());
    assert!(on_disk.contains("Bearer ***"));
    assert!(!format!("{delivery:?}").contains("s3cret") && !on_disk.contains("s3cret"), "{delivery:?}");
}

fn read_all(state: &Path) -> String {
    let entries = std::fs::read_dir(state.join("outbox")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn a_bad_token_file_is_a_failure_that_names_the_file_only() {
    let fixture = Fixture::new();
    let token = fixture.dir.path().join("token");
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    for (hour, content) in (0..).zip(["", " \n", "two\nlines", "ümlaut"]) {
        std::fs::write(&token, content).unwrap();
        let sink = Sink::Webhook { url: "http://127.0.0.1:1/".to_owned(), token_file: Some(token.clone().into()) };
        let delivery = fixture.deliver(&sinks([("hook", sink)]), hour * 3600);
        let failure = &delivery.failures["hook"];
        assert!(failure.contains("must hold one line") && failure.contains("token`"), "{failure}");
    }
}

#[test]
fn an_app_that_names_its_sinks_is_told_of_to_these_only() {
    let fixture = Fixture::new();
    let ((ops, _), (team, _)) = (receiver(), receiver());
    let both = sinks([("ops", webhook(&ops.url("/"))), ("team", webhook(&team.url("/")))]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    fixture.outbox.raise(Alert::new(Kind::Test, "1", "to all"), at(1)).unwrap();
    let routes = Routes::new(&[(login().as_str(), &["team"])]);
    let options = Options { routes, ..Options::default() };
    let delivery = fixture.outbox.deliver(&both, at(5), &options).unwrap();
    assert_eq!((delivery.sent, delivery.left), (3, 0), "{delivery:?}");
    assert_eq!(titles(&ops), ["to all"]);
    assert_eq!(titles(&team).len(), 2);
}

#[test]
fn a_failing_sink_blocks_no_other_and_gets_it_once_it_works() {
    let fixture = Fixture::new();
    let ((good, _), (bad, status)) = (receiver(), receiver());
    status.store(503, Ordering::SeqCst);
    let both = sinks([("a-bad", webhook(&bad.url("/"))), ("good", webhook(&good.url("/")))]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    fixture.outbox.raise(event(1), at(1)).unwrap();
    let delivery = fixture.deliver(&both, 1);
    assert_eq!((delivery.sent, delivery.left), (2, 2));
    assert!(delivery.failures["a-bad"].contains("answered 503: receiver says no"), "{delivery:?}");
    assert_eq!(bad.received().len(), 1, "a sink that does not answer is left alone for the pass");
    // Both have failed once now.
    fixture.deliver(&both, 2);
    // Too early for another attempt.
    fixture.deliver(&both, 30);
    assert_eq!(bad.received().len(), 2);
    status.store(200, Ordering::SeqCst);
    let delivery = fixture.deliver(&both, 300);
    assert_eq!((delivery.sent, delivery.left), (2, 0), "{delivery:?}");
    assert_eq!(fixture.deliver(&both, 301).sent, 0);
    assert_eq!(titles(&good).len(), 2);
    assert_eq!(titles(&bad)[2..].len(), 2);
}

#[test]
fn a_sink_that_works_again_gets_at_once_what_was_waiting() {
    let fixture = Fixture::new();
    let (server, status) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    status.store(500, Ordering::SeqCst);
    fixture.outbox.raise(event(1), at(0)).unwrap();
    for pass in 0..12 {
        fixture.deliver(&hook, pass * 3700);
    }
    status.store(200, Ordering::SeqCst);
    let last_failure = 11 * 3700;
    assert_eq!(fixture.deliver(&hook, last_failure + 60).sent, 0, "it rests for an hour");
    fixture.outbox.raise(event(2), at(last_failure + 61)).unwrap();
    assert_eq!(fixture.deliver(&hook, last_failure + 62).sent, 2);
}

#[test]
fn a_message_that_is_refused_stands_in_nobodys_way() {
    let fixture = Fixture::new();
    let server = Server::start(|got| Reply::text(if got.body.contains("event 0") { 413 } else { 200 }, ""));
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    for n in 0..3 {
        fixture.outbox.raise(event(n), at(0)).unwrap();
    }
    let delivery = fixture.deliver(&hook, 0);
    assert_eq!((delivery.sent, delivery.left), (2, 1));
    assert!(delivery.failures["hook"].contains("413"));
    for n in 3..9 {
        fixture.outbox.raise(event(n), at(DAY)).unwrap();
    }
    // As a digest it is refused with the others, who then go alone.
    let delivery = fixture.deliver(&hook, DAY);
    assert_eq!((delivery.sent, delivery.left), (6, 1));
}

#[test]
fn more_than_three_go_as_one_digest() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    for n in 0..3 {
        fixture.outbox.raise(event(n), at(0)).unwrap();
    }
    assert_eq!(fixture.deliver(&hook, 0).sent, 3);
    for n in 3..62 {
        fixture.outbox.raise(event(n), at(1)).unwrap();
    }
    fixture.outbox.raise(held("2"), at(1)).unwrap();
    assert_eq!(fixture.deliver(&hook, 1).sent, 2);
    let digests: Vec<Value> = server.received()[3..].iter().map(Received::json).collect();
    assert_eq!(
        (&digests[0]["digest"], &digests[0]["count"], &digests[1]["count"]),
        (&json!(true), &json!(50), &json!(10))
    );
    assert_eq!(digests[0]["title"], "50 alerts");
    assert!(digests[0]["alerts"][0].get("notes").is_none());
    assert!(digests.iter().any(|digest| digest["text"].as_str().unwrap().contains("event 7 (test, notice)")));
    fixture.outbox.raise(event(99), at(2)).unwrap();
    let never = Options { digest_over: None, ..Options::default() };
    assert_eq!(fixture.outbox.deliver(&hook, at(2), &never).unwrap().sent, 1);
}
