"""What an app may put into its volume: carried whole, or refused before any downtime."""

import os
import re
import socket
import stat
import subprocess
import time

import lab
from host import EVIL, case
from sandbox import APP, ENV, write


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


@case("ext4")
def without_openat2_nothing_is_copied_by_other_means(host):
    """As on an old kernel, or in a sandbox that blocks it."""
    said, log = f"{host.mounted}/said", host.sandbox.log()
    for words in (("snapshot", APP), ("restore", APP, "--yes")):
        argv = ["strace", "-D", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=openat2", "-e", "signal=none",
                "-e", "inject=openat2:error=ENOSYS", *host.sandbox.command(list(words))]
        with open(said, "wb") as file:
            code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=ENV, timeout=60).returncode
        with open(said, errors="replace") as file:
            text = file.read()
        if code == 0 or "the kernel has no openat2" not in text:
            raise lab.Failure(f"`{' '.join(words)}` ended with {code}:\n{text}")
        if host.sandbox.log() != log:
            raise lab.Failure(f"`{' '.join(words)}` had stopped the app:\n{text}\n{host.sandbox.log()}")
    host.must_be_untouched()
    host.there_and_back()
