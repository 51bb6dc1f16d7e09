"""The saved state that every test starts from: the image booted, its swarm made, both apps running. Boot and swarm are
paid once; the state is kept in the cache under the hash of everything that decides what it is."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import driver
import image
import node
import qemu

# What is in the machine grows old: docker's certificates, if nothing else.
OLDEST = 14 * 24 * 3600


class State:
    """A folder with `disk.qcow2` (on the image's disk) and `memory.zst`."""

    def __init__(self, folder, base):
        self.folder, self.image = folder, base
        self.saved_at = (folder / "memory.zst").stat().st_mtime

    def machine(self, folder, log):
        """A machine of its own, in `folder`, that goes on from here. It is not started yet."""
        disk = folder / "disk.qcow2"
        driver.overlay(self.folder / "disk.qcow2", disk)
        return driver.Machine(self.image, disk, folder, log, born=self.saved_at, incoming=self.folder / "memory.zst")


def key():
    """The hash of everything that decides what the state is."""
    parts = [image.key(), qemu.version(), qemu.accelerator(), *(path.read_text() for path in node.sources_of_the_saved_state())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def ensure(cache, log):
    """The saved state; made if the cache has none, or only an old one."""
    with open(cache / "lock", "w") as lock:
        # Two runs do not make it twice.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _ensure(cache, log)


def _ensure(cache, log):
    base = image.ensure(cache)
    folder = cache / f"state-{key()}"
    if (folder / "memory.zst").exists() and time.time() - State(folder, base).saved_at < OLDEST:
        return State(folder, base)
    with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as making:
        made = Path(making) / "state"
        made.mkdir()
        make(base, made, Path(making), log)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(made, folder)
    return State(folder, base)


def make(base, made, scratch, log):
    """Boots the image, and saves the machine once its apps run."""
    driver.overlay(base / "disk.raw", made / "disk.qcow2")
    machine = driver.Machine(base, made / "disk.qcow2", scratch, log)
    try:
        machine.start()
        node.before_the_saved_state(machine, scratch)
        script = node.TESTS / "nixos/scripts/set-up.py"
        exec(compile(script.read_text(), script, "exec"), {"machine": machine})
        machine.succeed("sync")
        machine.qemu.save(made / "memory.zst")
    finally:
        machine.end()
