use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn starts_what_has_not_run_and_waits_for_what_runs() {
    let begun = Duration::from_secs(100);
    let block = |app: &str, load: &str, state: &str, started: u64| {
        format!(
            "ExecMainStartTimestampMonotonic={started}\nId=cc-warm-update-{app}.service\nLoadState={load}\nActiveState={state}\n"
        )
    };
    let shown = [
        block("never", "loaded", "inactive", 0),
        block("yesterday", "loaded", "inactive", 99_999_999),
        block("since", "loaded", "inactive", 100_000_001),
        block("failed-since", "loaded", "failed", 100_000_001),
        block("now", "loaded", "activating", 100_000_001),
        block("gone", "not-found", "inactive", 0),
    ]
    .join("\n");
    let expected = ["never", "yesterday", "now"].map(|app| format!("cc-warm-update-{app}.service"));
    assert_eq!(due(&shown, begun), expected);
    assert!(due("", begun).is_empty());
}

/// A host with one live app, and a systemctl that writes down how it was called and whether the turnstile was held.
struct Fixture {
    root: tempfile::TempDir,
    dirs: Dirs,
}

impl Fixture {
    fn new(started_us: u64, start_exits: u8) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().display().to_string();
        let dirs = Dirs::new(root.path().join("state"));
        let program = format!(
            "#!/bin/sh\nflock -n {path}/state/turnstile true && echo free >>{path}/calls\necho \"$*\" >>{path}/calls\n\
             if [ $1 = show ]; then echo Id=cc-warm-update-web.service; echo LoadState=loaded; echo ActiveState=inactive\n\
             echo ExecMainStartTimestampMonotonic={started_us}; else exit {start_exits}; fi\n"
        );
        fs::write(root.path().join("systemctl"), program).unwrap();
        fs::set_permissions(root.path().join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let app = r#"{"recipe":"/srv/web","domain":"web.test","stateful":false,"deployer":{"process":{}}}"#;
        let config = format!(r#"{{"format":1,"stateDir":"{path}/state","apps":{{"web":{app}}}}}"#);
        fs::write(root.path().join("config.json"), config).unwrap();
        durable::make_dir(dirs.root()).unwrap();
        Self { root, dirs }
    }

    /// What a night with this rebuild comes to, what it says and how it calls systemctl.
    fn night(&self, rebuild: &[&str], max_wait: Duration) -> (Result<Exit>, String, String) {
        self.night_until(rebuild, max_wait, &Interrupt::never())
    }

    fn night_until(&self, rebuild: &[&str], max_wait: Duration, end: &Interrupt) -> (Result<Exit>, String, String) {
        let said = RefCell::new(String::new());
        let rebuild: Vec<String> = rebuild.iter().map(|&word| word.to_owned()).collect();
        let result = Night {
            dirs: &self.dirs,
            config: &self.root.path().join("config.json"),
            max_wait,
            rebuild: &rebuild,
            systemctl: self.root.path().join("systemctl"),
            interrupt: end,
            shutdown: end,
            say: &|text| said.borrow_mut().extend([text, "\n"]),
        }
        .run();
        let calls = fs::read_to_string(self.root.path().join("calls")).unwrap_or_default();
        (result, said.into_inner(), calls)
    }
}

const SHOW: &str =
    "show --property=Id,LoadState,ActiveState,ExecMainStartTimestampMonotonic -- cc-warm-update-web.service\n";
const START: &str = "start -- cc-warm-update-web.service\n";

#[test]
fn updates_what_the_rebuild_did_not_with_the_turnstile_held() {
    let (result, said, calls) = Fixture::new(0, 0).night(&["sh", "-c", "echo built"], Duration::ZERO);
    assert_eq!(result.unwrap(), Exit::Done);
    assert!(said.contains("rebuilding the host: sh -c echo built\nbuilt\n"), "{said}");
    assert_eq!(calls, format!("{SHOW}{START}"));
}

#[test]
fn leaves_alone_what_the_rebuilds_own_switch_has_updated() {
    let (result, said, calls) = Fixture::new(u64::MAX, 0).night(&["true"], Duration::ZERO);
    assert_eq!(result.unwrap(), Exit::Done);
    assert_eq!(calls, SHOW, "{said}");
}

#[test]
fn a_rebuild_that_fails_is_reported_and_stops_no_update() {
    for rebuild in [&["sh", "-c", "echo no space >&2; exit 3"][..], &["/nowhere/nixos-rebuild"]] {
        let (result, said, calls) = Fixture::new(0, 0).night(rebuild, Duration::ZERO);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("the host was not rebuilt"), "{error}");
        assert!(rebuild.len() == 1 || said.contains("no space"), "{said}");
        assert_eq!(calls, format!("{SHOW}{START}"));
    }
}

#[test]
fn a_rebuild_under_way_is_ended_when_the_machine_goes_down() {
    let (fixture, end) = (Fixture::new(0, 0), Interrupt::never());
    let begun = fixture.root.path().join("begun");
    let rebuild = format!("echo > {}; sleep 1000", begun.display());
    let (result, _, calls) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.exists() {
                std::thread::yield_now();
            }
            end.set();
        });
        fixture.night_until(&["sh", "-c", &rebuild], Duration::ZERO, &end)
    });
    assert_eq!((result.unwrap(), calls.as_str()), (Exit::Cancelled, ""));
}

#[test]
fn a_rebuild_that_brings_a_configuration_of_a_newer_program_stops_no_update() {
    let fixture = Fixture::new(0, 0);
    let path = fixture.root.path().join("config.json").display().to_string();
    let (result, said, calls) = fixture.night(&["sh", "-c", &format!("echo '{{\"new\":1}}' > {path}")], Duration::ZERO);
    assert_eq!(result.unwrap(), Exit::Done);
    assert!(said.contains("cannot be used by this cc-warm"), "{said}");
    assert_eq!(calls, format!("{SHOW}{START}"));
}

#[test]
fn an_update_unit_that_fails_is_reported() {
    let (result, ..) = Fixture::new(0, 1).night(&[], Duration::ZERO);
    assert!(result.unwrap_err().to_string().contains("not every update unit"));
}

#[test]
fn waits_for_test_runs_and_goes_on_when_they_take_too_long() {
    let fixture = Fixture::new(0, 0);
    let run = flock::take(&fixture.dirs.activity(), Deadline::after(Duration::ZERO)).unwrap();
    let (result, said, calls) = fixture.night(&[], Duration::from_millis(100));
    assert_eq!(result.unwrap(), Exit::Done);
    assert!(said.contains("still under way"), "{said}");
    assert_eq!(calls, format!("{SHOW}{START}"));
    drop(run);
}

#[test]
fn two_nights_at_once_are_one() {
    let fixture = Fixture::new(0, 0);
    let _other = flock::take(&fixture.dirs.turnstile(), Deadline::after(Duration::ZERO)).unwrap();
    let (result, _, calls) = fixture.night(&["true"], Duration::ZERO);
    assert_eq!(crate::error::exit_of(&result.unwrap_err()), Exit::Busy);
    assert_eq!(calls, "");
}
