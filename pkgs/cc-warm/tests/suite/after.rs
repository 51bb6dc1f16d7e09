//! Apps that come after another one: who goes first, and what is held against whom.

use std::os::unix::fs::PermissionsExt;

use cc_warm::demo::maker::{Behaviour, Maker, Release};
use cc_warm::demo::sandbox::APP;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{Fixture, NOTES};
use crate::signals::{Going, Halted, command};

/// `notes`, which comes after `proxy`, an app of another recipe. `1.0.0+1` of both runs.
struct Both {
    fixture: Fixture,
    proxy: Maker,
}

impl Both {
    fn running() -> Self {
        let fixture = Fixture::running();
        let proxy = Maker::new(&fixture.sandbox.dir().join("recipes/proxy")).unwrap();
        configure(&fixture, |config| {
            let port: u16 = config["apps"][APP]["env"]["PORT"].as_str().unwrap().parse().unwrap();
            let port = if port > 60000 { port - 7 } else { port + 7 };
            let mut app = config["apps"][APP].clone();
            app["recipe"] = json!(proxy.remote());
            app["domain"] = "proxy.example.org".into();
            app["env"]["PORT"] = port.to_string().into();
            app["health"]["probes"][0]["http"]["url"] = format!("http://127.0.0.1:{port}/health").into();
            config["apps"]["proxy"] = app;
            config["apps"][APP]["after"] = json!(["proxy"]);
        });
        let both = Self { fixture, proxy };
        both.publish_proxy("1.0.0+1", Behaviour::Healthy);
        both.fixture.run(&["update", "proxy"]).expect(0);
        both
    }

    fn publish_proxy(&self, version: &str, behaviour: Behaviour) {
        self.proxy.publish(&Release { version, format: 1, behaviour, note: None }).unwrap();
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let _ = self.fixture.sandbox.run(&["undeploy", "proxy", "--wait"]);
    }
}

fn configure(fixture: &Fixture, change: impl FnOnce(&mut Value)) {
    let quick = |config: &mut Value| {
        let health = &mut config["apps"][APP]["health"];
        health["interval"] = "50ms".into();
        health["soak"] = "200ms".into();
        health["deadline"] = "2s".into();
    };
    fixture.sandbox.configure(|config| (quick(config), change(config)).1).unwrap();
}

const SKIPPED: &str = "infrastructure not healthy: `proxy`, which comes before it, is not as it should be";

#[test]
fn started_at_once_the_one_that_comes_first_goes_first() {
    let both = Both::running();
    both.publish_proxy("1.1.0+2", Behaviour::Broken);
    both.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    // Its remote is the slower one.
    let proxy = Halted::at(&both.fixture, &["recipe.mirror.fetch"], &["update", "proxy"]);
    let notes = command(&both.fixture, &["update", APP], "").spawn().unwrap();
    let notes = Going::until(notes, "waiting for `proxy`, which comes first: held by process");
    proxy.goes_on().expect(11);
    let said = notes.ends().expect(14);
    assert!(said.contains(SKIPPED) && !said.contains("stopping"), "{said}");
    assert_eq!(both.fixture.answering().as_deref(), Some("1.0.0+1"));
}

#[test]
fn asked_to_end_while_it_waits_for_another_one_it_tells_nothing_of_that() {
    let both = Both::running();
    both.publish_proxy("1.1.0+2", Behaviour::Healthy);
    let proxy = Halted::at(&both.fixture, &["recipe.mirror.fetch"], &["update", "proxy"]);
    let notes = command(&both.fixture, &["update", APP], "").spawn().unwrap();
    let notes = Going::until(notes, "waiting for `proxy`, which comes first: held by process");
    let said = notes.gets(Signal::TERM).ends().expect(25);
    assert!(said.contains("cancelled before anything began"), "{said}");
    let alerts = both.fixture.alerts();
    assert!(!alerts.contains("predecessor-unhealthy"), "{alerts}");
    proxy.goes_on().expect(0);
}

#[test]
fn one_whose_unit_has_not_begun_yet_is_waited_for() {
    let both = Both::running();
    both.publish_proxy("1.1.0+2", Behaviour::Broken);
    both.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let bin = both.fixture.sandbox.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = format!("#!/bin/sh\n[ \"$1\" = show ] && cat {}/units\n", bin.display());
    std::fs::write(bin.join("systemctl"), program).unwrap();
    std::fs::set_permissions(bin.join("systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let say = |job: &str| {
        let unit = "Id=cc-warm-update-proxy.service\nLoadState=loaded\nActiveState=inactive";
        std::fs::write(bin.join("units"), format!("{unit}\n{job}ExecMainStartTimestampMonotonic=0\n")).unwrap();
    };
    say("Job=7\n");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let notes = command(&both.fixture, &["update", APP], "").env("PATH", path).spawn().unwrap();
    let notes = Going::until(notes, "waiting for `proxy`, which comes first: its update is to run now");
    both.fixture.run(&["update", "proxy"]).expect(11);
    say("");
    let said = notes.ends().expect(14);
    assert!(said.contains(SKIPPED) && !said.contains("stopping"), "{said}");
}

#[test]
fn a_recovery_does_not_hold_it_against_an_app_that_the_one_before_it_is_not_well() {
    let fixture = Fixture::running();
    let flag = fixture.sandbox.dir().join("proxy-is-well");
    std::fs::write(&flag, "").unwrap();
    configure(&fixture, |config| {
        let asks = json!({ "command": { "argv": ["test", "-e", flag] } });
        config["apps"]["proxy"] = config["apps"][APP].clone();
        config["apps"]["proxy"]["domain"] = "proxy.example.org".into();
        config["apps"]["proxy"]["health"]["probes"] = json!([asks]);
        config["apps"][APP]["health"]["probes"].as_array_mut().unwrap().push(asks);
        config["apps"][APP]["after"] = json!(["proxy"]);
    });
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    assert_eq!(fixture.run_with_fault("journal.deployed.after=kill", &["update", APP]).code, None);
    std::fs::remove_file(&flag).unwrap();
    let said = fixture.run(&["recover", APP]).expect(14);
    assert!(said.contains("`proxy`, which `notes` comes after, is not healthy"), "{said}");
    assert!(!fixture.journal().contains("\"stuck\""), "{}", fixture.journal());
    // Nor does it keep the app busy for ever.
    let said = fixture.run(&["recover", "--until-ready"]).expect(14);
    assert_eq!(said.matches("which `notes` comes after, is not healthy").count(), 2, "{said}");
    // Which command asks `proxy`, only the configuration says.
    let usable = std::fs::read(fixture.sandbox.config()).unwrap();
    fixture.sandbox.configure(|config| config["mood"] = json!("good")).unwrap();
    let said = fixture.run(&["recover"]).expect(2);
    assert!(said.contains("only the configuration says how `proxy`, which comes before it, is"), "{said}");
    assert!(!fixture.journal().contains("\"stuck\""), "{}", fixture.journal());
    std::fs::write(fixture.sandbox.config(), usable).unwrap();
    std::fs::write(&flag, "").unwrap();
    fixture.run(&["recover", APP]).expect(0);
    assert_eq!(fixture.answering().as_deref(), Some("1.0.0+1"));
    assert_eq!(fixture.sandbox.notes().unwrap(), NOTES);
}

#[test]
fn a_broken_file_of_the_app_before_is_told_as_its_own() {
    let both = Both::running();
    both.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    let folder = both.fixture.sandbox.state_dir().join("apps/proxy");
    for (file, why) in
        [("state.json", "has a state that cannot be used"), ("journal.jsonl", "has a journal that cannot")]
    {
        let path = folder.join(file);
        let before = std::fs::read(&path).ok();
        std::fs::write(&path, "{\"sum\":\"x\"}\n{\"sum\":\"y\"}\n").unwrap();
        let said = both.fixture.run(&["update", APP]).expect(14);
        let wanted = format!("infrastructure not healthy: `proxy`, which comes before it, {why}");
        assert!(said.contains(&wanted), "{said}");
        match before {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
    let alerts = both.fixture.alerts();
    assert!(alerts.contains("predecessor-unhealthy") && !alerts.contains("corrupt-state"), "{alerts}");
    both.fixture.run(&["update", APP]).expect(0);
}
