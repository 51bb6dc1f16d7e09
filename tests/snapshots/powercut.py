#!/usr/bin/env python3
"""Power cuts: at each fault point that an update, a rollback, a snapshot or a restore passes, the image of the mounted file
system is copied, and in each copy that differs, as after a boot, `cc-warm recover` runs. Then journal, snapshots and the
app's data must agree.

Each operation is filmed twice: once as it is, and once with another program's fsync at each point, which commits whatever
metadata there is, with or without its data.

The points are those that the operation passes; none is listed here.

  powercut.py [--kind ext4] [--scenario back] [--only N] [--keep] [--jobs N]      (CC_WARM names another program than the built one)
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import lab
from sandbox import APP, Sandbox
from scenarios import ENV, SCENARIOS, VOLUMES, begin, check, check_known_good, prepare, wait_stopped

# What every operation on data must have passed, lest a run that does nothing pass for one that is safe.
PASSED = {
    "forward": ("snapshot.copy.link", "journal.snapshotted.after", "journal.committed.after"),
    "back": ("snapshot.copy.link", "journal.snapshotted.after", "journal.exchanging.after", "journal.restored.after",
             "journal.rolled-back.after"),
    "snapshot": ("snapshot.copy.link", "journal.snapshotted.after", "journal.committed.after"),
    "restore": ("journal.exchanging.after", "journal.restored.after", "journal.rolled-back.after"),
}


def film(kind, scenario, committed, folder, program):
    """Runs the scenario and films it. The points' names, a list for each frame."""
    how = SCENARIOS[scenario]
    image, mounted = f"{folder}/{kind}-{scenario}-{committed}.img", f"{folder}/mnt"
    lab.copy_sparse(f"{folder}/{kind}.img", image)
    lab.mount_image(image, mounted, kind)
    sandbox = Sandbox(mounted, program, ENV)
    begin(sandbox, scenario)
    trace = f"{image}.trace"
    env = {**ENV, "CC_WARM_FAULT": "*#*=stop", "CC_WARM_FAULT_TRACE": trace}
    filmed = lab.Filmed(image, f"{folder}/{kind}.img")
    labels, passed = [], collections.Counter()
    with open(f"{image}.said", "w+") as said:
        child = subprocess.Popen(sandbox.command(how["words"]), env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        while (code := wait_stopped(child.pid)) is None:
            with open(trace) as file:
                point = file.read().splitlines()[-1]
            passed[point] += 1
            # In a loop over files: the first times, and then ever more seldom.
            if passed[point] <= 2 or passed[point] & (passed[point] - 1) == 0:
                if committed:
                    other = os.open(f"{mounted}/other", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.write(other, b"x")
                    os.fsync(other)
                    os.close(other)
                if filmed.take():
                    labels.append([])
                # Before the stop no data is touched; the crash matrix has that.
                if passed["journal.stopping.before"]:
                    labels[-1].append(f"{point}#{passed[point]}")
            os.kill(child.pid, signal.SIGCONT)
        child.returncode = code
        said.seek(0)
        text = said.read()
    if code != how["exit"]:
        raise lab.Failure(f"{scenario} ended with {code}:\n{text}\n{sandbox.evidence()}")
    missing = [point for point in PASSED[scenario] if not passed[point]]
    if 0 < passed["journal.exchanging.after"] < len(VOLUMES):
        missing.append("an exchange of each volume")
    if missing:
        raise lab.Failure(f"{scenario} did not pass {missing}:\n{text}")
    for number, frame in enumerate(filmed.frames):
        with open(f"{image}.{number}", "wb") as file:
            pickle.dump(frame, file)
    os.unlink(image)
    return labels


def develop(kind, scenario, committed, number, folder):
    image = f"{folder}/{kind}-{scenario}-{committed}.img"
    filmed = lab.Filmed.__new__(lab.Filmed)
    filmed.base, filmed.frames = f"{folder}/{kind}.img", []
    for each in range(number + 1):
        with open(f"{image}.{each}", "rb") as file:
            filmed.frames.append(pickle.load(file))
    path = f"{image}.{number}.developed"
    filmed.develop(number, path)
    return path


def settle(kind, scenario, committed, number, folder, program, keep=False):
    """Boots the host of one frame, and looks."""
    image, mounted = develop(kind, scenario, committed, number, folder), f"{folder}/mnt"
    try:
        lab.mount_image(image, mounted, kind)
        lab.another_boot()
        sandbox = Sandbox(mounted, program, ENV)
        with open(f"{folder}/{kind}.json") as file:
            expected = json.load(file)
        check_known_good(sandbox, expected, "before the recovery")
        sandbox.run(["verify", APP]).expect(0)
        recovered = sandbox.boot()
        try:
            check(sandbox, scenario, expected, recovered)
        except lab.Failure as failure:
            raise lab.Failure(f"{failure}\nrecover ended with {recovered.code}:\n{recovered.text}\n{sandbox.evidence()}") from None
    finally:
        if not keep:
            os.unlink(image)
    return True


TASKS = {"prepare": prepare, "film": film, "settle": settle}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=lab.KINDS)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--only", type=int, help="only this frame of each film")
    parser.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1))
    parser.add_argument("--keep", action="store_true", help="keep the images")
    args = parser.parse_args()
    why = lab.skip_reason()
    if why:
        print(f"skipped: power cuts: {why}")
        return 0
    begun = time.monotonic()
    tested, folder = lab.program(), lab.scratch()
    program = f"{folder}/cc-warm"
    shutil.copy(tested, program)
    os.chmod(program, 0o755)
    os.mkdir(f"{folder}/mnt")
    passed, failures = 0, []

    def attempt(task, deadline, **arguments):
        return lab.run_cell(os.path.abspath(__file__), task, {**arguments, "folder": folder, "program": program}, deadline)

    try:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            kinds = lab.kinds_here(args.kind or lab.KINDS)
            for done in [pool.submit(attempt, "prepare", 60, kind=kind) for kind in kinds]:
                done.result()
            films = [(kind, scenario, committed) for kind in kinds for scenario in args.scenario or SCENARIOS
                     for committed in (False, True)]
            filming = {pool.submit(attempt, "film", 120, kind=kind, scenario=scenario, committed=committed):
                       (kind, scenario, committed) for kind, scenario, committed in films}
            settling = {}
            for done in concurrent.futures.as_completed(filming):
                kind, scenario, committed = filming[done]
                name = f"{kind}, {scenario}{', with another fsync' if committed else ''}"
                try:
                    labels = done.result()
                except lab.Failure as failure:
                    failures.append(f"{name}: {failure}")
                    continue
                print(f"  {name}: {sum(map(len, labels))} points, "
                      f"{sum(map(bool, labels))} different images", flush=True)
                for number, points in enumerate(labels):
                    if points and (args.only is None or number == args.only):
                        cell = pool.submit(attempt, "settle", 60, kind=kind, scenario=scenario, committed=committed,
                                           number=number, keep=args.keep)
                        settling[cell] = f"{name}: power cut at {', '.join(points[:3])} (frame {number})"
            for done in concurrent.futures.as_completed(settling):
                try:
                    done.result()
                    passed += 1
                except lab.Failure as failure:
                    failures.append(f"{settling[done]}:\n{failure}")
                    print(f"FAILED: {failures[-1]}\n", flush=True)
    finally:
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for failure in failures[:20]:
        print("FAILED:", failure.splitlines()[0])
    print(f"{time.monotonic() - begun:.0f} s")
    print(f"count: {passed} passed, {len(failures)} failed")
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    lab.inside(TASKS) or sys.exit(main())
