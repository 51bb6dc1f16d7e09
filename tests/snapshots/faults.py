#!/usr/bin/env python3
"""Faults in the middle of an update, a rollback, a snapshot or a restore. After each, the standing snapshot and the live data
are whole; and once the fault is over, the app runs again on data that fits it.

  error      the fault point returns EIO or ENOSPC, or kills the program: points of snapshots, and every write of state,
             journal and outbox
  full       the file system is full from the point on
  quota      its quota is used up from the point on (a limit on btrfs, which root is held to as well)
  broken     its disk takes no more writes from the point on, so that writeback fails: what an fsync or syncfs must notice
  shutdown   it is shut down at the point (ext4, xfs), with or without its log being written
  system     the n-th system call of a kind fails with EIO or ENOSPC, or kills the program, in whichever thread it comes

The points are those that the operation passes; none is listed here.

  faults.py [--kind ext4] [--scenario back] [--fault full] [--match REGEX] [--jobs N]      (CC_WARM names another program than the built one)
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import lab
from sandbox import APP, Ran, Sandbox
from scenarios import ENV, SCENARIOS, begin, check, check_known_good, prepare, wait_stopped

FAULTS = ("error", "full", "quota", "broken", "shutdown", "system")
# What each kind of fault is tried on; a rollback takes, promotes, restores and exchanges.
ON = {
    "error": [("ext4", "forward"), ("ext4", "back"), ("ext4", "snapshot"), ("ext4", "restore"), ("btrfs", "back")],
    "full": [("ext4", "back"), ("ext4", "restore"), ("btrfs", "back")],
    "quota": [("btrfs", "back")],
    # Some blocks can still be overwritten, others not be had: btrfs cannot be mounted after that, whatever wrote to it.
    "broken": [("ext4", "back"), ("xfs", "back")],
    "shutdown": [("ext4", "back"), ("xfs", "back")],
    "system": [("ext4", "back")],
}
# The system calls by which data, names and durability come about,, and by which they are read.
CALLS = ("openat2", "write", "pwrite64", "copy_file_range", "ioctl", "mkdirat", "mknodat", "symlinkat", "linkat", "fchown",
         "fchownat", "fchmod", "fsetxattr", "utimensat", "ftruncate", "fallocate", "fsync", "syncfs", "renameat2", "renameat",
         "rename", "unlinkat", "getdents64", "read", "pread64")


class Cell:
    """The host of an image, with a scenario about to happen."""

    def __init__(self, kind, scenario, folder, program):
        self.kind, self.scenario = kind, scenario
        self.mounted, self.store = f"{folder}/mnt", f"{folder}/store"
        # A disk of its own, which can be made to take no more.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "disk", self.store], check=True)
        self.image = f"{self.store}/disk.img"
        lab.copy_sparse(f"{folder}/{kind}.img", self.image)
        self.mount()
        self.sandbox = Sandbox(self.mounted, program, ENV)
        with open(f"{folder}/{kind}.json") as file:
            self.expected = json.load(file)
        begin(self.sandbox, scenario)
        sync(self.mounted)

    def mount(self):
        lab.mount_image(self.image, self.mounted, self.kind)

    def run(self, fault="", trace=None):
        return self.sandbox.run(SCENARIOS[self.scenario]["words"], fault, trace)

    def reboot(self):
        """As after a power cut: what the file system had not written by now is lost."""
        lab.end_all()
        subprocess.run(["umount", self.mounted], check=True)
        self.mount()
        lab.another_boot()

    def whole(self, when):
        check_known_good(self.sandbox, self.expected, when)

    def settle(self, ran):
        """The fault is over: whatever happened, the app comes back, on data that fits it. How."""
        how = "settled"
        recovered = self.sandbox.boot()
        if recovered.code == 13:
            # It said so, and stays down; an operator brings it back.
            how = "stuck"
            if self.sandbox.answering():
                raise lab.Failure(f"it is stuck and runs:\n{ran.text}\n{recovered.text}")
            self.whole("stuck")
            restored = self.sandbox.run(["restore", APP, "--yes"])
            restored.expect(0)
        try:
            check(self.sandbox, self.scenario, self.expected, recovered if how == "settled" else restored, how == "stuck")
        except lab.Failure as failure:
            raise lab.Failure(f"{failure}\nthe command ended with {ran.code}:\n{ran.text}\nrecover ended with "
                              f"{recovered.code}:\n{recovered.text}\n{self.sandbox.evidence()}") from None
        return f"{how} after {ran.code}"

    def run_until(self, point, nth):
        """Starts the scenario's command, and stops it at a point."""
        env = {**ENV, "CC_WARM_FAULT": f"{point}#{nth}=stop"}
        self.said = open(f"{self.store}/said", "w+b")
        self.child = subprocess.Popen(self.sandbox.command(SCENARIOS[self.scenario]["words"]), env=env,
                                      stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)
        if wait_stopped(self.child.pid) is not None:
            raise lab.Failure(f"{point}#{nth} was not reached")

    def go_on(self):
        """Lets it go on to its end."""
        os.kill(self.child.pid, signal.SIGCONT)
        return self.ended()

    def ended(self):
        """How the command ended, once it has."""
        limit = time.monotonic() + 45
        while True:
            pid, status = os.waitpid(self.child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > limit:
                self.said.seek(0)
                raise lab.Failure(f"it hung:\n{self.said.read().decode(errors='backslashreplace')}")
            time.sleep(0.01)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        self.said.seek(0)
        return Ran(SCENARIOS[self.scenario]["words"], "", self.child.returncode, self.said.read())


def sync(folder):
    subprocess.run(["sync", "-f", folder], check=True)


def fill_up(path):
    """Uses up the file system of `path`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    size = 16 << 20
    at = 0
    while size >= 512:
        try:
            os.posix_fallocate(fd, at, size)
            at += size
        except OSError:
            size //= 2
    try:
        while True:
            os.pwrite(fd, b"x" * 512, at)
            at += 512
    except OSError:
        pass
    try:
        os.fsync(fd)
    except OSError:
        pass
    os.close(fd)


def points(kind, scenario, folder, program):
    """Those that the scenario passes, in order, each as often as it does."""
    cell = Cell(kind, scenario, folder, program)
    trace = f"{cell.store}/trace"
    ran = cell.run(trace=trace)
    ran.expect(SCENARIOS[scenario]["exit"])
    with open(trace) as file:
        passed = file.read().splitlines()
    if scenario != "restore" and "snapshot.copy.link" not in passed:
        raise lab.Failure(f"{scenario} took nothing over:\n{ran.text}")
    return passed


def counts(kind, scenario, folder, program):
    """How often each of the system calls comes, in the thread in which it comes most."""
    cell = Cell(kind, scenario, folder, program)
    argv = ["strace", "-D", "-f", "-qqq", "-o", f"{cell.store}/calls", "-e", f"trace={','.join(CALLS)}", "-e", "signal=none",
            *cell.sandbox.command(SCENARIOS[scenario]["words"])]
    cell.said = open(f"{cell.store}/said", "w+b")
    cell.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=cell.said, stderr=cell.said,
                                  env=ENV)
    cell.ended().expect(SCENARIOS[scenario]["exit"])
    most = collections.Counter()
    with open(f"{cell.store}/calls", errors="replace") as file:
        for (thread, call), times in collections.Counter(re.findall(r"^(\d+) +(\w+)\(", file.read(), re.M)).items():
            most[call] = max(most[call], times)
    return most


def error(kind, scenario, point, nth, action, folder, program):
    cell = Cell(kind, scenario, folder, program)
    ran = cell.run(f"{point}#{nth}={action}")
    if action == "kill" and ran.code != -signal.SIGKILL:
        if nth > 1 and ran.code == SCENARIOS[scenario]["exit"]:
            # What is young is copied, and what is old taken over: it does not come equally often each time.
            return "not reached"
        raise lab.Failure(f"it was not killed: {ran.text}")
    cell.whole("after the fault")
    return cell.settle(ran)


def full(kind, scenario, point, nth, folder, program):
    cell = Cell(kind, scenario, folder, program)
    cell.run_until(point, nth)
    fill_up(f"{cell.mounted}/filler")
    ran = cell.go_on()
    cell.whole("with a full disk")
    # Nor does a recovery that finds it still full do harm.
    cell.sandbox.boot()
    cell.whole("after a recovery with a full disk")
    os.unlink(f"{cell.mounted}/filler")
    sync(cell.mounted)
    return cell.settle(ran)


def quota(kind, scenario, point, nth, folder, program):
    cell = Cell(kind, scenario, folder, program)

    def limit(size):
        subprocess.run(["btrfs", "qgroup", "limit", size, "0/5", cell.mounted], check=True, capture_output=True)

    subprocess.run(["btrfs", "quota", "enable", cell.mounted], check=True, capture_output=True)
    subprocess.run(["btrfs", "quota", "rescan", "-w", cell.mounted], capture_output=True)
    cell.run_until(point, nth)
    # What is deleted from now on can be used again, as with a quota that was used up slowly.
    sync(cell.mounted)
    shown = subprocess.run(["btrfs", "qgroup", "show", "--raw", cell.mounted], check=True, capture_output=True, text=True)
    used = next(int(line.split()[1]) for line in shown.stdout.splitlines() if line.startswith("0/5"))
    limit(str(used + (64 << 10)))
    ran = cell.go_on()
    cell.whole("with a quota used up")
    # Even that needs space, and gets it with the next commit.
    for _ in range(20):
        if subprocess.run(["btrfs", "qgroup", "limit", "none", "0/5", cell.mounted], capture_output=True).returncode == 0:
            break
        sync(cell.mounted)
    else:
        cell.reboot()
        limit("none")
    return cell.settle(ran)


def broken(kind, scenario, point, nth, folder, program):
    cell = Cell(kind, scenario, folder, program)
    cell.run_until(point, nth)
    fill_up(f"{cell.store}/filler")
    try:
        ran = cell.go_on()
    except lab.Failure as failure:
        raise lab.Failure(f"with a disk that takes no writes: {failure}") from None
    lab.end_all()
    # Unmounted first: what it could not write then, it never wrote.
    subprocess.run(["umount", cell.mounted], check=True)
    os.unlink(f"{cell.store}/filler")
    cell.mount()
    lab.another_boot()
    cell.whole("after writes that failed")
    return cell.settle(ran)


def shutdown(kind, scenario, point, nth, flush, folder, program):
    cell = Cell(kind, scenario, folder, program)
    cell.run_until(point, nth)
    lab.shutdown(cell.mounted, flush)
    ran = cell.go_on()
    cell.reboot()
    cell.whole("after the shutdown")
    return cell.settle(ran)


def system(kind, scenario, call, nth, action, folder, program):
    """`strace` injects it; it counts a thread's calls, so that all threads of a copy meet it."""
    cell = Cell(kind, scenario, folder, program)
    what = "signal=KILL" if action == "kill" else f"error={action.upper()}"
    # As a grandchild: the command itself is ours, and strace stays with the app.
    argv = ["strace", "-D", "-f", "-qqq", "-o", f"{cell.store}/calls", "-e", f"trace={call}", "-e", "signal=none",
            "-e", f"inject={call}:{what}:when={nth}", *cell.sandbox.command(SCENARIOS[scenario]["words"])]
    cell.said = open(f"{cell.store}/said", "w+b")
    cell.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=cell.said, stderr=cell.said,
                                  env=ENV)
    ran = cell.ended()
    with open(f"{cell.store}/calls", errors="replace") as file:
        if "INJECTED" not in file.read() and ran.code != -signal.SIGKILL:
            return "not reached"
    # What strace had a hand on is gone, and with it, its faults.
    cell.reboot()
    cell.whole("after the fault")
    return cell.settle(ran)


TASKS = {name: globals()[name] for name in ("prepare", "points", "counts", *FAULTS)}


def about_data(point):
    return point.startswith(("snapshot.", "act.snapshot", "act.promote", "act.restore", "act.exchange"))


def cases(fault, passed, thorough):
    """What is tried of a fault, for the points that a scenario passed."""
    seen, unique = {}, []
    for point in passed:
        seen[point] = seen.get(point, 0) + 1
        unique.append((point, seen[point]))
    total = seen
    # In a loop: the first time, and one in the middle.
    data = [(point, nth) for point, nth in unique if about_data(point) and nth in (1, total[point] // 2 + 1)]
    begun = next((index for index, point in enumerate(passed) if point == "journal.stopping.before"), 0)
    journal = [(point, nth) for point, nth in unique[begun:] if point.startswith("journal.") and point.endswith(".before")]
    if fault == "error":
        ways = ("eio", "enospc", "kill")
        for turn, (point, nth) in enumerate(data):
            for action in ways if nth == 1 or thorough else (ways[turn % 3],):
                yield {"point": point, "nth": nth, "action": action}
        for point, nth in unique:
            if point.startswith("durable."):
                # Images of the disk at each of these are looked at by powercut.py.
                yield from ({"point": point, "nth": nth, "action": action} for action in ways[1 : 3 if thorough else 2])
    elif fault == "shutdown":
        for point, nth in data + journal:
            yield from ({"point": point, "nth": nth, "flush": flush} for flush in (False, True))
    else:
        yield from ({"point": point, "nth": nth} for point, nth in data + journal)


def system_cases(most, thorough):
    """Each system call that comes, ever more seldom, failing in turn in each way, or in all ways."""
    turn = 0
    for call in CALLS:
        for nth in sorted({1, most[call], *(n for n in (2, 4, 8, 16, 32, 64, 128) if n < most[call])} if most.get(call) else ()):
            ways = ("eio", "enospc", "kill")
            for action in ways if thorough else (ways[turn % 3],):
                yield {"call": call, "nth": nth, "action": action}
            turn += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=lab.KINDS)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--match", default="", help="only cases whose description matches")
    parser.add_argument("--thorough", action="store_true", help="every way to fail at each point and call, not one in turn")
    parser.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1))
    args = parser.parse_args()
    why = lab.skip_reason()
    if why:
        print(f"skipped: faults: {why}")
        return 0
    wanted = args.fault or FAULTS
    for fault, tool in (("system", "strace"), ("quota", "btrfs")):
        if fault in wanted and not shutil.which(tool):
            print(f"skipped: faults of kind {fault}: needs {tool}")
            wanted = [name for name in wanted if name != fault]
    begun = time.monotonic()
    tested, folder = lab.program(), lab.scratch()
    program = f"{folder}/cc-warm"
    shutil.copy(tested, program)
    os.chmod(program, 0o755)
    os.mkdir(f"{folder}/mnt")
    os.mkdir(f"{folder}/store")
    passed, failures, ended = 0, [], {}

    def attempt(task, **arguments):
        return lab.run_cell(os.path.abspath(__file__), task, {**arguments, "folder": folder, "program": program}, 120)

    try:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            kinds = lab.kinds_here(args.kind or lab.KINDS)
            for done in [pool.submit(attempt, "prepare", kind=kind) for kind in kinds]:
                done.result()
            pairs = [(fault, kind, scenario) for fault in wanted for kind, scenario in ON[fault]
                     if kind in kinds and scenario in (args.scenario or SCENARIOS)]
            traced = {pair: pool.submit(attempt, "points", kind=pair[0], scenario=pair[1])
                      for pair in sorted({pair[1:] for pair in pairs})}
            calls = {pair: pool.submit(attempt, "counts", kind=pair[1], scenario=pair[2]) for pair in pairs if pair[0] == "system"}
            running = {}
            for fault, kind, scenario in pairs:
                if fault == "system":
                    found = system_cases(calls[fault, kind, scenario].result(), args.thorough)
                else:
                    found = cases(fault, traced[kind, scenario].result(), args.thorough)
                for case in found:
                    name = f"{fault} on {kind}, {scenario}: " + ", ".join(str(value) for value in case.values())
                    if re.search(args.match, name):
                        running[pool.submit(attempt, fault, kind=kind, scenario=scenario, **case)] = name
            for done in concurrent.futures.as_completed(running):
                name = running[done]
                fault = name.split()[0]
                try:
                    how = done.result()
                    passed += how != "not reached"
                    ended.setdefault(fault, {}).setdefault(how, []).append(name)
                    if passed % 50 == 0:
                        print(f"  {passed} of {len(running)}, {time.monotonic() - begun:.0f} s", flush=True)
                except lab.Failure as failure:
                    failures.append(f"{name}:\n{failure}")
                    print(f"FAILED: {failures[-1]}\n", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for fault, ways in ended.items():
        print(f"  {fault}: " + ", ".join(f"{len(names)} {how}" for how, names in sorted(ways.items())))
        for how, names in ways.items():
            if how.startswith("stuck") or how == "settled after 101":
                print("".join(f"    {how}: {name}\n" for name in names), end="")
    for failure in failures[:40]:
        print("FAILED:", failure.splitlines()[0])
    print(f"{time.monotonic() - begun:.0f} s")
    print(f"count: {passed} passed, {len(failures)} failed")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    lab.inside(TASKS) or sys.exit(main())
