#!/usr/bin/env python3
"""Hostile content: what an app may put into its volume, or do to it while it is copied. Nothing outside the volume is read,
written or deleted; nothing hangs; nothing is left out without a word; and no message carries what a terminal would obey.

  hostile.py [--match REGEX] [--jobs N]      (CC_WARM names another program than the built one)
"""

import argparse
import concurrent.futures
import contextlib
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import lab
from sandbox import APP, NEW, NOTES, OLD, Sandbox, difference, fingerprint, write
from scenarios import prepare

CASES = {}
EVIL = b"\x1b]0;evil\x07\x1b[2J\nnotes: all is well\r\xff\xfe\xe2\x80\xae"


def case(*kinds):
    """A case is a function of the host; its name is the claim."""
    def add(function):
        CASES[function.__name__] = (function, kinds or ("ext4",))
        return function
    return add


class Host:
    """A sandbox in which each command's output is looked at, and with something outside of the volume that must stay."""

    def __init__(self, kind, folder, program):
        self.kind, self.mounted = kind, f"{folder}/mnt"
        self.image = f"{folder}/{kind}-{os.getpid()}-{time.monotonic_ns()}.img"
        lab.copy_sparse(f"{folder}/{kind}.img", self.image)
        lab.mount_image(self.image, self.mounted, kind)
        # It lives for as long as it is mounted.
        os.unlink(self.image)
        self.sandbox = Sandbox(self.mounted, program)
        self.sandbox.boot().expect(0)
        self.data = self.sandbox.data
        self.outside = f"{self.mounted}/outside"
        os.makedirs(f"{self.outside}/folder")
        for name in ("canary", "folder/canary"):
            write(f"{self.outside}/{name}", b"the bird sings\n" * 100)
        for name in ("", "canary", "folder", "folder/canary"):
            # Older than its mtime: whoever reads it moves it, also with relatime.
            at = os.stat(f"{self.outside}/{name}")
            os.utime(f"{self.outside}/{name}", ns=(10**9, at.st_mtime_ns))
        self.before = self.watch()

    def watch(self):
        found = {}
        for name in ("", "canary", "folder", "folder/canary"):
            at = os.lstat(f"{self.outside}/{name}")
            found[name] = (at.st_ino, at.st_mode, at.st_uid, at.st_size, at.st_atime_ns, at.st_mtime_ns, at.st_ctime_ns, at.st_nlink)
        return found

    def must_be_untouched(self):
        now = self.watch()
        if now != self.before:
            raise lab.Failure(f"something outside was touched: {self.before}\nnow {now}")

    def run(self, *words, fault="", timeout=60):
        ran = self.sandbox.run(list(words), fault, timeout=timeout)
        for byte in ran.raw:
            if byte < 0x20 and byte != 0x0A or byte == 0x7F:
                raise lab.Failure(f"`{' '.join(words)}` prints control characters: {ran.raw!r}")
        try:
            text = ran.raw.decode()
        except UnicodeDecodeError as error:
            raise lab.Failure(f"`{' '.join(words)}` prints what is not UTF-8: {ran.raw!r}") from error
        if re.search("[\u0080-\u009f\u2028-\u202e\u2066-\u2069]", text):
            raise lab.Failure(f"`{' '.join(words)}` prints control characters: {ran.raw!r}")
        if re.search("^notes: all is well", text, re.M):
            raise lab.Failure(f"`{' '.join(words)}` lets a name speak: {text}")
        return ran

    def snapshot(self, kind=OLD):
        """A snapshot that must succeed, and be what the data was."""
        ran = self.run("snapshot", APP)
        ran.expect(0)
        self.same(self.sandbox.snapshot_tree(), "the snapshot")
        self.run("verify", APP).expect(0)
        return ran

    def restore(self):
        """A restore that must succeed, and bring what the data was at the last `remember`."""
        self.run("restore", APP, "--yes").expect(0)
        self.same(self.data, "the restored data")
        if self.sandbox.notes() != NOTES:
            raise lab.Failure(f"the app says {self.sandbox.notes()}")

    def remember(self):
        self.wanted = fingerprint(self.data)

    def same(self, tree, what):
        wrong = difference(self.wanted, fingerprint(tree))
        if wrong:
            raise lab.Failure(f"{what} is not what it was: {wrong}")

    def there_and_back(self):
        """Snapshot, damage, restore, and once more from the restored data; failed data and all are gone in the end."""
        self.remember()
        said = self.snapshot()
        self.sandbox.write_note("lost")
        self.restore()
        self.snapshot()
        self.must_be_untouched()
        return said

    def refuses(self, naming, *words):
        """Neither `snapshot` nor an update does anything, and both say why; the app runs on."""
        known_good = self.sandbox.snapshot_tree()
        before = self.sandbox.snapshot_id(), fingerprint(known_good)
        log = self.sandbox.log()
        self.sandbox.publish(NEW)
        for command in (words,) if words else (("snapshot", APP), ("update", APP)):
            ran = self.run(*command)
            if ran.code == 0 or naming not in ran.text:
                raise lab.Failure(f"`{' '.join(command)}` ended with {ran.code}, and should refuse, naming `{naming}`:\n{ran.text}")
            if self.sandbox.log() != log:
                raise lab.Failure(f"`{' '.join(command)}` had stopped the app:\n{ran.text}\n{self.sandbox.log()}")
        if self.sandbox.notes() != NOTES or self.sandbox.answering() != OLD:
            raise lab.Failure(f"{self.sandbox.answering()} runs, with {self.sandbox.notes()}")
        after = self.sandbox.snapshot_id(), fingerprint(self.sandbox.snapshot_tree())
        if before != after:
            raise lab.Failure("the known-good is another one")
        self.must_be_untouched()

    def configure(self, change):
        with open(self.sandbox.config) as file:
            config = json.load(file)
        change(config)
        with open(self.sandbox.config, "w") as file:
            json.dump(config, file)

    @contextlib.contextmanager
    def meanwhile(self, work):
        """Something that goes on while cc-warm works, without a pause and without a descriptor that stays."""
        child = multiprocessing.Process(target=forever, args=(work,))
        child.start()
        try:
            yield
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.join()


def forever(work):
    turn = 0
    while True:
        with contextlib.suppress(OSError):
            work(turn)
        turn += 1


# --- fidelity ---

@case("ext4", "xfs", "btrfs")
def carries_everything_of_every_kind_of_file(host):
    top = f"{host.data}/kinds"
    os.makedirs(f"{top}/a/b/c")
    for number, mode in enumerate((0o000, 0o400, 0o4755, 0o2755, 0o1777, 0o7777)):
        write(f"{top}/mode{number}", b"x" * number, owner=(number, 65534 - number))
        os.chmod(f"{top}/mode{number}", mode)
    os.mknod(f"{top}/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(f"{top}/block", 0o660 | stat.S_IFBLK, os.makedev(7, 200))
    os.mkfifo(f"{top}/fifo")
    os.symlink("x" * 1000, f"{top}/long")
    os.symlink(b"\xff\n\x1b[2J", f"{top}/odd")
    os.lchown(f"{top}/odd", 77, 78)
    os.setxattr(f"{top}/odd", "trusted.of-a-link", b"\0\xff", follow_symlinks=False)
    os.utime(f"{top}/long", ns=(1, 987_654_321), follow_symlinks=False)
    write(f"{top}/capable", b"#!/bin/true\n", mode=0o755)
    subprocess.run(["setcap", "cap_net_bind_service=ep", f"{top}/capable"], check=True)
    write(f"{top}/old", b"old")
    os.utime(f"{top}/old", ns=(-5_000_000_000, -1_500_000_000))
    write(f"{top}/late", b"late")
    os.utime(f"{top}/late", ns=(1, 4_200_000_000_123_456_789))
    for number in range(50):
        os.setxattr(f"{top}/late", f"user.{number}", os.urandom(16) * (number % 4))
    os.setxattr(top, "user.of-a-folder", b"yes")
    for folder, acl in (("a", "d:u:1000:rwx,d:g:7:r"), ("a/b", "u:5:x"), ("a/b/c", "d:o::-,m::rx")):
        subprocess.run(["setfacl", "-m", acl, f"{top}/{folder}"], check=True)
    for number in range(300):
        os.link(f"{top}/capable", f"{top}/a/b/link{number}")
    write(f"{top}/a/in", b"made below a default ACL")
    with open(f"{top}/sparse", "wb") as file:
        file.truncate(3 << 30)
        for at in (0, 1 << 30, (3 << 30) - 5):
            os.pwrite(file.fileno(), b"data!", at)
    with open(f"{top}/ends in a hole", "wb") as file:
        file.write(b"y" * 5000)
        file.truncate(1 << 20)
    os.chmod(f"{top}/a/b", 0o2770)
    os.chown(f"{top}/a/b", 0, 12)
    os.mkdir(f"{top}/read only", 0o555)
    for folder in (f"{top}/a/b/c", f"{top}/a/b", f"{top}/a", top):
        os.utime(folder, ns=(5, 1_111_111_111_111_111_111))
    host.remember()
    host.snapshot()
    copied = os.stat(f"{host.sandbox.snapshot_tree()}/kinds/sparse").st_blocks * 512
    if copied > 1 << 20:
        raise lab.Failure(f"the holes were filled: {copied} bytes")
    host.sandbox.write_note("lost")
    host.restore()
    host.must_be_untouched()


@case("ext4", "xfs", "btrfs")
def names_of_any_bytes_are_names(host):
    top = os.fsencode(host.data)
    for name in (EVIL, b"-rf", b"--help", b"...", b"..data", b" ", b"\n", b"\t\x07", b"a" * 255, b"\xff" * 255, b"*", b"$(reboot)",
                 b"'\"\\`", "\u00e9".encode(), "e\u0301".encode(), b"\xc0\xaf..\xc0\xaf", b"current", b"manifest.json", b"_data",
                 b"\\x2e\\x2e", b"%2e%2e", b".cc-warm-new-0", b"entries"):
        folder = os.path.join(top, b"names", name)
        os.makedirs(folder)
        write(os.path.join(folder, name), name)
        os.symlink(name, os.path.join(folder, b"l" + name[:250]))
    host.there_and_back()


@case("ext4", "btrfs")
def flags_are_carried_and_in_nobodys_way(host):
    top = f"{host.data}/flags"
    os.makedirs(f"{top}/fixed/below")
    os.makedirs(f"{top}/log")
    for name in ("fixed/file", "fixed/below/file", "log/append", "plain"):
        write(f"{top}/{name}", name.encode() * 100)
    os.link(f"{top}/fixed/file", f"{top}/fixed/link")
    for name, flags in (("log/append", 0x20), ("fixed/file", 0x10), ("fixed/below/file", 0x10 | 0x40), ("fixed/below", 0x10),
                        ("fixed", 0x10), ("log", 0x20), ("plain", 0x80)):
        lab.chattr(f"{top}/{name}", flags, True)
    host.configure(lambda config: config["apps"][APP].setdefault("update", {}).update(keepFailed="0s", keepPrevious="0s"))
    host.there_and_back()


@case("btrfs")
def copy_on_write_stays_off_where_it_was(host):
    write(f"{host.data}/empty", b"")
    os.mkdir(f"{host.data}/database")
    lab.chattr(f"{host.data}/database", 0x00800000, True)
    write(f"{host.data}/database/table", os.urandom(100_000))
    host.there_and_back()
    for tree in (host.sandbox.snapshot_tree(), host.data):
        for name in ("database", "database/table"):
            if "C" not in subprocess.run(["lsattr", "-d", f"{tree}/{name}"], capture_output=True, text=True).stdout.split()[0]:
                raise lab.Failure(f"{tree}/{name} is copied on write")


@case("ext4")
def sockets_are_left_out_and_counted(host):
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        os.mkdir(f"{host.data}/run")
        for number, each in enumerate((one, two)):
            os.chdir(f"{host.data}/run")
            each.bind(f"s{number}")
        os.chdir("/")
    host.remember()
    host.run("snapshot", APP).expect(0)
    host.same(host.sandbox.snapshot_tree(), "the snapshot")
    said = host.run("verify", APP).expect(0)
    with open(f"{host.sandbox.app_dir}/snapshots/{host.sandbox.snapshot_id()}/manifest.json") as file:
        manifest = file.read()
    if not re.search(r'"sockets": ?2\b', manifest) and not re.search(r"\b2 sockets?", said):
        raise lab.Failure(f"nobody says that 2 sockets were left out:\n{said}\n{manifest[:1000]}")


@case("ext4", "xfs", "btrfs")
def trees_of_any_depth_are_carried_and_deleted(host):
    depth, name = 4000, b"d" * 100

    def descend(top, make):
        """How deep it goes, with bounded descriptors; with a file at each hundredth."""
        at, found = os.open(top, os.O_RDONLY | os.O_DIRECTORY), 0
        while found < depth:
            if make:
                os.mkdir(name, dir_fd=at)
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except FileNotFoundError:
                break
            os.close(at)
            at, found = below, found + 1
            if found % 100 == 0:
                file = os.open(b"file", os.O_RDWR | (os.O_CREAT if make else 0), 0o644, dir_fd=at)
                if make:
                    os.write(file, str(found).encode())
                elif os.read(file, 100) != str(found).encode():
                    raise lab.Failure(f"at {found} is another file")
                os.close(file)
        os.close(at)
        return found

    descend(host.data, True)
    host.configure(lambda config: config["apps"][APP].setdefault("update", {}).update(keepFailed="0s", keepPrevious="0s"))
    for what in (("snapshot", APP), ("restore", APP, "--yes"), ("snapshot", APP), ("verify", APP)):
        host.run(*what).expect(0)
        for tree in (host.data, host.sandbox.snapshot_tree()):
            found = descend(tree, False)
            if found != depth:
                raise lab.Failure(f"after {what}: {tree} is {found} deep")
    host.must_be_untouched()


# --- what blocks ---

@case("ext4")
def nothing_that_blocks_when_opened_is_opened(host):
    os.mkdir(f"{host.data}/block")
    os.mkfifo(f"{host.data}/block/fifo")
    # A serial line waits for a carrier; opening the controlling terminal or a watchdog has effects.
    for name, device in (("ttyS0", os.makedev(4, 64)), ("tty", os.makedev(5, 0)), ("none", os.makedev(240, 7))):
        os.mknod(f"{host.data}/block/{name}", 0o666 | stat.S_IFCHR, device)
    os.mknod(f"{host.data}/block/disk", 0o666 | stat.S_IFBLK, os.makedev(7, 250))
    began = time.monotonic()
    host.there_and_back()
    if time.monotonic() - began > 30:
        raise lab.Failure("it took longer than 30 s")


# --- mounts ---

@case("ext4", "btrfs")
def a_mount_in_a_volume_is_refused_before_any_downtime(host):
    where = os.path.join(os.fsencode(host.data), b"below", b"\x1b[2Jmount\n")
    os.makedirs(where)
    subprocess.run(["mount", "-t", "tmpfs", "other", where], check=True)
    write(os.path.join(where, b"foreign"), b"foreign")
    host.refuses("mount")
    with open(os.path.join(where, b"foreign"), "rb") as file:
        if file.read() != b"foreign":
            raise lab.Failure("what is mounted was touched")


@case("ext4")
def a_bind_mount_of_the_same_file_system_is_refused(host):
    # The same device and file system: only the mount id tells.
    os.makedirs(f"{host.data}/bound")
    subprocess.run(["mount", "--bind", host.outside, f"{host.data}/bound"], check=True)
    host.refuses("bound")


@case("ext4")
def a_file_bound_over_a_file_is_refused(host):
    write(f"{host.data}/over", b"mine")
    subprocess.run(["mount", "--bind", f"{host.outside}/canary", f"{host.data}/over"], check=True)
    host.refuses("over")


@case("btrfs")
def a_subvolume_in_a_volume_is_refused(host):
    subprocess.run(["btrfs", "subvolume", "create", f"{host.data}/sub"], check=True, capture_output=True)
    write(f"{host.data}/sub/file", b"in a subvolume")
    host.refuses("sub")


@case("ext4")
def data_that_is_a_mount_point_is_refused(host):
    subprocess.run(["mount", "--bind", host.data, host.data], check=True)
    host.refuses("_data")


@case("ext4")
def a_mount_that_appears_while_deleting_is_not_crossed(host):
    """Failed data and old generations with a mount in them: what is mounted stays."""
    host.configure(lambda config: config["apps"][APP].setdefault("update", {}).update(keepFailed="0s", keepPrevious="0s"))
    os.makedirs(f"{host.data}/victim")
    write(f"{host.data}/victim/file", b"x")
    host.run("snapshot", APP).expect(0)
    subprocess.run(["mount", "--bind", host.outside, f"{host.sandbox.snapshot_tree()}/victim"], check=True)
    for _ in range(3):
        host.run("snapshot", APP)
    host.must_be_untouched()
    if not os.path.exists(f"{host.outside}/folder/canary"):
        raise lab.Failure("a mounted folder was emptied")


# --- races ---

def swap(one, other):
    """Exchanges two names."""
    if LIBC.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) != 0:
        raise OSError(lab.ctypes.get_errno(), "renameat2")


LIBC = lab.ctypes.CDLL(None, use_errno=True)


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
    stopped = []

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


def perform(name, kind, folder, program):
    host = Host(kind, folder, program)
    CASES[name][0](host)
    return True


def prepare_image(kind, folder, program):
    return prepare(kind, folder, program)


TASKS = {"prepare": prepare_image, "perform": perform}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="", help="only cases whose name matches")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    args = parser.parse_args()
    why = lab.skip_reason()
    if why:
        print(f"skipped: hostile content: {why}")
        return 0
    tested, folder = lab.program(), lab.scratch()
    program = f"{folder}/cc-warm"
    shutil.copy(tested, program)
    os.chmod(program, 0o755)
    os.mkdir(f"{folder}/mnt")
    passed, failures = 0, []

    def attempt(task, **arguments):
        return lab.run_cell(os.path.abspath(__file__), task, {**arguments, "folder": folder, "program": program}, 180)

    try:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            kinds = lab.kinds_here()
            for done in [pool.submit(attempt, "prepare", kind=kind) for kind in kinds]:
                done.result()
            running = {pool.submit(attempt, "perform", name=name, kind=kind): f"{kind}: {name.replace('_', ' ')}"
                       for name, (_, wanted) in CASES.items() for kind in wanted
                       if kind in kinds and re.search(args.match, name)}
            for done in concurrent.futures.as_completed(running):
                try:
                    done.result()
                    passed += 1
                    print(f"  ok: {running[done]}", flush=True)
                except lab.Failure as failure:
                    failures.append(running[done])
                    print(f"FAILED: {running[done]}:\n{failure}\n", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for failure in failures:
        print("FAILED:", failure)
    print(f"count: {passed} passed, {len(failures)} failed")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    lab.inside(TASKS) or sys.exit(main())
