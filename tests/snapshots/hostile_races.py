"""What an app, or anybody, may do to a volume while it is copied, restored or deleted."""

import ctypes
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import time

import lab
from host import EVIL, case
from sandbox import APP, NEW, NOTES, difference, fingerprint, write


# --- races ---

def swap(one, other):
    """Exchanges two names."""
    if LIBC.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


LIBC = ctypes.CDLL(None, use_errno=True)


def ends_well(host, ran):
    """While somebody writes, a snapshot fails and says so, or is whole; the app runs in any case."""
    if ran.code not in (0, 1, 10, 11):
        raise lab.Failure(f"it ended with {ran.code}:\n{ran.text}")
    if host.sandbox.notes() is None or host.sandbox.notes()[:2] != NOTES:
        raise lab.Failure(f"after {ran.code} the app says {host.sandbox.notes()}:\n{ran.text}\n{host.sandbox.evidence()}")
    host.run("verify", APP).expect(0)
    found = subprocess.run(["grep", "-rlI", "the bird sings", f"{host.sandbox.state}"], capture_output=True).stdout
    if found:
        raise lab.Failure(f"what lies outside was copied in: {found!r}")
    host.must_be_untouched()


@case("ext4", "xfs", "btrfs")
def a_folder_that_becomes_a_link_while_copied_is_not_followed(host):
    for number in range(40):
        os.makedirs(f"{host.data}/race/{number}/folder")
        write(f"{host.data}/race/{number}/folder/canary", b"mine")
        write(f"{host.data}/race/{number}/canary", b"mine")
        os.symlink(f"{host.outside}/folder", f"{host.data}/race/link{number}")
        os.symlink(f"{host.outside}/canary", f"{host.data}/race/flink{number}")

    def flip(turn):
        number = turn % 40
        swap(f"{host.data}/race/{number}/folder", f"{host.data}/race/link{number}")
        swap(f"{host.data}/race/{number}/canary", f"{host.data}/race/flink{number}")

    codes = set()
    with host.meanwhile(flip):
        for _ in range(6):
            ran = host.run("snapshot", APP)
            codes.add(ran.code)
            ends_well(host, ran)
    if 1 not in codes:
        raise lab.Failure(f"nobody noticed that something wrote all the time: {codes}")


@case("ext4", "btrfs")
def a_folder_moved_out_while_copied_or_deleted_leads_nowhere(host):
    """Whoever goes up by `..` from a folder that was moved comes out somewhere else."""
    host.configure(lambda config: config["apps"][APP].setdefault("update", {}).update(keepFailed="0s", keepPrevious="0s"))
    os.makedirs(f"{host.outside}/deep/er")
    for number in range(20):
        folder = f"{host.data}/move/{number}/a/b/c/d/e/f"
        os.makedirs(folder)
        for name in range(20):
            write(f"{folder}/{name}", b"mine")
    host.before = host.watch()
    places = []

    def move(turn):
        number = turn // 2 % 20
        ours, theirs = f"{host.data}/move/{number}/a/b", f"{host.outside}/deep/er/b{number}"
        os.rename(*((ours, theirs) if turn % 2 == 0 else (theirs, ours)))

    with host.meanwhile(move):
        for what in (("snapshot", APP), ("snapshot", APP), ("restore", APP, "--yes"), ("snapshot", APP), ("restore", APP, "--yes")):
            ran = host.run(*what)
            if ran.code not in (0, 1, 10, 11):
                raise lab.Failure(f"{what} ended with {ran.code}:\n{ran.text}")
    host.must_be_untouched()
    host.run("verify", APP).expect(0)


@case("ext4", "xfs", "btrfs")
def what_changes_while_it_is_copied_fails_the_snapshot(host):
    top = f"{host.data}/change"
    os.makedirs(top)
    for number in range(200):
        write(f"{top}/{number}", os.urandom(20_000))
    before = fingerprint(host.sandbox.snapshot_tree())

    def change(turn):
        path = f"{top}/{turn * 7 % 200}"
        match turn % 6:
            case 0:
                with open(path, "ab") as file:
                    file.write(b"more" * 1000)
            case 1:
                os.truncate(path, 10)
            case 2:
                os.unlink(path)
            case 3:
                write(f"{top}/new{turn % 300}", b"new")
            case 4:
                os.rename(path, f"{top}/moved{turn % 300}")
            case 5:
                write(path, b"again" * 5000)

    with host.meanwhile(change):
        for _ in range(4):
            ran = host.run("snapshot", APP)
            if ran.code == 0:
                raise lab.Failure(f"a snapshot of what changed all the time is called good:\n{ran.text}")
            if not re.search(r"still writ|chang|open file", ran.text):
                raise lab.Failure(f"nobody says that something writes:\n{ran.text}")
            if host.sandbox.notes() != NOTES:
                raise lab.Failure(f"the app says {host.sandbox.notes()}:\n{ran.text}")
    wrong = difference(before, fingerprint(host.sandbox.snapshot_tree()))
    if wrong:
        raise lab.Failure(f"the known-good is another: {wrong}")
    host.run("verify", APP).expect(0)
    host.run("snapshot", APP).expect(0)


@case("ext4")
def a_file_written_through_a_map_is_noticed(host):
    """A store into a mapped page moves no time before the page is written back."""
    path = f"{host.data}/mapped"
    write(path, bytes(1 << 20))
    ready = multiprocessing.Event()

    def store(ready):
        import mmap
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            turn = 0
            while True:
                mapped[turn * 4096 % len(mapped)] = turn % 255
                turn += 1
                if turn == 1000:
                    ready.set()

    child = multiprocessing.Process(target=store, args=(ready,))
    child.start()
    try:
        if not ready.wait(20):
            raise lab.Failure("the writer does not write")
        began = time.monotonic()
        ran = host.run("snapshot", APP, timeout=150)
        took = time.monotonic() - began
        if ran.code == 0 or str(child.pid) not in ran.text:
            raise lab.Failure(f"a process with a map of the volume was not named (exit {ran.code}):\n{ran.text}")
        if host.sandbox.notes() != NOTES:
            raise lab.Failure(f"after {took:.0f} s the app says {host.sandbox.notes()}:\n{ran.text}")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    host.run("snapshot", APP).expect(0)


@case("ext4")
def a_shell_in_a_volume_does_not_keep_the_app_down(host):
    """An operator who looks around is no reason for an app to be down in the morning."""
    os.makedirs(f"{host.data}/uploads")
    shell = subprocess.Popen(["sleep", "600"], cwd=f"{host.data}/uploads")
    try:
        host.sandbox.publish(NEW)
        began = time.monotonic()
        ran = host.run("update", APP, timeout=150)
        took = time.monotonic() - began
        if str(shell.pid) not in ran.text:
            raise lab.Failure(f"the process was not named (exit {ran.code}):\n{ran.text}")
        if host.sandbox.notes() != NOTES:
            raise lab.Failure(f"after {took:.0f} s the app says {host.sandbox.notes()}:\n{ran.text}")
    finally:
        shell.kill()
        shell.wait()


@case("ext4")
def data_that_is_a_link_is_not_followed(host):
    elsewhere = f"{host.mounted}/elsewhere"
    os.rename(host.data, elsewhere)
    os.symlink(elsewhere, host.data)
    ran = host.run("snapshot", APP)
    if ran.code == 0:
        raise lab.Failure(f"it was followed:\n{ran.text}")
    host.must_be_untouched()


# --- messages ---

@case("ext4")
def a_file_that_cannot_be_read_is_named_in_one_line(host):
    """Every message of a copy that fails names the file, escaped."""
    folder = os.path.join(os.fsencode(host.data), EVIL)
    os.makedirs(folder)
    for number in range(20):
        write(os.path.join(folder, EVIL + bytes([65 + number])), b"x" * 5000)

    def change(turn):
        write(os.path.join(folder, EVIL + bytes([65 + turn % 20])), str(turn).encode())

    with host.meanwhile(change):
        ran = host.run("snapshot", APP)
    if ran.code == 0:
        raise lab.Failure(f"nobody noticed:\n{ran.text}")
    host.run("history", APP)
    host.run("status")
    with open(f"{host.mounted}/alerts.jsonl", "rb") as file:
        if any(byte < 0x20 and byte != 0x0A for byte in file.read()):
            raise lab.Failure("an alert carries control characters")


@case("ext4", "xfs")
def leases_hold_nobody_up(host):
    """Who opens a file that somebody has a lease of is kept waiting for 45 s; an app may have thousands."""
    paths = [f"{host.data}/leased{number}" for number in range(20)]
    for path in paths:
        write(path, b"mine")
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    held = [os.open(path, os.O_RDWR) for path in paths]
    try:
        for fd in held:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        began = time.monotonic()
        said = host.run("snapshot", APP).expect(24)
        if (took := time.monotonic() - began) > 30:
            raise lab.Failure(f"it took {took:.0f} s")
        if "its data is in use" not in said:
            raise lab.Failure(said)
    finally:
        for fd in held:
            os.close(fd)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
    host.run("snapshot", APP).expect(0)
    host.run("verify", APP).expect(0)
