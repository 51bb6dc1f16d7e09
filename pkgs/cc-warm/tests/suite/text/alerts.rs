//! What the operator is told of what is rare.

use cc_warm::demo::maker::Behaviour;
use insta::assert_snapshot;
use serde_json::json;

use crate::screen::{NOTES, Screen};

#[test]
fn an_app_that_somebody_else_works_on() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    let other = "act.taken-over=fail";
    assert_snapshot!(screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", other)), @"
    $ cc-warm update
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: copying its data while it runs
    | notes: stopping
    | notes: taking a snapshot of 1 volume(s)
    | notes: deploying 1.1.0+2
    | notes: waiting until it is healthy, for 2s at most
    | notes: going back: http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    | notes: released: fault point `act.taken-over`
    notes: left to whoever works on it
      - fault point `act.taken-over`
      hint: cc-warm status notes
    [exit 1]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes is left to whoever works on it (released, warning)
    seen: fault point `act.taken-over`
    hint: cc-warm status notes
    hint: cc-warm adopt notes, once it is healthy
    ");
}

#[test]
fn an_update_that_cannot_be_prepared() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let full = "process.prepare=enospc";
    assert_snapshot!(screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", full)), @"
    $ cc-warm update
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: error: 1.1.0+2 of app `notes` could not be prepared; the app was not touched
    |   1. the deployment failed
    |   2. 1.1.0+2 cannot be prepared
    |   3. No space left on device (os error 28)
    | hint: cc-warm plan notes
    [exit 1]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: 1.1.0+2 could not be prepared; the app was not touched (prepare-failed, warning)
    because: the deployment failed: 1.1.0+2 cannot be prepared: No space left on device (os error 28)
    hint: cc-warm plan notes
    ");
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
    screen.shows(&["update"]);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: 1.1.0+2 could not be prepared; the app was not touched (prepare-failed, warning)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn an_update_for_which_there_is_no_room() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    screen.fixture.sandbox.configure(|config| config["disk"]["reserve"] = json!(1u64 << 60)).unwrap();
    let said = screen.shows(&["update"]);
    assert!(said.contains("held at 1.0.0+1: 1.1.0+2 waits for you") && said.ends_with("[exit 10]\n"), "{said}");
    assert!(!said.contains("approve"), "that would not help: {said}");
    let alert = screen.alerts();
    assert!(alert.starts_with("notes: 1.1.0+2 waits for free disk space (disk-short, warning)"), "{alert}");
    screen.fixture.sandbox.configure(|_| {}).unwrap();
    screen.shows(&["update"]);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: 1.1.0+2 waits for free disk space (disk-short, warning)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn a_deployer_that_does_not_answer() {
    let mut screen = Screen::running();
    let silent = "process.observe#*=fail";
    for command in ["update", "recover"] {
        let said = screen.shows_with(&[command], |program| program.env("CC_WARM_FAULT", silent));
        assert!(said.ends_with("[exit 14]\n"), "{said}");
    }
    assert_snapshot!(screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", silent)), @"
    $ cc-warm update
    | notes: error: nothing can be known of the app now; nothing was touched
    |   1. the deployer is not ready
    |   2. fault point `process.observe`
    [exit 14]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: nothing can be known of it (not-ready, warning)
    because: nothing can be known of the app now; nothing was touched: the deployer is not ready: fault point `process.observe`
    hint: cc-warm status notes
    ");
    screen.shows(&["recover"]);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: nothing can be known of it (not-ready, warning)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn a_deployer_that_stops_answering_in_the_middle_is_no_reason_to_be_stuck() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    // From the way back on, nothing answers any more.
    let silent = |from: u32| {
        let times: Vec<String> = (from..from + 200).map(|n| format!("process.observe#{n}=fail")).collect();
        times.join(",")
    };
    let impatient = |program: cc_warm::sys::command::Program, from| {
        program.env("CC_WARM_FAULT", silent(from)).env("CC_WARM_PATIENCE_MS", "500")
    };
    let said = screen.shows_with(&["update"], |program| impatient(program, 12));
    assert!(said.ends_with("[exit 14]\n"), "{said}");
    assert!(said.contains("hint: cc-warm recover notes"), "{said}");
    assert!(!said.contains("STUCK"), "{said}");
    assert_ne!(screen.fixture.journal(), "");
    let said = screen.shows_with(&["recover"], |program| impatient(program, 1));
    assert!(said.ends_with("[exit 14]\n") && !said.contains("STUCK"), "{said}");
    screen.shows(&["recover"]);
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(screen.fixture.journal(), "");
}

#[test]
fn an_app_that_comes_after_another_one() {
    let mut screen = Screen::empty();
    screen.fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    let proxy = |config: &mut serde_json::Value| {
        let port: u16 = config["apps"][NOTES]["env"]["PORT"].as_str().unwrap().parse().unwrap();
        let port = if port > 60000 { port - 7 } else { port + 7 };
        let mut proxy = config["apps"][NOTES].clone();
        proxy["domain"] = "proxy.example.org".into();
        proxy["env"]["PORT"] = port.to_string().into();
        proxy["health"]["probes"][0]["http"]["url"] = format!("http://127.0.0.1:{port}/health").into();
        proxy["health"]["probes"][0]["http"]["body"] = "^ok 1\\.0\\.".into();
        proxy["health"]["deadline"] = "2s".into();
        config["apps"]["proxy"] = proxy;
        config["apps"][NOTES]["after"] = json!(["proxy"]);
    };
    screen.fixture.sandbox.configure(proxy).unwrap();
    screen.shows(&["update"]);
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let said = screen.shows(&["update"]);
    let alerts = screen.alerts();
    screen.shows(&["undeploy", "proxy"]);
    screen.fixture.sandbox.configure(|_| {}).unwrap();
    assert!(said.contains("proxy: rolled back") && said.ends_with("[exit 11]\n"), "{said}");
    let skipped = "notes: not ready; nothing was touched\n  - infrastructure not healthy: `proxy`, which comes before it, is not as it should be";
    assert!(said.contains(skipped), "{said}");
    assert!(alerts.contains("(predecessor-unhealthy, warning)"), "{alerts}");
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn a_journal_that_cannot_be_used() {
    let mut screen = Screen::running();
    let journal = screen.fixture.app_dir().join("journal.jsonl");
    std::fs::write(&journal, "{\"sum\":\"x\"}\n{\"sum\":\"y\"}\n").unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: error: app `notes` was not touched: its journal cannot be used
    |   1. the journal `$SANDBOX/state/apps/notes/journal.jsonl` is damaged at line 1: it does not parse: missing field `record` at line 1 column 11
    | hint: find out in which state the app is (`cc-warm status notes`), then move `$SANDBOX/state/apps/notes/journal.jsonl` away and run `cc-warm restore notes` or `cc-warm adopt notes`
    [exit 12]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: its journal cannot be used; nothing is done to the app (corrupt-state, critical)
    because: the journal `$SANDBOX/state/apps/notes/journal.jsonl` is damaged at line 1: it does not parse: missing field `record` at line 1 column 11
    hint: cc-warm status notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  running   1.0.0+1  -
        app `notes` was not touched: its journal cannot be used: the journal `$SANDBOX/state/apps/notes/journal.jsonl` is damaged at line 1: it does not parse: missing field `record` at line 1 column 11
        hint: find out in which state the app is (`cc-warm status notes`), then move `$SANDBOX/state/apps/notes/journal.jsonl` away and run `cc-warm restore notes` or `cc-warm adopt notes`
    ");
    for words in [&["plan"][..], &["recover"], &["snapshot", NOTES], &["adopt", NOTES], &["retry", NOTES]] {
        let said = screen.shows(words);
        assert!(said.contains("damaged at line 1"), "{said}");
    }
    assert_eq!(std::fs::read(&journal).unwrap(), b"{\"sum\":\"x\"}\n{\"sum\":\"y\"}\n", "it was touched");
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
    std::fs::remove_file(journal).unwrap();
    screen.shows(&["update"]);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: its journal cannot be used; nothing is done to the app (corrupt-state, critical)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn a_state_folder_that_is_not_mounted() {
    let mut screen = Screen::running();
    let state = screen.fixture.sandbox.state_dir();
    let away = state.with_extension("away");
    std::fs::rename(&state, &away).unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | error: the state folder `$SANDBOX/state` is empty, but `notes` runs from it: its file system is not mounted; nothing was done
    | hint: findmnt --target $SANDBOX/state
    | hint: mount it, and run the same command again
    [exit 2]
    ");
    for words in [&["plan"][..], &["status"], &["recover"], &["undeploy", NOTES]] {
        let said = screen.shows(words);
        assert!(said.ends_with("[exit 2]\n"), "{said}");
    }
    assert!(!state.exists(), "nothing was made in the empty mount point");
    std::fs::rename(&away, &state).unwrap();
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
    let said = screen.shows(&["update"]);
    assert!(said.ends_with("notes: up to date at 1.0.0+1\n"), "{said}");
}

#[test]
fn an_app_that_is_left_down_whatever_the_exit_code() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    // On the way there, and on the way back: a container that cannot be killed.
    let cannot_stop = "act.stop#*=fail";
    let shown = screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", cannot_stop));
    assert!(shown.contains("[exit 1]"), "{shown}");
    assert_snapshot!(screen.alerts(), @"
    notes: an operation could not be finished; the app may be down (unfinished, critical)
    tried: 1.1.0+2 (commit COMMIT)
    left at: rolling-back
    now: it may be down; its data is untouched
    because: the operation on app `notes` was left unfinished at `rolling-back`: the app may be down: the app could not be stopped: fault point `act.stop`
    hint: cc-warm recover notes
    hint: cc-warm status notes
    ");
    // Told once, though every run finds it so.
    screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", cannot_stop));
    screen.shows_with(&["recover"], |program| program.env("CC_WARM_FAULT", cannot_stop));
    assert_snapshot!(screen.alerts(), @"");
    screen.shows(&["recover"]);
    let told = screen.alerts();
    assert!(told.contains("resolved: notes: an operation could not be finished"), "{told}");
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
}

/// What does not deploy while the deployer answers: abra hangs, or our own disk is full.
#[test]
fn a_deployment_that_hangs_while_the_deployer_answers_goes_back_at_once() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let hangs = "act.deploy.silent#1=fail,act.deploy.silent#2=fail,act.deploy.silent#3=fail";
    let said =
        screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", hangs).env("CC_WARM_PATIENCE_MS", "500"));
    assert!(said.contains("it could not be deployed now") && said.ends_with("[exit 11]\n"), "{said}");
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(screen.fixture.journal(), "");
    // It is not the version's fault.
    screen.shows(&["update"]);
    assert_eq!(screen.fixture.answering().as_deref(), Some("1.1.0+2"));
}
