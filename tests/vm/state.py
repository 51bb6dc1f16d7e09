"""The saved states that tests start from. They are kept in the cache, each under the hash of what decides what it is.

The first is the image booted, its swarm made, both apps running: boot and swarm are paid once. The second goes on from
there: cc-warm is in the machine, and has adopted both apps. A change of cc-warm costs the second only.
"""

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
# Of states that a newer cc-warm has replaced.
REPLACED = 2 * 3600


class State:
    """A folder with `disk.qcow2` and `memory.zst`."""

    def __init__(self, folder, base):
        self.folder, self.image = folder, base
        self.saved_at = (folder / "memory.zst").stat().st_mtime

    def machine(self, folder, log):
        """A machine of its own, in `folder`, that goes on from here. It is not started yet."""
        disk = folder / "disk.qcow2"
        driver.overlay(self.folder / "disk.qcow2", disk)
        return driver.Machine(self.image, disk, folder, log, born=self.saved_at, incoming=self.folder / "memory.zst")


def digest(*parts):
    """The hash of texts and of what files and folders hold."""
    hashed = hashlib.sha256()
    for part in parts:
        found = [part] if not isinstance(part, Path) else sorted(part.rglob("*")) if part.is_dir() else [part]
        for each in found:
            if isinstance(each, str):
                hashed.update(each.encode())
            elif each.is_file():
                hashed.update(each.read_bytes())
            hashed.update(b"\0")
    return hashed.hexdigest()[:16]


def ensure(cache, subject, log):
    """The second state; both are made if the cache has none, or only old ones. `subject` returns the cc-warm and the
    configurations that are tested; it is called once the first state is there."""
    with open(cache / "lock", "w") as lock:
        # Two runs do not make it twice.
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = image.ensure(cache)
        key = digest(image.key(), qemu.version(), qemu.accelerator(), *node.sources_of_the_first_state())
        first = kept(cache / f"state-{key}", base, lambda folder, scratch: make_first(base, folder, scratch, log))
        cc_warm, configurations = subject()
        key = digest(key, cc_warm, configurations, *node.sources_of_the_second_state())
        second = cache / f"subject-{key}"
        prune(cache, {base, first.folder, second})
        return kept(
            second, base, lambda folder, scratch: make_second(first, cc_warm, configurations, folder, scratch, log)
        )


def kept(folder, base, make):
    """The state in `folder`; made if it is not there, or too old."""
    if not (folder / "memory.zst").exists() or time.time() - State(folder, base).saved_at > OLDEST:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as making:
            made = Path(making) / "state"
            made.mkdir()
            make(made, Path(making))
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(made, folder)
    os.utime(folder)
    return State(folder, base)


def prune(cache, used):
    """Removes what nobody has used for long."""
    for folder in set(cache.glob("*-*")) - used:
        limit = REPLACED if folder.name.startswith("subject-") else OLDEST
        if time.time() - folder.stat().st_mtime > limit:
            shutil.rmtree(folder)


def make_first(base, made, scratch, log):
    """Boots the image, and saves the machine once its apps run."""
    driver.overlay(base / "disk.raw", made / "disk.qcow2")
    machine = driver.Machine(base, made / "disk.qcow2", scratch, log)
    try:
        machine.start()
        node.before_the_first_state(machine, scratch)
        script = node.TESTS / "nixos/scripts/set-up.py"
        exec(compile(script.read_text(), script, "exec"), {"machine": machine})
        machine.succeed("sync")
        machine.qemu.save(made / "memory.zst")
    finally:
        machine.end()


def make_second(first, cc_warm, configurations, made, scratch, log):
    """Goes on from the first state, and saves the machine once cc-warm knows its apps."""
    machine = first.machine(made, log)
    machine.folder = scratch
    try:
        machine.start()
        node.before_the_second_state(machine, cc_warm, configurations)
        machine.succeed("sync")
        machine.qemu.save(made / "memory.zst")
    finally:
        machine.end()
