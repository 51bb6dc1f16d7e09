//! The process deployer, by what the kernel says of the processes that it started.

mod scripted;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cc_warm::demo::sandbox::APP;
use cc_warm::deployer::{self, Convergence, Known, Observed, Stopped};
use cc_warm::sys::clock::Deadline;
use cc_warm::sys::command::Program;
use cc_warm::sys::flock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::signals::Halted;

use self::scripted::*;

#[test]
fn a_daemon_that_forked_twice_outlives_cc_warm_and_not_the_stop() {
    on_each_rung(|rung| {
        let sleep = unique();
        let app = Scripted::running(rung, &daemon(&sleep));
        wait_for("the daemon", || (with_word(&sleep).len() == 2).then_some(()));
        app.run(&["undeploy", APP]).expect(0);
        assert_eq!(with_word(&sleep), [0; 0]);
        assert!(!app.supervisor().runs());
    });
}

/// Each of its processes starts the next one and ends, so that no list of them is ever true. Each adds a line to a file
/// before: whoever looks for them sees few.
#[test]
fn a_process_that_runs_away_by_forking_is_caught() {
    on_each_rung(|rung| {
        let word = unique();
        let script = format!(
            "if [ \"$1\" = {word} ]; then echo >> $DATA_DIR/generations; sh run.sh {word} & exit; fi
            echo ready > $DATA_DIR/ready; (setsid sh run.sh {word} &); exec sleep 1000000"
        );
        let app = Scripted::running(rung, &script);
        let generations = || fs::metadata(app.data().join("generations")).map_or(0, |file| file.len());
        wait_for("the runaway", || (generations() > 20).then_some(()));
        app.run(&["undeploy", APP]).expect(0);
        let ended = generations();
        for _ in 0..100 {
            assert_eq!(with_word(&word), [0; 0], "{rung:?}");
        }
        assert_eq!(generations(), ended, "{rung:?}");
    });
}

#[test]
fn the_supervisors_death_leaves_nothing_that_a_stop_does_not_find() {
    on_each_rung(|rung| {
        let sleep = unique();
        let app = Scripted::running(rung, &daemon(&sleep));
        wait_for("the daemon", || (with_word(&sleep).len() == 2).then_some(()));
        let supervisor = app.supervisor();
        kill_process(Pid::from_raw(supervisor.pid).unwrap(), Signal::KILL).unwrap();
        wait_for("the supervisor's end", || (!supervisor.runs()).then_some(()));
        if app.status_file()["containment"] != "session" {
            wait_for("the end of all", || with_word(&sleep).is_empty().then_some(()));
        }
        app.run(&["undeploy", APP]).expect(0);
        assert_eq!(with_word(&sleep), [0; 0]);
    });
}

#[test]
fn each_rung_is_the_strongest_that_there_is() {
    let root = rustix::process::geteuid().is_root();
    let script = "echo ready > $DATA_DIR/ready; exec sleep 1000000";
    for (rung, wanted) in [
        (Rung::Own, if root { "namespace" } else { "user-namespace" }),
        (Rung::Session, "session"),
        (Rung::UnprivilegedSession, "session"),
    ] {
        assert_eq!(Scripted::running(rung, script).status_file()["containment"], wanted, "{rung:?}");
    }
}

#[test]
fn an_app_has_another_user_no_rights_and_none_of_our_descriptors() {
    on_each_rung(|rung| {
        let sleep = unique();
        let app = Scripted::running(rung, &format!("exec sleep {sleep}\n"));
        let [pid] = with_word(&sleep)[..] else { panic!("not one process") };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_ascii_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let me = rustix::process::geteuid().as_raw();
        let user: u32 = field("Uid")[0].parse().unwrap();
        assert!(field("Uid").iter().all(|id| *id == field("Uid")[0]), "{status}");
        match app.user() {
            Some(unprivileged) => assert_eq!(user, unprivileged),
            None if me == 0 => assert!(user >= 0x7000_0000 && field("Groups").is_empty(), "{status}"),
            None => assert_eq!(user, me),
        }
        assert_eq!(field("NoNewPrivs"), ["1"]);
        assert_eq!(field("CapEff"), ["0000000000000000"]);
        assert_eq!(field("CapPrm"), ["0000000000000000"]);
        let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"]);
    });
}

#[test]
fn the_environment_is_built_from_empty() {
    let app = Scripted::running(Rung::Own, "env > $DATA_DIR/env; exec sleep 1000000\n");
    let text = app.written("env");
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    names.sort_unstable();
    let wanted = [
        "CC_WARM_APP",
        "CC_WARM_DEPLOYMENT",
        "CC_WARM_VERSION",
        "DATA_DIR",
        "DOMAIN",
        "HOME",
        "LANG",
        "PATH",
        "STACK_NAME",
        "STATE",
        "TIMEOUT",
        "TMPDIR",
    ];
    assert_eq!(names, wanted);
    // Whoever deploys it, by hand or in a unit, with whatever is in their `PATH`.
    assert!(text.lines().any(|line| line == "PATH=/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin"), "{text}");
}

#[test]
fn what_an_app_leaves_in_its_home_keeps_no_version_from_being_started() {
    let script =
        "i=0; while [ $i -lt 600 ]; do mkdir d; cd d; i=$((i+1)); done; echo on > $DATA_DIR/on; exec sleep 1000000\n";
    let app = Scripted::running(Rung::Own, script);
    app.written("on");
    let maker = &app.fixture.sandbox.maker;
    maker.write("run.sh", "exec sleep 1000000\n").unwrap();
    maker.git(&["commit", "--quiet", "--all", "--message", "1.0.1+1"]).unwrap();
    maker.git(&["tag", "1.0.1+1"]).unwrap();
    // As many descriptors as systemd gives a unit, and less.
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 512; exec \"$0\" \"$@\""])
        .arg(app.fixture.sandbox.program())
        .arg("--config")
        .arg(app.fixture.sandbox.config())
        .args(["update", APP])
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let left: Vec<_> = fs::read_dir(app_folder(&app.state_dir())).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("scratch.")), "{left:?}");
    assert_eq!(fs::read_dir(app_folder(&app.state_dir()).join("scratch")).unwrap().count(), 0);
}

#[test]
fn another_user_in_the_configuration_keeps_no_app_from_its_data() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let app = Scripted::running(Rung::Own, "echo on > $DATA_DIR/on; exec sleep 1000000\n");
    app.written("on");
    let owner = fs::metadata(app.data()).unwrap().uid();
    let path = app.fixture.sandbox.config();
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["apps"][APP]["deployer"]["process"]["user"] = json!("4000");
    fs::write(path, config.to_string()).unwrap();
    let maker = &app.fixture.sandbox.maker;
    maker.write("note", "changed").unwrap();
    maker.git(&["add", "--all"]).unwrap();
    maker.git(&["commit", "--quiet", "--message", "1.0.1+1"]).unwrap();
    maker.git(&["tag", "1.0.1+1"]).unwrap();
    let text = app.run(&["update", APP]).expect(0);
    assert!(text.contains(&format!("still runs as user {owner}")), "{text}");
    app.run(&["restore", APP, "--yes"]).expect(0);
    assert_eq!(fs::metadata(app.data()).unwrap().uid(), owner);
}

#[test]
fn an_app_sees_of_the_state_folder_and_of_the_machine_only_itself() {
    for rung in [Rung::Own, Rung::Unprivileged] {
        let script = "ls $STATE $STATE/process $STATE/process/volumes $STATE/process/apps > $DATA_DIR/seen 2>&1
            touch code 2> $DATA_DIR/code; touch $STATE/x 2> $DATA_DIR/state; touch $HOME/x $TMPDIR/y
            ls /proc | grep -c '^[0-9]' > $DATA_DIR/processes; echo done > $DATA_DIR/done; exec sleep 1000000\n";
        let app = Scripted::prepared(rung, script);
        // What belongs to others.
        let other = app.state_dir().join("process/volumes/other_data/_data");
        fs::create_dir_all(&other).unwrap();
        fs::create_dir_all(app.state_dir().join("apps/other")).unwrap();
        if app.user().is_some() {
            give(app.fixture.sandbox.dir(), NOBODY);
        }
        app.run(&["update", APP]).expect(0);
        app.written("done");
        let seen = app.written("seen");
        assert!(seen.contains("notes_example_org_data") && !seen.contains("other"), "{seen}");
        assert!(!seen.contains("outbox") && !seen.contains("deployment.json"), "{seen}");
        assert!(app.written("code").contains("Read-only"), "{}", app.written("code"));
        assert!(app.written("state").contains("Read-only"), "{}", app.written("state"));
        // Supervisor, shell, ls, grep; the host has many more.
        assert!(app.written("processes").trim().parse::<u32>().unwrap() <= 5, "{}", app.written("processes"));
    }
}

#[test]
fn a_process_that_ends_has_died_and_says_its_last_words() {
    let app = Scripted::prepared(Rung::Own, "echo the last straw; exit 3\n");
    let text = app.run(&["update", APP]).expect(11);
    assert!(text.contains("exited with 3") && text.contains("the last straw"), "{text}");
}

#[test]
fn a_killed_process_is_started_again_and_its_death_stays_known() {
    let sleep = unique();
    let app = Scripted::running(Rung::Own, &format!("exec sleep {sleep}\n"));
    let (host, config) = app.library();
    assert_eq!(present(&host, &config).state, Convergence::Converged);
    let [first] = with_word(&sleep)[..] else { panic!("not one process") };
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    let second = wait_for("the second start", || with_word(&sleep).into_iter().find(|&pid| pid != first));
    assert_ne!(first, second);
    let state = wait_for("the death to be known", || match present(&host, &config).state {
        Convergence::Died(why) => Some(why),
        _ => None,
    });
    assert!(state.raw().contains("was killed by signal 9"), "{state:?}");
    // Once it is long ago, the app is well, and updated again.
    let path = app_folder(&app.state_dir()).join("status.json");
    // The keeper may still have to write down that the second one runs.
    wait_for("the app to be well", || {
        let mut status: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        status["last_death"]["at"] = json!("2020-02-02T00:00:00Z");
        fs::write(&path, status.to_string()).unwrap();
        (present(&host, &config).state == Convergence::Converged).then_some(())
    });
}

#[test]
fn an_app_that_is_undeployed_in_mid_update_is_let_be() {
    let app = Scripted::running(Rung::Own, "exec sleep 1000000\n");
    let maker = &app.fixture.sandbox.maker;
    maker.git(&["commit", "--quiet", "--allow-empty", "--message", "1.0.1+1"]).unwrap();
    maker.git(&["tag", "1.0.1+1"]).unwrap();
    let update = Halted::at(&app.fixture, &["act.health"], &["update", APP]);
    // As `cc-warm undeploy` of another program would leave it.
    kill_process(Pid::from_raw(app.supervisor().pid).unwrap(), Signal::KILL).unwrap();
    fs::remove_file(app_folder(&app.state_dir()).join("deployment.json")).unwrap();
    let said = update.goes_on().expect(1);
    assert!(said.contains("it was undeployed by someone else") && !said.contains("going back"), "{said}");
    let state = fs::read_to_string(app.state_dir().join("apps").join(APP).join("state.json")).unwrap();
    assert!(!state.contains("\"operation\""), "its version is not to blame: {state}");
    let (host, config) = app.library();
    assert_eq!(deployer::open(&host, &config).unwrap().observe().unwrap(), Observed::Absent { has_data: true });
}

#[test]
fn a_stop_is_clean_only_if_every_process_ended_when_asked() {
    for (script, wanted) in [
        ("trap 'exit 0' TERM; echo on > $DATA_DIR/on; while :; do sleep 0.05; done\n", Stopped::Clean),
        ("trap '' TERM; echo on > $DATA_DIR/on; while :; do sleep 0.05; done\n", Stopped::Killed),
    ] {
        let app = Scripted::running(Rung::Own, script);
        app.written("on");
        let (host, config) = app.library();
        let lock = lock(&host, &config);
        let deployer = deployer::open(&host, &config).unwrap();
        assert!(!deployer.remains().unwrap().is_empty());
        assert_eq!(deployer.stop(&lock, Deadline::after(Duration::from_secs(20))).unwrap(), wanted);
        assert_eq!(deployer.remains().unwrap(), [""; 0]);
        assert_eq!(deployer.observe().unwrap(), Observed::Absent { has_data: true });
        let again = deployer.stop(&lock, Deadline::after(Duration::from_secs(20))).unwrap();
        assert_eq!(again, Stopped::WasDown);
    }
}

#[test]
fn whoever_else_has_a_volume_open_is_named() {
    let app = Scripted::running(Rung::Own, "echo on > $DATA_DIR/on; exec sleep 1000000\n");
    app.written("on");
    let sleep = unique();
    let mut stranger = Command::new("sleep").arg(&sleep).current_dir(app.data()).spawn().unwrap();
    let (host, config) = app.library();
    let lock = lock(&host, &config);
    let deployer = deployer::open(&host, &config).unwrap();
    // While the app runs, and once it is down: of its own processes none is named.
    for stopped in [false, true] {
        if stopped {
            deployer.stop(&lock, Deadline::after(Duration::from_secs(20))).unwrap();
            assert_eq!(deployer.remains().unwrap(), [""; 0]);
        }
        let named = deployer.outsiders().unwrap();
        let who = format!("process {} (`sleep`)", stranger.id());
        assert!(named.len() == 1 && named[0].contains(&who) && named[0].contains("cwd"), "{named:?}");
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(deployer.outsiders().unwrap(), [""; 0]);
}

#[test]
fn after_a_reboot_the_version_is_known_and_can_be_started_on_its_data() {
    let sleep = unique();
    let app = Scripted::running(Rung::Own, &format!("date +%N >> $DATA_DIR/starts; exec sleep {sleep}\n"));
    app.written("starts");
    let (host, config) = app.library();
    let before = present(&host, &config);
    let supervisor = app.supervisor();
    kill_process(Pid::from_raw(supervisor.pid).unwrap(), Signal::KILL).unwrap();
    wait_for("the end of all", || with_word(&sleep).is_empty().then_some(()));
    let record = app_folder(&app.state_dir()).join("deployment.json");
    let mut on_disk: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    on_disk["boot"] = json!("11111111-2222-3333-4444-555555555555");
    fs::write(&record, on_disk.to_string()).unwrap();
    let down = present(&host, &config);
    assert_eq!((&down.state, &down.what), (&Convergence::Down, &before.what));
    let Known::Yes(identity) = down.what else { panic!("not known") };
    let lock = lock(&host, &config);
    let deployer = deployer::open(&host, &config).unwrap();
    assert_eq!(deployer.stop(&lock, Deadline::after(Duration::from_secs(20))).unwrap(), Stopped::WasDown);
    let release = deployer.prepared(&identity).unwrap();
    deployer.deploy(&release, &lock).unwrap();
    let after = present(&host, &config);
    assert_eq!(after.what, before.what);
    assert_ne!(after.generation, before.generation);
    wait_for("the second start on the same data", || {
        (fs::read_to_string(app.data().join("starts")).unwrap().lines().count() == 2).then_some(())
    });
    // Done again, it changes nothing.
    deployer.deploy(&release, &lock).unwrap();
    assert_eq!(present(&host, &config).generation, after.generation);
}

#[test]
fn a_killed_launch_keeps_the_lock_until_its_supervisor_is_done() {
    let sleep = unique();
    let app = Scripted::prepared(Rung::Own, &format!("exec sleep {sleep}\n"));
    let folder = app_folder(&app.state_dir());
    let mut update = Command::new(app.fixture.sandbox.program())
        .arg("--config")
        .arg(app.fixture.sandbox.config())
        .args(["update", APP])
        .env("CC_WARM_SUPERVISOR_FAULT", "process.start.ready=hang")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the app", || (with_word(&sleep).len() == 1).then_some(()));
    update.kill().unwrap();
    update.wait().unwrap();
    // cc-warm is dead, and its child still changes the app.
    let text = app.run(&["recover", APP]).expect(30);
    assert!(text.contains("has ended"), "{text}");
    assert!(flock::is_locked(&folder.join("launch.lock")).unwrap());
    let launcher = with_word("start").into_iter().filter(|&pid| is_of(pid, &folder));
    for pid in launcher {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    wait_for("the lock", || (!flock::is_locked(&folder.join("launch.lock")).unwrap()).then_some(()));
    // What it had started by then is found, and dealt with.
    app.run(&["recover", APP]);
    app.run(&["undeploy", APP]);
    assert_eq!(with_word(&sleep), [0; 0]);
}

fn is_of(pid: i32, folder: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|&byte| byte == 0).any(|word| word == folder.to_str().unwrap().as_bytes())
}

#[test]
fn a_launch_that_was_given_up_starts_nothing() {
    let sleep = unique();
    let app = Scripted::running(Rung::Own, &format!("exec sleep {sleep}\n"));
    let folder = app_folder(&app.state_dir());
    app.run(&["undeploy", APP]).expect(0);
    let output = Program::new(app.fixture.sandbox.program())
        .args(["supervise", "start", "--generation", "000000000000", "--containment", "session", "--folder"])
        .arg(&folder)
        .run()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("given up"));
    assert_eq!(with_word(&sleep), [0; 0]);
}

#[test]
fn what_a_recipe_puts_into_the_environment_reaches_only_the_app() {
    // Loaded by the dynamic linker into whatever runs with it: it must never be cc-warm, which may be root here.
    let app = Scripted::prepared(Rung::Own, "echo $LD_PRELOAD $CC_WARM_CONFIG > $DATA_DIR/got; exec sleep 1000000\n");
    let maker = &app.fixture.sandbox.maker;
    maker
        .write(".env.sample", "LD_PRELOAD=/nonexistent/evil.so\nCC_WARM_CONFIG=/nonexistent\nCC_WARM_FAULT=bad\n")
        .unwrap();
    maker.git(&["add", "--all"]).unwrap();
    maker.git(&["commit", "--quiet", "--message", "1.0.1+1"]).unwrap();
    maker.git(&["tag", "1.0.1+1"]).unwrap();
    app.run(&["update", APP]).expect(0);
    assert_eq!(app.written("got"), "/nonexistent/evil.so /nonexistent\n");
    // The linker complains once for the shell and once for `sleep`, and for nothing that became them.
    let log = app_folder(&app.state_dir()).join("log");
    let complaints = |text: &str| text.lines().filter(|line| line.contains("evil.so")).count();
    wait_for("both complaints", || (complaints(&fs::read_to_string(&log).unwrap()) >= 2).then_some(()));
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(complaints(&text), 2, "{text}");
}
