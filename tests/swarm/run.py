#!/usr/bin/env python3
"""The abra deployer on a real Docker Swarm, with the stand-in for abra. `CC_WARM` names the program under test; words on
the command line choose cases. Skipped by name where docker cannot run."""

import concurrent.futures
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

import cases
import engine
import world

# What a case does is mostly to wait.
AT_ONCE = 4


def perform(folder, number, name, function, options):
    began = time.monotonic()
    here = world.World(folder, f"t{number}-{os.getpid()}", **options)
    here.clean()
    try:
        function(here)
        why = None
    except Exception:
        why = traceback.format_exc()
    finally:
        here.clean()
    return name, why, time.monotonic() - began


def main():
    chosen = [(number, *row) for number, row in enumerate(cases.CASES) if not sys.argv[1:] or any(word in row[0] for word in sys.argv[1:])]
    runs = engine.enter()
    folder = tempfile.mkdtemp(prefix="cc-warm-swarm-")
    daemon = None if runs else engine.start(pathlib.Path(folder) / "docker")
    failed = 0
    try:
        for tag in ("1", "2"):
            engine.make_image(tag)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for done in concurrent.futures.as_completed([pool.submit(perform, folder, *row) for row in chosen]):
                name, why, seconds = done.result()
                print(f"{'ok' if why is None else 'FAILED'}: {name} ({seconds:.0f} s)", flush=True)
                if why is not None:
                    failed += 1
                    print(why, flush=True)
    finally:
        for tag in ("1", "2"):
            engine.docker("image", "rm", f"{engine.IMAGE}:{tag}", check=False)
        if daemon is not None:
            daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"count: {len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not chosen else 0)


main()
