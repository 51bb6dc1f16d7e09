"""Runs the tests: each a script of tests/nixos/scripts, on a machine of its own that starts from the saved state."""

import functools
import queue
import shutil
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import driver
import node

SCRIPTS = node.TESTS / "nixos" / "scripts"
SHARED = ("set-up", "helpers")
# What a person asks first when a test fails.
EVIDENCE = [
    "journalctl --no-pager --output=short-monotonic --lines=150 --unit='cc-warm-*' --unit=docker.service",
    "systemctl --no-pager --full status 'cc-warm-update-*' | head -n 60",
    "cc-warm status",
    "docker service ls; docker ps --all --no-trunc --format '{{.Names}} {{.Status}}'; docker volume ls",
    "tail -n +1 /var/lib/ci-warm/apps/*/journal.jsonl /var/lib/ci-warm/apps/*/history.jsonl 2>/dev/null | cut -c1-2000",
]


@dataclass
class Result:
    """How a test ended."""

    name: str
    seconds: float
    failure: str | None


class Test:
    """One behaviour, on a machine in `folder`."""

    def __init__(self, name, state, folder):
        self.name, self.folder = name, folder
        folder.mkdir(parents=True)
        self.started = time.monotonic()
        self.log_file = open(folder / "log", "w", buffering=1)
        self.machine = state.machine(folder, self.log)

    def log(self, text):
        """Writes in the test's log, with the seconds since it began."""
        self.log_file.write(f"{time.monotonic() - self.started:6.1f}  {text}\n")

    def names(self):
        """What a script knows."""
        return {
            "machine": self.machine,
            "subtest": functools.partial(driver.subtest, log=self.log),
            "switch": functools.partial(node.switch, self.machine),
        }

    def execute(self, script, names):
        """Executes a script as if it stood after those before."""
        path = SCRIPTS / f"{script}.py"
        exec(compile(path.read_text(), path, "exec"), names)

    def prepare(self):
        """Starts the machine; returns what a script knows, helpers included."""
        self.machine.start()
        names = self.names()
        for script in SHARED:
            self.execute(script, names)
        return names

    def run(self):
        """Runs the script to its end, and ends the machine."""
        failure = None
        try:
            names = self.prepare()
            self.execute(self.name, names)
        except Exception as error:  # Whatever it is: it is the test's failure, and others go on.
            failure = "".join(traceback.format_exception(error))
            self.log(failure)
            self.gather_evidence()
        finally:
            self.end()
        return Result(self.name, time.monotonic() - self.started, failure)

    def end(self):
        """Ends the machine."""
        self.machine.end()
        self.log_file.close()

    def gather_evidence(self):
        """Writes in the log what the machine can tell of a failure."""
        if not self.machine.qemu:
            return
        for command in EVIDENCE:
            try:
                code, output = self.machine.execute(command, timeout=120)
                self.log(f"exit code {code}:\n{output}")
            except Exception as error:  # It may be the machine itself that does not answer.
                self.log(f"no evidence: {error}")
                return


def run_all(names, make, jobs, report):
    """Runs the tests, `jobs` at a time; calls `report` with each result as it comes. `make` makes a test of a name."""
    waiting, results, lock = queue.SimpleQueue(), [], threading.Lock()
    for name in names:
        waiting.put(name)

    def work():
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            result = make(name).run()
            with lock:
                results.append(result)
                report(result)

    workers = [threading.Thread(target=work) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def remove_disks(folder):
    """Of a test that is over, keeps the logs only."""
    for path in Path(folder).glob("*"):
        if path.suffix in (".qcow2", ".raw", ".sock"):
            path.unlink()
    shutil.rmtree(folder / "scratch", ignore_errors=True)
