"""A host for hostile content: each command's output is looked at, and something outside of the volume must stay as it is."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import time

import lab
from sandbox import APP, NEW, NOTES, OLD, Sandbox, difference, fingerprint, write

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
