use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::raw;
use crate::health::continuity;
use crate::sys::test_server::{Reply, Server};

/// The app `login` with this `health`.
fn app(health: &serde_json::Value) -> App {
    let config = serde_json::json!({ "format": 1, "apps": { "login": {
        "recipe": "/recipes/login", "domain": "login.example.org", "deployer": { "process": {} }, "stateful": false,
        "health": health,
    } } });
    raw::parse(&config.to_string()).unwrap().validate().unwrap().apps.into_values().next().unwrap()
}

fn http_app(url: &str) -> App {
    app(&serde_json::json!({ "probes": [{ "http": { "url": url } }] }))
}

const FAST: Rules = Rules {
    successes: 3,
    interval: Duration::from_millis(5),
    soak: Duration::from_millis(50),
    deadline: Duration::from_secs(20),
};

fn hopeless(deadline: u64) -> Rules {
    Rules { deadline: Duration::from_millis(deadline), ..FAST }
}

struct Told(Vec<String>);

fn watched(
    app: &App,
    predecessors: &[&App],
    rules: Option<&Rules>,
    observe: &mut dyn FnMut() -> Result<Convergence, DeployError>,
) -> (Result<Verdict, DeployError>, Told) {
    let mut told = Told(Vec::new());
    let mut progress = |progress: &Progress| told.0.push(progress.sentence());
    let mut watch = Watch { app, predecessors, observe, interrupt: &Interrupt::never(), progress: &mut progress };
    let verdict = match rules {
        Some(rules) => wait(&mut watch, rules),
        None => before_update(&mut watch),
    };
    (verdict, told)
}

#[expect(clippy::unnecessary_wraps, reason = "the type of an observation")]
fn converged() -> Result<Convergence, DeployError> {
    Ok(Convergence::Converged)
}

#[test]
fn an_app_that_answers_late_is_healthy_after_its_soak() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..4 => Reply::text(503, "loading"),
        _ => Reply::text(200, "ok"),
    });
    let (verdict, told) = watched(&http_app(&server.url("/")), &[], Some(&FAST), &mut converged);
    let Verdict::Healthy(report) = verdict.unwrap() else { panic!("{:?}", told.0) };
    assert!(report.attempts > 7 && report.elapsed >= FAST.soak, "{report:?}");
    assert!(told.0[0].contains("0 of 3 in a row") && told.0[0].contains("answered 503, wanted 200"), "{}", told.0[0]);
    assert!(told.0[6].contains("of soak left"), "{}", told.0[6]);
    assert_eq!(told.0.len(), report.attempts as usize);
}

#[test]
fn the_last_answer_is_in_the_sentence() {
    let server = Server::start(|_| Reply::text(500, "\n  unknown variable \u{1b}[31mx\n  at line 3"));
    let app = http_app(&server.url("/health?token=hunter2"));
    let (verdict, _) = watched(&app, &[], Some(&hopeless(3000)), &mut converged);
    let Verdict::Unhealthy(report) = verdict.unwrap() else { panic!() };
    let sentence = report.sentence();
    let (begin, end) = sentence.split_once(" (attempt ").unwrap();
    assert_eq!(begin, format!("http {}?… answered 500, wanted 200", server.url("/health")));
    assert!(end.ends_with("s; body begins: unknown variable \\u{1b}[31mx\\u{a}  at line 3)"), "{sentence}");
}

#[test]
fn every_wrong_answer_says_what_was_wanted() {
    let server = Server::start(|got| match got.line.as_str() {
        "GET /moved" => Reply::Plain(302, vec![("location", "https://sso.example.org/?state=abc".into())], vec![]),
        "GET /cut" => Reply::Close,
        "GET /flood" => Reply::Flood,
        _ => Reply::Plain(200, vec![("x-state", "read-only".into())], b"maintenance".to_vec()),
    });
    let url = |path: &str| server.url(path);
    for (probe, wanted) in [
        (serde_json::json!({ "url": url("/moved") }), "answered 302 (to https://sso.example.org/?…), wanted 200"),
        (serde_json::json!({ "url": url("/"), "status": 204 }), "answered 200, wanted 204"),
        (serde_json::json!({ "url": url("/"), "body": "^ok$" }), "answered 200, but its body does not match `^ok$`"),
        (serde_json::json!({ "url": url("/flood"), "body": "ok" }), "body (of which 64 KiB were read) does not match"),
        (
            serde_json::json!({ "url": url("/"), "headers": { "X-State": "^ready$" } }),
            "no header `X-State` matches `^ready$`: it is `read-only`",
        ),
        (
            serde_json::json!({ "url": url("/"), "headers": { "X-Other": "." } }),
            "no header `X-Other` matches `.`: it is missing",
        ),
        (serde_json::json!({ "url": url("/cut") }), "Peer disconnected"),
        (serde_json::json!({ "url": "http://127.0.0.1:1/" }), "Connection refused"),
    ] {
        let app = app(&serde_json::json!({ "probes": [{ "http": probe }] }));
        let answer = probe::ask(&app, &app.health.probes[0], Duration::from_secs(20));
        assert!(!answer.ok() && answer.summary.contains(wanted), "{probe}: {}", answer.summary);
    }
    let good = app(&serde_json::json!({ "probes": [{ "http": {
        "url": "http://login.example.invalid/", "resolve": server.address.to_string(),
        "body": "maint", "headers": { "x-state": "read" },
    } }] }));
    assert!(probe::ask(&good, &good.health.probes[0], Duration::from_secs(20)).ok());
}

#[test]
fn command_probes_know_the_app_and_are_quoted_when_they_fail() {
    let ask = |script: &str, timeout: &str| {
        let argv = ["sh", "-c", script];
        let app = app(&serde_json::json!({ "probes": [{ "command": { "argv": argv, "timeout": timeout } }] }));
        probe::ask(&app, &app.health.probes[0], Duration::from_secs(20))
    };
    assert!(ask("test $CC_WARM_APP-$CC_WARM_DOMAIN = login-login.example.org", "10s").ok());
    let answer = ask("echo no database >&2; exit 3", "10s");
    assert!(answer.summary.ends_with("exit 3, wanted exit 0"), "{}", answer.summary);
    let report = Report { answer, attempts: 1, elapsed: Duration::ZERO, serves_since: None };
    assert!(report.sentence().ends_with("(it said: no database)"), "{}", report.sentence());
    assert!(ask("sleep 100", "300ms").summary.contains("did not end within 300ms"));
}

#[test]
fn an_app_that_is_well_too_late_is_not_healthy_and_says_so() {
    let server = Server::start(|_| Reply::text(200, ""));
    let rules = Rules { soak: Duration::from_secs(10), deadline: Duration::from_secs(5), ..FAST };
    let (verdict, _) = watched(&http_app(&server.url("/")), &[], Some(&rules), &mut converged);
    let Verdict::Unhealthy(report) = verdict.unwrap() else { panic!() };
    assert!(report.sentence().starts_with("it passes now, but too late for 3 rounds"), "{}", report.sentence());
}

#[test]
fn a_process_that_died_ends_the_wait_at_once() {
    let server = Server::start(|_| Reply::text(503, ""));
    let mut observations = 0;
    let mut observe = || {
        observations += 1;
        Ok(if observations < 4 { Convergence::Converged } else { Convergence::Died(Untrusted::new("exited 1")) })
    };
    let (verdict, told) = watched(&http_app(&server.url("/")), &[], Some(&FAST), &mut observe);
    let Verdict::Died(report) = verdict.unwrap() else { panic!("{:?}", told.0) };
    assert!(report.sentence().starts_with("it died: exited 1 (attempt 2, "), "{}", report.sentence());
}

#[test]
fn a_deployer_that_is_not_ready_is_waited_for_and_never_a_verdict() {
    let server = Server::start(|_| Reply::text(200, ""));
    let app = http_app(&server.url("/"));
    let mut asked = 0;
    let mut observe = || {
        asked += 1;
        if asked < 5 { Err(DeployError::not_ready(anyhow!("no docker"))) } else { converged() }
    };
    let (verdict, _) = watched(&app, &[], Some(&FAST), &mut observe);
    assert!(matches!(verdict.unwrap(), Verdict::Healthy(_)));
    let mut never = || Err(DeployError::not_ready(anyhow!("no docker")));
    let (verdict, told) = watched(&app, &[], Some(&hopeless(200)), &mut never);
    assert!(matches!(verdict.unwrap_err(), DeployError::NotReady(_)));
    assert!(told.0[0].contains("no docker"), "{}", told.0[0]);
    let mut broken = || Err(DeployError::failed(anyhow!("no such stack")));
    let (verdict, _) = watched(&app, &[], Some(&FAST), &mut broken);
    assert!(matches!(verdict.unwrap_err(), DeployError::Failed(_)));
}

#[test]
fn a_failing_predecessor_is_not_held_against_the_app() {
    let up = Arc::new(Mutex::new(false));
    let proxy_up = Arc::clone(&up);
    let proxy = Server::start(move |_| Reply::text(if *proxy_up.lock().unwrap() { 200 } else { 502 }, ""));
    let app_up = Arc::clone(&up);
    let server = Server::start(move |_| Reply::text(if *app_up.lock().unwrap() { 200 } else { 404 }, ""));
    let (app, before) = (http_app(&server.url("/")), http_app(&proxy.url("/")));
    let (verdict, told) = watched(&app, &[&before], Some(&hopeless(200)), &mut converged);
    assert!(matches!(verdict.unwrap_err(), DeployError::NotReady(_)), "{:?}", told.0);
    assert!(told.0[0].contains("comes after, is not healthy: http") && told.0[0].contains("502"), "{}", told.0[0]);
    *up.lock().unwrap() = true;
    let (verdict, _) = watched(&app, &[&before], Some(&FAST), &mut converged);
    assert!(matches!(verdict.unwrap(), Verdict::Healthy(_)));
}

#[test]
fn before_an_update_starting_tasks_are_waited_for_and_failures_are_not() {
    let server = Server::start(|got| Reply::text(if got.line.ends_with("/bad") { 500 } else { 200 }, ""));
    let mut asked = 0;
    let mut starting = || {
        asked += 1;
        Ok(if asked < 2 { Convergence::Starting(Untrusted::new("0 of 1")) } else { Convergence::Converged })
    };
    let health =
        |path: &str| serde_json::json!({ "interval": "1s", "probes": [{ "http": { "url": server.url(path) } }] });
    let (verdict, _) = watched(&app(&health("/")), &[], None, &mut starting);
    assert!(matches!(verdict.unwrap(), Verdict::Healthy(_)));
    let (verdict, _) = watched(&app(&health("/bad")), &[], None, &mut converged);
    assert!(matches!(verdict.unwrap(), Verdict::Unhealthy(report) if report.attempts == 1));
    let (verdict, _) = watched(&app(&health("/")), &[], None, &mut || Ok(Convergence::Down));
    assert!(matches!(verdict.unwrap(), Verdict::Died(report) if report.sentence() == "nothing of it runs"));
}

#[test]
fn an_interrupt_between_rounds_ends_the_wait_at_once() {
    let server = Server::start(|_| Reply::text(200, ""));
    let app = http_app(&server.url("/"));
    let interrupt = Interrupt::never();
    let mut set = None;
    // Set by another thread, once the wait for the next round has certainly begun.
    let (tell, told) = std::sync::mpsc::channel();
    let verdict = std::thread::scope(|scope| {
        let interrupt = &interrupt;
        let setter = scope.spawn(move || {
            told.recv().unwrap();
            interrupt.set();
            Instant::now()
        });
        let rules = Rules { interval: Duration::from_mins(1), ..FAST };
        let mut progress = |_: &Progress| tell.send(()).unwrap();
        let mut watch =
            Watch { app: &app, predecessors: &[], observe: &mut converged, interrupt, progress: &mut progress };
        let verdict = wait(&mut watch, &Rules { deadline: Duration::from_mins(10), ..rules }).unwrap();
        let ended = Instant::now();
        set = Some(ended.saturating_duration_since(setter.join().unwrap()));
        verdict
    });
    assert_eq!(verdict, Verdict::Interrupted);
    assert!(set.unwrap() < Duration::from_secs(5), "{set:?}");
}

#[test]
fn the_probes_of_a_round_are_asked_at_once() {
    let server = Server::start(|_| Reply::Silence);
    let probe = serde_json::json!({ "http": { "url": server.url("/"), "timeout": "1s" } });
    let app = app(&serde_json::json!({ "probes": vec![probe; 20] }));
    let began = Instant::now();
    assert!(!ask_all(&app, Duration::from_secs(20)).ok());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn continuity_is_asked_of_the_app_and_a_failure_is_no_answer() {
    let of = |argv: serde_json::Value| continuity(&app(&serde_json::json!({ "continuity": { "argv": argv } })));
    let five = of(serde_json::json!(["sh", "-c", "echo 5 realms of $CC_WARM_DOMAIN"])).unwrap().unwrap();
    let none = of(serde_json::json!(["echo", "0 realms"])).unwrap().unwrap();
    assert!(five.changed(&none).unwrap().contains("was `5 realms of login.example.org` before and is `0 realms` now"));
    of(serde_json::json!(["false"])).unwrap_err();
    let error = of(serde_json::json!(["sh", "-c", "head -c 2000000 /dev/zero"])).unwrap_err().to_string();
    assert!(error.contains("let it print a digest"), "{error}");
    assert!(continuity(&app(&serde_json::json!({}))).unwrap().is_none());
}
