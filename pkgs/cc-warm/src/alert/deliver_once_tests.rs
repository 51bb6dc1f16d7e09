//! What is told once, when again, and what a kill does not change of it.

use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn a_standing_fact_is_told_once_then_at_the_reminder_then_as_resolved() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    for night in 0..16 {
        fixture.outbox.raise(held("2"), at(night * DAY)).unwrap();
        fixture.deliver(&hook, night * DAY + 60);
    }
    assert_eq!(fixture.outbox.list().unwrap().alerts.len(), 1);
    assert_eq!(fixture.outbox.resolve(Some(&login()), &[Kind::Held], at(16 * DAY)).unwrap(), 1);
    fixture.deliver(&hook, 16 * DAY);
    let told: Vec<_> = server
        .received()
        .iter()
        .map(|got| (got.json()["repeats"].as_u64().unwrap(), got.json()["resolved"].as_bool().unwrap()))
        .collect();
    assert_eq!(told, [(0, false), (1, false), (2, false), (2, true)]);
    assert!(server.received()[3].json()["text"].as_str().unwrap().starts_with("resolved: login: 2 is held"));
    assert_eq!(fixture.outbox.list().unwrap().alerts.len(), 0);
    let ids: std::collections::BTreeSet<String> =
        server.received().iter().map(|got| got.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 4);
    // What comes again later is a new alert with a new id.
    fixture.outbox.raise(held("2"), at(17 * DAY)).unwrap();
    fixture.deliver(&hook, 17 * DAY);
    assert!(!ids.contains(&server.received()[4].json()["id"].to_string()));
}

#[test]
fn an_event_that_recovery_raises_again_after_delivery_is_not_told_again() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    let rolled_back = || Alert::new(Kind::RolledBack, "op-7", "login was rolled back").app(&login());
    assert_eq!(fixture.outbox.raise(rolled_back(), at(0)).unwrap(), Raised::ToTell);
    fixture.deliver(&hook, 0);
    assert_eq!(fixture.outbox.raise(rolled_back(), at(100)).unwrap(), Raised::Known);
    fixture.deliver(&hook, 100);
    assert_eq!(server.received().len(), 1);
    // Remembered for months, not for ever.
    fixture.deliver(&hook, 100 * DAY);
    assert_eq!(fixture.outbox.ids("").unwrap().len(), 0);
}

#[test]
fn with_no_sink_everything_waits_and_goes_out_once_there_is_one() {
    let fixture = Fixture::new();
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    fixture.outbox.raise(event(1), at(0)).unwrap();
    let delivery = fixture.deliver(&BTreeMap::new(), 0);
    assert_eq!((delivery.sent, delivery.left), (0, 2));
    assert!(fixture.outbox.list().unwrap().alerts.iter().all(|shown| shown.pending));
    let (server, _) = receiver();
    assert_eq!(fixture.deliver(&sinks([("hook", webhook(&server.url("/")))]), 1).sent, 2);
    assert!(fixture.outbox.list().unwrap().alerts.iter().all(|shown| !shown.pending));
}

#[test]
fn a_sink_that_is_configured_no_more_is_not_waited_for() {
    let fixture = Fixture::new();
    let (server, status) = receiver();
    let (other, _) = receiver();
    status.store(500, Ordering::SeqCst);
    let both = sinks([("hook", webhook(&server.url("/"))), ("other", webhook(&other.url("/")))]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    assert_eq!(fixture.deliver(&both, 0).left, 1);
    assert_eq!(fixture.deliver(&sinks([("other", webhook(&other.url("/")))]), 1).left, 0);
    assert_eq!(other.received().len(), 1);
}

#[test]
fn what_cannot_be_read_is_reported_and_the_others_go() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    fixture.outbox.raise(event(1), at(0)).unwrap();
    let bad = fixture.dir.path().join("outbox/login.held.0123456789abcdef.json");
    std::fs::write(&bad, "{ torn").unwrap();
    std::fs::write(fixture.dir.path().join("outbox/.new-xyz"), "left by a kill").unwrap();
    let delivery = fixture.deliver(&hook, 0);
    assert_eq!((delivery.sent, delivery.unreadable.len()), (1, 1));
    assert!(delivery.unreadable[0].contains("login.held.0123456789abcdef.json"), "{delivery:?}");
    assert_eq!(std::fs::read_to_string(bad).unwrap(), "{ torn");
    assert!(!fixture.dir.path().join("outbox/.new-xyz").exists());
}

#[test]
fn two_processes_never_send_one_alert_twice() {
    let fixture = Fixture::new();
    let barrier = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&barrier);
    let begun = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&begun);
    let server = Server::start(move |got| {
        // The first request is held until the second deliverer has been sent away.
        if got.body.contains("event 0") {
            asked.store(true, Ordering::SeqCst);
            gate.wait();
        }
        Reply::text(200, "")
    });
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    for n in 0..3 {
        fixture.outbox.raise(event(n), at(n.try_into().unwrap())).unwrap();
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fixture.deliver(&hook, 5));
        let deadline = crate::sys::clock::Deadline::after(Duration::from_secs(20));
        // It has read what there is by then.
        while !begun.load(Ordering::SeqCst) {
            assert!(!deadline.is_over(), "the first one never began");
            std::thread::yield_now();
        }
        let now = Options { wait: Duration::ZERO, ..Options::default() };
        assert!(fixture.outbox.deliver(&BTreeMap::new(), at(5), &now).unwrap().busy);
        // Raising is not held up by sending.
        fixture.outbox.raise(held("2"), at(5)).unwrap();
        barrier.wait();
        assert_eq!(first.join().unwrap().sent, 3);
    });
    assert_eq!(server.received().len(), 3);
    assert_eq!(fixture.deliver(&hook, 6).sent, 1);
}

#[test]
fn what_is_resolved_while_it_is_sent_is_told_as_resolved() {
    let fixture = Fixture::new();
    let (begun, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go_on));
    let server = Server::start(move |got| {
        if got.body.contains("\"resolved\":false") {
            tell.wait();
            wait.wait();
        }
        Reply::text(200, "")
    });
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fixture.deliver(&hook, 0));
        begun.wait();
        // Nobody has heard it as far as the outbox knows; but the message is on its way.
        fixture.outbox.resolve(Some(&login()), &[Kind::Held], at(1)).unwrap();
        go_on.wait();
        first.join().unwrap();
    });
    fixture.deliver(&hook, 2);
    let resolved: Vec<Value> = server.received().iter().map(|got| got.json()["resolved"].clone()).collect();
    assert_eq!(resolved, [json!(false), json!(true)]);
}

#[test]
fn foreign_text_reaches_every_sink_as_data() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let out = fixture.dir.path().join("out");
    let script = format!("cat >> {0}; echo >> {0}", out.display());
    let all = sinks([
        ("hook", webhook(&server.url("/"))),
        ("ntfy", Sink::Ntfy { url: server.url("/ops"), token_file: None }),
        ("cmd", Sink::Command { argv: ["sh", "-c", &script].map(str::to_owned).to_vec(), token_file: None }),
    ]);
    for (n, &text) in nasty::CORPUS.iter().enumerate() {
        let alert = Alert::new(Kind::Test, n.to_string(), text).fact(text, text).notes(Untrusted::new(text)).hint(text);
        fixture.outbox.raise(alert, at(0)).unwrap();
    }
    let delivery = fixture.outbox.deliver(&all, at(0), &Options { digest_over: None, ..Options::default() }).unwrap();
    assert_eq!((delivery.sent, delivery.left), (3 * nasty::CORPUS.len(), 0), "{delivery:?}");
    let commands = std::fs::read_to_string(out).unwrap();
    let bodies = commands.lines().map(str::to_owned).chain(server.received().into_iter().map(|got| got.body));
    let mut whole = 0;
    for body in bodies {
        let body: Value = serde_json::from_str(&body).unwrap();
        for text in [&body["text"], &body["message"]].into_iter().filter_map(Value::as_str) {
            let text = text.replace('\n', "");
            assert_eq!(Untrusted::new(text.as_str()).terminal_lines(), text);
        }
        whole += usize::from(body["notes"].as_str().is_some_and(|notes| nasty::CORPUS.contains(&notes)));
    }
    assert_eq!(whole, 2 * nasty::CORPUS.len());
}

#[test]
fn what_was_on_its_way_in_a_crash_is_sent_again_under_its_id() {
    let fixture = Fixture::new();
    let (server, _) = receiver();
    let hook = sinks([("hook", webhook(&server.url("/")))]);
    fixture.outbox.raise(held("2"), at(0)).unwrap();
    let sent = fixture.outbox.announce(&fixture.outbox.pending().unwrap().0, "hook").unwrap();
    sink::send(&hook["hook"], &message(&sent)).unwrap();
    // Here the process is killed. What it announced may have been heard, so its end is told, too.
    fixture.deliver(&hook, 1);
    let ids: Vec<Value> = server.received().iter().map(|got| got.json()["id"].clone()).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    assert_eq!(fixture.deliver(&hook, 2).sent, 0);
}

/// The process is killed at each of its writes and after each message; whoever comes next raises again, as recovery
/// does, and delivers.
#[cfg(feature = "fault-points")]
#[test]
fn a_kill_at_any_write_loses_no_alert_and_makes_no_second_one() {
    const STATE: &str = "CC_WARM_TEST_OUTBOX";
    let work = |state: &Path, url: &str| {
        let outbox = Outbox::new(&Dirs::new(state), "warm1", Duration::from_hours(1));
        let hook = sinks([("hook", webhook(url))]);
        let rolled_back = Alert::new(Kind::RolledBack, "op-7", "login was rolled back").app(&login());
        outbox.raise(rolled_back, at(0)).unwrap();
        outbox.raise(held("2"), at(0)).unwrap();
        outbox.raise(held("3"), at(1)).unwrap();
        outbox.deliver(&hook, at(2), &Options::default()).unwrap();
        outbox.resolve(Some(&login()), &[Kind::Held], at(3)).unwrap();
        outbox.deliver(&hook, at(4), &Options::default()).unwrap()
    };
    if let (Ok(state), Ok(url)) = (std::env::var(STATE), std::env::var("CC_WARM_TEST_URL")) {
        work(Path::new(&state), &url);
        return;
    }
    let this = "alert::deliver::tests::once::a_kill_at_any_write_loses_no_alert_and_makes_no_second_one";
    for point in ["durable.replace.write", "durable.replace.rename", "outbox.sent"] {
        for nth in 1.. {
            assert!(nth < 50, "{point} is reached without an end");
            let (dir, (server, _)) = (tempfile::tempdir().unwrap(), receiver());
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args([this, "--exact"])
                .env(STATE, dir.path())
                .env("CC_WARM_TEST_URL", server.url("/"))
                .env("CC_WARM_FAULT", format!("{point}#{nth}=kill"))
                .output()
                .unwrap();
            if child.status.success() {
                assert!(nth > 3, "{point} was reached only {nth} times");
                break;
            }
            let left = work(dir.path(), &server.url("/"));
            assert_eq!((left.left, left.unreadable.len()), (0, 0), "{point}#{nth}");
            // By title: which messages, in which order, with those sent twice (same id) once.
            let mut seen = std::collections::BTreeSet::new();
            let mut told: BTreeMap<String, Vec<bool>> = BTreeMap::new();
            for got in server.received() {
                let body = got.json();
                if seen.insert(body["id"].to_string()) {
                    let told = told.entry(body["title"].as_str().unwrap().to_owned()).or_default();
                    told.push(body["resolved"].as_bool().unwrap());
                }
            }
            assert_eq!(told["login was rolled back"], [false], "{point}#{nth}: {told:?}");
            // A fact that the second run raises again after the first had ended it is told again.
            let held = &told["login: 3 is held"];
            assert!(held.chunks(2).all(|pair| pair == [false, true]) && held.len() <= 4, "{point}#{nth}: {told:?}");
        }
    }
}
