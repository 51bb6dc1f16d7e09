//! Processes, and what they use, as `/proc` has them.

use std::io::{BufRead, Write};

use super::*;

#[test]
fn a_hostile_program_name_does_not_shift_the_fields() {
    let line = b"42 (a) Z 1 (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
    let stat = parse_stat(line).unwrap();
    assert_eq!((stat.id, stat.parent, stat.ended), (ProcessId { pid: 42, start: 12345 }, 7, false));
    assert!(!stat.kernel);
    assert_eq!(stat.name.raw(), "a) Z 1 (b)");
    assert!(parse_stat(b"").is_none() && parse_stat(b")(").is_none());
}

#[test]
fn the_kernels_own_threads_are_none_of_all() {
    let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0";
    assert!(parse_stat(line).unwrap().kernel);
    let me = this_process().unwrap();
    assert!(all().iter().any(|process| process.id == me) && all().iter().all(|process| !process.kernel));
}

#[test]
fn mounts_with_spaces_are_read() {
    let line = br"36 35 98:0 /mnt\0401 /mnt/a\134b rw - ext4 /dev/x rw";
    assert_eq!(parse_mount(line), Some(Mount { device: "98:0".into(), root: "/mnt 1".into(), at: r"/mnt/a\b".into() }));
}

#[test]
fn sees_open_files_working_directories_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let folders = Folders::new(&[dir.path().join("used"), dir.path().join("missing")]);
    assert!(folders.is_empty());
    fs::create_dir(dir.path().join("used")).unwrap();
    fs::create_dir(dir.path().join("used2")).unwrap();
    let folders = Folders::new(&[dir.path().join("used")]);
    let me = this_process().unwrap().pid;
    assert_eq!(use_of(me, &folders), None);
    let neighbour = fs::File::create(dir.path().join("used2/file")).unwrap();
    assert_eq!(use_of(me, &folders), None, "a longer name is another folder");
    let file = fs::File::create(dir.path().join("used/file")).unwrap();
    assert_eq!(use_of(me, &folders).as_deref(), Some("as an open file"));
    drop((file, neighbour));
    assert_eq!(use_of(me, &folders), None);
}

#[test]
fn sees_through_a_mount_of_a_folder_above_but_not_everybody_who_has_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped, wants root: sees_through_a_mount_of_a_folder_above_but_not_everybody_who_has_it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [above, at] = ["volumes", "elsewhere"].map(|name| dir.path().join(name));
    fs::create_dir_all(above.join("used/_data")).unwrap();
    fs::create_dir(&at).unwrap();
    fs::write(above.join("used/_data/file"), "").unwrap();
    let script =
        "mount --bind \"$0\" \"$1\" && echo mounted && read _ && exec 3<\"$1/used/_data/file\" && echo open && read _";
    let mut child = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .args([&above, &at])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let folders = Folders::new(&[above.join("used")]);
    let pid = child.id().cast_signed();
    let uses = || use_of(pid, &folders);
    if said.next().is_none() {
        child.wait().unwrap();
        eprintln!(
            "skipped, nothing can be mounted: sees_through_a_mount_of_a_folder_above_but_not_everybody_who_has_it"
        );
        return;
    }
    assert_eq!(uses(), None);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "open");
    assert_eq!(uses().as_deref(), Some("as an open file"));
    drop(stdin);
    child.wait().unwrap();
}

#[test]
fn sees_loop_devices_over_its_files_and_over_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (sys, volume) = (dir.path().join("block"), dir.path().canonicalize().unwrap().join("volume"));
    fs::create_dir(&volume).unwrap();
    for (device, file) in [
        ("loop0", volume.with_file_name("volume2/disk.img")),
        ("loop1", volume.join("d/disk image")),
        ("loop2", volume.join("deleted (deleted)")),
    ] {
        fs::create_dir_all(sys.join(device).join("loop")).unwrap();
        fs::write(sys.join(device).join("loop/backing_file"), format!("{}\n", file.display())).unwrap();
    }
    fs::create_dir(sys.join("sda")).unwrap();
    let found = loop_devices(&sys, &Folders::new(&[volume]));
    assert_eq!(found, ["1", "2"].map(|n| format!("the loop device `/dev/loop{n}` is over a file of a volume of it")));
    assert!(loop_devices(&dir.path().join("none"), &Folders::new(&[dir.path().to_owned()])).is_empty());
}

#[test]
fn a_process_whose_first_thread_has_ended_still_runs() {
    // 60 is exit(2), which ends one thread.
    let script = "import ctypes, sys, threading, time\n\
        def stay():\n    file = open(sys.argv[1], 'w')\n    time.sleep(600)\n\
        threading.Thread(target=stay).start()\n\
        ctypes.CDLL(None).syscall(60, 0)\n";
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(dir.path().join("file"))
        .env("MARK", "of the test")
        .spawn()
        .expect("python3");
    let pid = i32::try_from(child.id()).unwrap();
    let id = stat(pid).unwrap().id;
    let first = || fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.windows(4).any(|at| at == b") Z "));
    while !first() || !dir.path().join("file").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    let users = users_of(&[dir.path().to_owned()]);
    assert!(id.runs() && users.len() == 1 && users[0].contains(&format!("process {pid} ")), "{users:?}");
    assert!(environment(pid).contains(&b"MARK=of the test".to_vec()) && pid_namespace(pid).is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!id.runs() && users_of(&[dir.path().to_owned()]).is_empty());
}

#[test]
fn a_process_that_has_ended_does_not_run() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let id = stat(pid).unwrap().id;
    rustix::process::waitid(
        rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    )
    .unwrap();
    assert!(!id.runs(), "a zombie");
    child.wait().unwrap();
    assert!(!id.runs());
    assert!(this_process().unwrap().runs());
}
