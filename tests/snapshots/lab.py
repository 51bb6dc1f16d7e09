"""Cells: namespaces of their own (mounts, processes, network, boot id) in which cc-warm has a host to itself on a loop
file system. What is mounted and started in a cell ends with it.

An image is copied while it is mounted: what the file system in it has not yet written to the backing file is exactly what a
power cut loses.
"""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import uuid

KINDS = ("ext4", "xfs", "btrfs")
# The journal of ext4 and btrfs is committed when something asks for it, not by a timer: as much as can be lost, is.
MOUNT = {
    "ext4": "commit=300,barrier=1",
    "xfs": "nouuid",
    "btrfs": "commit=300",
}
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "24576", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-m", "single"],
}
SIZES = {"ext4": 256 << 20, "xfs": 300 << 20, "btrfs": 256 << 20}
CLONE_NEEDS = ("unshare", "losetup", "mount", "umount", "ip", "git", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "setfacl", "setfattr")


def skip_reason():
    """Why cells cannot be had here, if they cannot."""
    if os.geteuid() != 0:
        return "needs root (loop devices and namespaces)"
    gone = [tool for tool in CLONE_NEEDS if shutil.which(tool) is None]
    if gone:
        return "needs " + ", ".join(gone)
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    if tried.returncode != 0:
        return "needs namespaces: " + tried.stderr.decode(errors="replace").strip()
    return None


def kinds_here(wanted=KINDS):
    """The file systems that can be mounted here; the others are named as skipped."""
    here = []
    with open("/proc/filesystems") as known:
        known = known.read().split()
    for kind in wanted:
        if kind in known or subprocess.run(["modprobe", "-q", kind], capture_output=True).returncode == 0:
            here.append(kind)
        else:
            print(f"skipped: {kind}: this kernel does not have it")
    return here


def scratch():
    """A folder for images: in memory, where there is enough of it."""
    free = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    memory = free is not None and free.f_bavail * free.f_frsize > 6 << 30
    made = tempfile.mkdtemp(prefix="cc-warm-lab-", dir="/dev/shm" if memory else None)
    os.chmod(made, 0o755)
    return made


def program():
    """cc-warm with fault points."""
    built = os.path.join(os.path.dirname(__file__), "../../pkgs/cc-warm/target/debug/cc-warm")
    found = os.path.realpath(os.environ.get("CC_WARM", built))
    if not os.access(found, os.X_OK):
        sys.exit(f"error: `{found}` is no program\nhint: cargo build --manifest-path pkgs/cc-warm/Cargo.toml --features fault-points")
    return found


def make_image(path, kind, size=None):
    with open(path, "wb") as image:
        image.truncate(size or SIZES[kind])
    subprocess.run([*MKFS[kind], path], check=True, capture_output=True)
    subprocess.run(["fallocate", "--dig-holes", path], check=True, capture_output=True)


def mount_image(path, where, kind, options=""):
    os.makedirs(where, exist_ok=True)
    given = ",".join(part for part in ("loop", MOUNT[kind], options) if part)
    done = subprocess.run(["mount", "-t", kind, "-o", given, path, where], capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"mount of {kind}: " + done.stderr.decode(errors="replace").strip())


def extents(fd):
    """The ranges of a sparse file that hold data."""
    end, at = os.fstat(fd).st_size, 0
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def copy_sparse(source, target):
    with open(source, "rb") as read, open(target, "wb") as write:
        write.truncate(os.fstat(read.fileno()).st_size)
        for start, end in extents(read.fileno()):
            for at in range(start, end, 1 << 20):
                os.pwrite(write.fileno(), os.pread(read.fileno(), min(1 << 20, end - at), at), at)


class Filmed:
    """Images of one backing file at many moments, each as what changed since the one before."""

    CHUNK = 64 << 10

    def __init__(self, path, base):
        self.path, self.base = path, base
        self.frames = []
        self.last = self.read(base)

    def read(self, path):
        with open(path, "rb") as file:
            fd = file.fileno()
            found = {}
            for start, end in extents(fd):
                start -= start % self.CHUNK
                for at in range(start, end, self.CHUNK):
                    if at not in found:
                        found[at] = os.pread(fd, self.CHUNK, at)
            return found

    def take(self):
        """Films now. True if anything is other than in the frame before."""
        now = self.read(self.path)
        zero = bytes(self.CHUNK)
        changed = {at: chunk for at, chunk in now.items() if self.last.get(at) != chunk}
        changed.update({at: zero for at in self.last if at not in now and self.last[at].count(0) != len(self.last[at])})
        if not changed and self.frames:
            return False
        self.frames.append(changed)
        self.last = now
        return True

    def develop(self, number, path):
        """Writes frame `number` as an image."""
        copy_sparse(self.base, path)
        whole = {}
        for changed in self.frames[: number + 1]:
            whole.update(changed)
        with open(path, "r+b") as image:
            for at, chunk in whole.items():
                os.pwrite(image.fileno(), chunk, at)


# --- inside a cell ---

def enter():
    """Called first inside: a network in which every port is free, and the boot in which images are prepared."""
    # Two cells are one boot, for what one of them prepared, until something says that there was a power cut.
    be_boot(uuid.UUID(int=1))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def another_boot():
    """Another boot from now on: what is remembered of the one before no longer holds."""
    subprocess.run(["umount", "/proc/sys/kernel/random/boot_id"], check=True)
    be_boot(uuid.uuid4())


def be_boot(boot):
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm", prefix="cc-warm-boot-") as fake:
        fake.write(f"{boot}\n")
        fake.flush()
        subprocess.run(["mount", "--bind", fake.name, "/proc/sys/kernel/random/boot_id"], check=True)


def processes():
    """Those of this cell but ourselves: number, state, name."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, os.getpid()):
            continue
        try:
            with open(f"/proc/{name}/stat") as stat:
                text = stat.read()
        except OSError:
            continue
        head, _, rest = text.rpartition(")")
        found.append((int(name), rest.split()[0], head.split("(", 1)[1]))
    return found


def end_all():
    """Ends every process of the cell, as a power cut does."""
    while True:
        alive = [pid for pid, state, _ in processes() if state not in "ZX"]
        if not alive:
            break
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


# --- running cells ---

class Failure(Exception):
    """Something that must not be."""


def run_cell(script, task, arguments, deadline):
    """Runs `task` of `script` in a cell. What it returned, or the failure that it raised."""
    with tempfile.NamedTemporaryFile("r", prefix="cc-warm-cell-", suffix=".json") as answer:
        # Without what only an installation of its own adds to Python: hundreds of cells start.
        argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                sys.executable, "-E", "-s", "-S", script, "--inside", task, json.dumps(arguments), answer.name]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 start_new_session=True)
        try:
            said = child.communicate(timeout=deadline)[0].decode(errors="backslashreplace")
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            said = child.communicate()[0].decode(errors="backslashreplace")
            raise Failure(f"it hung for {deadline} s:\n{said[-3000:]}")
        text = answer.read()
    if not text:
        raise Failure(f"the cell ended with {child.returncode}:\n{said[-3000:]}")
    result = json.loads(text)
    if "failure" in result:
        raise Failure(result["failure"] + ("\n" + said[-2000:] if said.strip() else ""))
    return result["value"]


def inside(tasks):
    """The entry of a script: performs a task inside a cell, if we are in one."""
    if len(sys.argv) < 2 or sys.argv[1] != "--inside":
        return False
    _, _, task, arguments, answer = sys.argv
    worker = os.fork()
    if worker:
        # As the first process of the cell we inherit every orphan.
        while os.wait()[0] != worker:
            pass
        os._exit(0)
    enter()
    try:
        result = {"value": tasks[task](**json.loads(arguments))}
    except Failure as failure:
        result = {"failure": str(failure)}
    except Exception:  # its text is the report
        import traceback
        result = {"failure": traceback.format_exc()}
    with open(answer, "w") as file:
        json.dump(result, file)
    end_all()
    sys.exit()


# --- what the standard library lacks ---

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number


def shutdown(where, flush_log):
    """The file system does no more from now on, as if its disk had gone."""
    fd = os.open(where, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", 1 if flush_log else 2))
    finally:
        os.close(fd)


def chattr(path, flags, on):
    """Sets or clears inode flags (FS_IMMUTABLE_FL 0x10, FS_APPEND_FL 0x20)."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        raw = bytearray(struct.pack("L", 0))
        fcntl.ioctl(fd, 0x80086601, raw)
        now = struct.unpack("L", raw)[0]
        fcntl.ioctl(fd, 0x40086602, struct.pack("L", now | flags if on else now & ~flags))
    finally:
        os.close(fd)


def inode_flags(path):
    """The flags of an inode that a copy must carry: immutable, append-only, no dump, no atime."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        raw = bytearray(struct.pack("L", 0))
        fcntl.ioctl(fd, 0x80086601, raw)
        return struct.unpack("L", raw)[0] & (0x10 | 0x20 | 0x40 | 0x80)
    except OSError:
        return 0
    finally:
        os.close(fd)
