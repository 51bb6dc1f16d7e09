//! Alerts as they arrive: the real program, and a server that writes down what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

use cc_warm::demo::maker::{Behaviour, Release};
use cc_warm::demo::sandbox::APP;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Ran};

/// A request, as it came.
struct Request {
    line: String,
    head: String,
    body: Value,
}

/// A server on the loopback; `ill` makes it answer 503.
struct Server {
    port: u16,
    requests: Receiver<Request>,
    ill: Arc<AtomicBool>,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, ill) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let (sender, requests) = channel();
        let is_ill = Arc::clone(&ill);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let request = read(&stream.unwrap(), is_ill.load(Ordering::SeqCst));
                if sender.send(request).is_err() {
                    break;
                }
            }
        });
        Self { port, requests, ill }
    }

    fn got(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn read(mut stream: &TcpStream, ill: bool) -> Request {
    let mut reader = BufReader::new(stream);
    let (mut line, mut head) = (String::new(), String::new());
    reader.read_line(&mut line).unwrap();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).unwrap();
        if field.trim().is_empty() {
            break;
        }
        head.push_str(&field.to_lowercase());
    }
    let length = head.lines().find_map(|field| field.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let status = if ill { "503 Service Unavailable" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    Request { line: line.trim().to_owned(), head, body: serde_json::from_slice(&body).unwrap() }
}

fn run_at(fixture: &Fixture, now: &str, words: &[&str]) -> Ran {
    Ran::of(&fixture.sandbox.cc_warm(words).env("CC_WARM_NOW", format!("2026-03-{now}:00Z")).run().unwrap())
}

/// A service manager that has the unit which delivers alerts: `start` does this.
fn with_unit(fixture: &Fixture, start: &str) -> String {
    let dir = fixture.sandbox.dir().join("unit");
    std::fs::create_dir_all(&dir).unwrap();
    let deliver = format!(
        "{} --config {} alert deliver",
        fixture.sandbox.program().display(),
        fixture.sandbox.config().display()
    );
    let text = format!(
        "#!/bin/sh\ncase $1 in show) echo loaded; exit;; start) ;; *) exit 1;; esac\ncd {}\ndeliver() {{ touch inside; {deliver}; rm inside; }}\n{start}\n",
        dir.display()
    );
    std::fs::write(dir.join("systemctl"), text).unwrap();
    std::fs::set_permissions(dir.join("systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_test_alert_is_delivered_as_every_alert_is() {
    let fixture = Fixture::empty();
    let test = |start: &str| {
        let path = with_unit(&fixture, start);
        Ran::of(&fixture.sandbox.cc_warm(&["alert", "test"]).env("PATH", path).run().unwrap())
    };
    let said = test("deliver").expect(0);
    assert!(said.contains("cc-warm-alerts.service delivers it") && said.contains("`operator`: delivered"), "{said}");
    // What works in a shell need not work in the unit.
    let inside = fixture.sandbox.dir().join("unit/inside");
    let argv = json!(["sh", "-c", format!("cat >/dev/null; test ! -e {}", inside.display())]);
    fixture.sandbox.configure(|config| config["alerts"]["mail"] = json!({ "command": { "argv": argv } })).unwrap();
    let said = test("deliver").expect(1);
    assert!(said.contains("`operator`: delivered") && said.contains("`mail`: NOT delivered: "), "{said}");
    fixture.run(&["alert", "test"]).expect(0);
    let said = test("exit 1").expect(1);
    assert!(said.contains("cc-warm-alerts.service failed"), "{said}");
    // It was at it already, without this one.
    let said = test("if [ -e once ]; then rm -f once inside; deliver; else touch once; fi").expect(1);
    assert!(said.contains("`operator`: delivered"), "{said}");
    // It has another configuration.
    let said = test("exit 0").expect(0);
    assert!(said.contains("delivered by this process") && said.contains("`mail`: delivered"), "{said}");
}

#[test]
fn a_webhook_and_an_ntfy_topic_are_told_once_then_reminded_then_told_that_it_is_over() {
    let server = Server::new();
    let fixture = Fixture::running();
    let token = fixture.sandbox.dir().join("token");
    std::fs::write(&token, "sesame\n").unwrap();
    let base = format!("http://127.0.0.1:{}", server.port);
    let alerts = json!({
        "hook": { "webhook": { "url": format!("{base}/hook"), "tokenFile": token } },
        "phone": { "ntfy": { "url": format!("{base}/ops"), "tokenFile": token } },
    });
    fixture.sandbox.configure(|config| config["alerts"] = alerts.clone()).unwrap();
    let note = Some("Export your notes first, by hand.\n");
    let major = Release { version: "2.0.0+2", format: 2, behaviour: Behaviour::Healthy, note };
    fixture.sandbox.maker.publish(&major).unwrap();

    // Nobody answers: that is said, the alert is kept, and the update's own exit code stands.
    server.ill.store(true, Ordering::SeqCst);
    let said = run_at(&fixture, "06T03:40", &["update"]).expect(10);
    assert!(said.contains("warning: alerts are kept for later, `hook` does not take them"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
    assert_eq!(server.got().len(), 2);
    assert!(run_at(&fixture, "06T03:40", &["status"]).expect(0).contains("1 alert(s) not delivered yet"));

    // It is tried again, but not at once.
    server.ill.store(false, Ordering::SeqCst);
    run_at(&fixture, "06T03:40", &["alert", "deliver"]).expect(0);
    assert_eq!(server.got().len(), 0);
    run_at(&fixture, "06T03:45", &["alert", "deliver"]).expect(0);
    let got = server.got();
    assert_eq!(got.len(), 2);
    let (hook, phone) = (&got[0], &got[1]);
    assert_eq!(hook.line, "POST /hook HTTP/1.1");
    assert!(hook.head.contains("authorization: bearer sesame") && hook.head.contains("idempotency-key: notes.held."));
    for (field, value) in [
        ("format", json!(1)),
        ("host", json!("sandbox")),
        ("app", json!(APP)),
        ("kind", json!("held")),
        ("severity", json!("notice")),
        ("resolved", json!(false)),
        ("notes", json!("release/2.0.0+2:\nExport your notes first, by hand.")),
    ] {
        assert_eq!(hook.body[field], value, "{:#}", hook.body);
    }
    assert_eq!(phone.line, "POST / HTTP/1.1");
    assert!(phone.head.contains("authorization: bearer sesame"));
    assert_eq!((&phone.body["topic"], &phone.body["priority"]), (&json!("ops"), &json!(3)), "{:#}", phone.body);
    assert!(phone.body["message"].as_str().unwrap().contains("Export your notes first"), "{:#}", phone.body);

    // Once, whatever the number of nights; then at the reminder interval; then that it is over.
    run_at(&fixture, "07T03:40", &["update"]).expect(10);
    assert_eq!(server.got().len(), 0);
    run_at(&fixture, "14T03:40", &["update"]).expect(10);
    let got = server.got();
    assert_eq!(got.len(), 2);
    assert!(got[1].body["title"].as_str().unwrap().contains("still: "), "{:#}", got[1].body);
    run_at(&fixture, "14T04:00", &["approve", APP, "2.0.0+2"]).expect(0);
    run_at(&fixture, "14T04:00", &["update"]).expect(0);
    let got = server.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].body["resolved"], json!(true), "{:#}", got[0].body);
    run_at(&fixture, "15T03:40", &["update"]).expect(0);
    assert_eq!(server.got().len(), 0);
}

#[test]
fn more_than_three_alerts_of_one_pass_come_as_one_message() {
    let server = Server::new();
    let fixture = Fixture::empty();
    let url = format!("http://127.0.0.1:{}/hook", server.port);
    fixture
        .sandbox
        .configure(|config| {
            config["alerts"] = json!({ "hook": { "webhook": { "url": url } } });
            for n in 2..6 {
                let mut app = config["apps"][APP].clone();
                app["domain"] = format!("n{n}.example.org").into();
                config["apps"][format!("n{n}")] = app;
            }
        })
        .unwrap();
    // Nothing is published: each of the five is held.
    run_at(&fixture, "06T03:40", &["update"]).expect(10);
    let got = server.got();
    assert_eq!(got.len(), 1);
    assert_eq!((&got[0].body["digest"], &got[0].body["count"]), (&json!(true), &json!(5)), "{:#}", got[0].body);
}
