#!/usr/bin/env python3
"""Hostile content: what an app may put into its volume (hostile_content.py), or do to it while it is copied
(hostile_races.py). Nothing outside the volume is read, written or deleted; nothing hangs; nothing is left out without a
word; and no message carries what a terminal would obey.

  hostile.py [--match REGEX] [--jobs N]      (CC_WARM names another program than the built one)
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import sys

import hostile_content  # noqa: F401: its cases register themselves
import hostile_races  # noqa: F401
import lab
from host import CASES, Host
from scenarios import prepare


def perform(name, kind, folder, program):
    host = Host(kind, folder, program)
    CASES[name][0](host)
    return True


TASKS = {"prepare": prepare, "perform": perform}


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
