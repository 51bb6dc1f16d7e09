use super::*;
use std::fs::File;

fn sh(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

#[test]
fn keeps_output_and_status() {
    let output = sh("echo out; echo err >&2; exit 3").run().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr, output.status.code()), (&b"out\n"[..], &b"err\n"[..], Some(3)));
}

#[test]
fn a_failure_names_the_command_and_what_it_said() {
    let error = sh("echo no such thing >&2; exit 1").run_ok().unwrap_err().to_string();
    assert!(error.contains("sh -c") && error.contains("no such thing"), "{error}");
}

#[test]
fn the_deadline_kills_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let error = sh(&script).deadline(Duration::from_millis(500)).run().unwrap_err();
    assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    must_be_gone(&pid);
}

#[test]
fn whoever_is_asked_to_end_ends_the_whole_group() {
    // One that does as it is asked, one that does not, and one that was not begun yet.
    for (trap, begun) in [("", true), ("trap '' TERM; ", true), ("", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (pid, interrupt) = (dir.path().join("pid"), Interrupt::never());
        if !begun {
            interrupt.set();
        }
        let script = format!("{trap}sleep 1000 & echo $! > {}; wait", pid.display());
        let error = std::thread::scope(|scope| {
            let run = scope.spawn(|| sh(&script).deadline(Duration::from_mins(10)).ends_with(&interrupt).run());
            while begun && std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
                std::thread::yield_now();
            }
            interrupt.set();
            run.join().unwrap().unwrap_err()
        });
        assert!(matches!(error, CommandError::Asked { .. }), "{error}");
        assert_eq!(pid.exists(), begun);
        if begun {
            must_be_gone(&pid);
        }
    }
    let output = sh("sleep 0.3; echo done").ends_with(&Interrupt::never()).run_ok().unwrap();
    assert_eq!(output.stdout, b"done\n");
    let late = sh("sleep 1000").deadline(Duration::from_millis(300)).ends_with(&Interrupt::never()).run();
    assert!(matches!(late, Err(CommandError::TimedOut { .. })), "{late:?}");
}

/// Fails if the process whose id is in `pid` does not end.
fn must_be_gone(pid: &Path) {
    let grandchild = std::fs::read_to_string(pid).unwrap();
    let deadline = Deadline::after(Duration::from_secs(10));
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", grandchild.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            break;
        }
        assert!(!deadline.is_over(), "the grandchild still lives: {stat}");
        std::thread::yield_now();
    }
}

#[test]
fn a_grandchild_that_keeps_the_pipe_is_not_waited_for() {
    let output = sh("setsid sleep 30 & echo done").deadline(Duration::from_secs(20)).run().unwrap();
    assert_eq!(output.stdout, b"done\n");
}

#[test]
fn the_environment_is_built_from_empty_and_stdin_is_fed() {
    let output = Program::new("env").env("A", "1").run_ok().unwrap();
    let mut names: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| l.split('=').next().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["A", "PATH"]);
    let big = vec![b'x'; 1 << 20];
    assert_eq!(Program::new("cat").stdin(big.clone()).run_ok().unwrap().stdout, big);
    assert_eq!(Program::new("cat").run_ok().unwrap().stdout, b"");
}

#[test]
fn output_is_capped_and_a_deaf_program_is_no_error() {
    let output = sh("head -c 100000 /dev/zero").cap(1000).run_ok().unwrap();
    assert_eq!(output.stdout.len(), 1000);
    sh("exit 0").stdin(vec![0; 1 << 20]).run_ok().unwrap();
}

#[test]
fn an_inherited_lock_outlives_us() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    sh("setsid sleep 30 >/dev/null 2>&1 & echo $!")
        .inherit(&lock)
        .unwrap()
        .run_ok()
        .map(|output| {
            drop(lock);
            let other = File::open(&path).unwrap();
            assert!(other.try_lock().is_err(), "the grandchild holds the lock");
            let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            other.lock().unwrap();
        })
        .unwrap();
}
