"""The `machine` that the test scripts know: the names and meanings of the NixOS test driver's, for one QEMU machine."""

import base64
import contextlib
import io
import shlex
import socket
import subprocess
import tarfile
import time

from qemu import Qemu


class Machine:
    """A machine with a root shell. Its commands run under `bash -euo pipefail`; what they print on stdout is returned,
    and stderr is shown when they fail."""

    def __init__(self, image, disk, folder, log=print, born=None, incoming=None):
        """`born`: when the state was saved, and `incoming`: where, if its first start is to go on from one."""
        self.image, self.disk, self.folder, self.log = image, disk, folder, log
        self.incoming = incoming
        # The machine's clock goes on from there, through every boot. An emulated machine's runs ahead of this host's while it
        # waits for it, and is not set back by a boot.
        self.behind = time.time() - born if born else 0
        self.reached = 0
        self.qemu = None
        self.received = b""

    # Power.

    def start(self):
        """Boots; the first time, goes on from the saved state, if there is one. Does nothing if it runs."""
        if self.qemu:
            return
        self.received = b""
        now = max(time.time() - self.behind, self.reached)
        self.qemu = Qemu(self.image, self.disk, self.folder, now, self.incoming)
        if self.incoming:
            self.incoming = None
            self.qemu.wait_for_status("paused", "running", "postmigrate")
            self.qemu.ask("cont")
        else:
            self.log("boot")
            self._read_line(3600, until=b"the shell is ready")
            # Not to be seen on the console.
            self.qemu.shell.sendall(b"PS1= PS2=\n")

    def crash(self):
        """The power fails: whatever was not on the disk is lost."""
        self.log("crash")
        self.end()

    def shutdown(self):
        """Shuts down, in order, and waits for the end."""
        self.log("shutdown")
        self.qemu.ask("cont")
        self.qemu.shell.sendall(b"poweroff\n")
        self.wait_for_shutdown()

    def wait_for_shutdown(self):
        """Waits until the machine is off."""
        self.qemu.wait_for_status("shutdown")
        self.end()

    def end(self):
        """Ends it, if it runs."""
        if self.qemu:
            # Of the second after: what the clock shows is cut off.
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                self.reached = self.qemu.clock() + 1
            self.qemu.end()
        self.qemu = None

    def wait_for_boot(self):
        """After a `start`: waits until the default target is reached."""
        self.wait_for_unit("multi-user.target")

    # Commands.

    def execute(self, command, check_return=True, timeout=900):
        """Runs it; returns its exit code (124 after `timeout` seconds) and what it printed."""
        code, output, _ = self._run(command, timeout)
        return (code if check_return else -1), output

    def succeed(self, *commands, timeout=900):
        """Runs them, and fails if one fails. Returns what they printed."""
        printed = ""
        for command in commands:
            code, output, errors = self._run(command, timeout)
            if code != 0:
                raise AssertionError(f"`{command}` failed with exit code {code}\n{_evidence(output, errors)}")
            printed += output
        return printed

    def fail(self, *commands, timeout=900):
        """Runs them, and fails if one succeeds. Returns what they printed."""
        printed = ""
        for command in commands:
            code, output, errors = self._run(command, timeout)
            if code == 0:
                raise AssertionError(f"`{command}` succeeded\n{_evidence(output, errors)}")
            printed += output
        return printed

    def wait_until_succeeds(self, command, timeout=900):
        """Repeats it until it succeeds. Returns what it printed."""
        return self._until(command, timeout, "until")

    def wait_until_fails(self, command, timeout=900):
        """Repeats it until it fails. Returns what it printed."""
        return self._until(command, timeout, "while")

    def _until(self, command, timeout, good):
        # Repeated in the machine: a round trip costs more than most conditions.
        body = f"(set -e; {command}\n) >/run/driver.try"
        script = f"{good} {body}; do sleep 0.7; done; cat /run/driver.try"
        code, output, errors = self._run(script, timeout, strict=False)
        if code != 0:
            last = self._run("cat /run/driver.try", 60)[1]
            raise AssertionError(f"`{command}`: not what was waited for after {timeout} s\n{_evidence(last, errors)}")
        return output

    # Units, files, ports.

    def systemctl(self, query):
        """Exit code and output of `systemctl query`."""
        return self.execute(f"systemctl {query}")

    def get_unit_info(self, unit):
        """The unit's properties."""
        lines = self.succeed(f"systemctl --no-pager show {shlex.quote(unit)}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def get_unit_property(self, unit, property):
        """One property of the unit."""
        return self.succeed(f"systemctl show --value --property={property} {shlex.quote(unit)}").strip()

    def wait_for_unit(self, unit, timeout=900):
        """Waits until it is active; fails at once if it failed, or is inactive with nothing to change that."""
        end = time.monotonic() + timeout
        while True:
            state = self.get_unit_property(unit, "ActiveState")
            if state == "active":
                return
            jobs = self.succeed("systemctl list-jobs --full --no-legend")
            if state == "failed" or (state == "inactive" and not jobs.strip()):
                if self.get_unit_property(unit, "ActiveState") == "active":
                    return
                status = self.execute(f"systemctl status --no-pager --lines=30 {shlex.quote(unit)}")[1]
                raise AssertionError(f"{unit} is {state}\n{status}")
            if time.monotonic() > end:
                raise AssertionError(f"{unit} is still {state} after {timeout} s; jobs:\n{jobs}")
            time.sleep(0.3)

    def wait_for_file(self, path, timeout=900):
        """Waits until there is something at this path."""
        self.wait_until_succeeds(f"test -e {shlex.quote(path)}", timeout)

    def wait_for_open_port(self, port, addr="localhost", timeout=900):
        """Waits until something listens on this TCP port."""
        self.wait_until_succeeds(f"(: </dev/tcp/{addr}/{port}) 2>/dev/null", timeout)

    def wait_for_closed_port(self, port, addr="localhost", timeout=900):
        """Waits until nothing listens on this TCP port."""
        self.wait_until_fails(f"(: </dev/tcp/{addr}/{port}) 2>/dev/null", timeout)

    def start_job(self, unit):
        """Starts a unit."""
        self.succeed(f"systemctl start {shlex.quote(unit)}")

    def stop_job(self, unit):
        """Stops a unit."""
        self.succeed(f"systemctl stop {shlex.quote(unit)}")

    def sleep(self, seconds):
        """Lets time pass in the machine."""
        self.succeed(f"sleep {seconds}")

    def copy_from_host(self, source, target):
        """Copies a file or folder of this host to `target` in the machine."""
        self.unpack([(source, target)])

    def unpack(self, copies):
        """Copies each (source on this host, target in the machine), over a disk that both see."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for source, target in copies:
                tar.add(source, target.lstrip("/"), filter=_as_root)
        data = packed.getvalue()
        blocks = -(-len(data) // (1 << 16))
        with open(self.qemu.exchange, "r+b") as disk:
            disk.write(data)
        # Past the page cache: what the machine read of this disk before is no longer there.
        self.succeed(f"dd if=/dev/vdb iflag=direct bs=64K count={blocks} status=none | tar -x -C / --overwrite")

    # The shell.

    def _run(self, command, timeout, strict=True):
        self.log(f"$ {command}" if len(command) < 300 else f"$ {command[:300]}…")
        started, used = time.monotonic(), self.qemu.cpu_seconds()
        options = "set -euo pipefail; " if strict else ""
        # stdin closed: a command that waits for input must not eat the driver's next one.
        script = (
            f"timeout {timeout} bash -c {shlex.quote(options + command)} "
            "</dev/null >/run/driver.stdout 2>/run/driver.stderr; code=$?; echo $code; base64 -w0 /run/driver.stdout; "
            "echo; [ $code = 0 ] || tail -c 20000 /run/driver.stderr | base64 -w0; echo\n"
        )
        with self.qemu.going():
            self.qemu.shell.sendall(script.encode())
            # The time limit is the machine's, whose time may be slower than ours.
            code = int(self._read_line(3600))
            output, errors = (base64.b64decode(self._read_line(600)).decode(errors="replace") for _ in range(2))
        self.log(f"  {time.monotonic() - started:.1f} s, CPU {self.qemu.cpu_seconds() - used:.1f} s, exit code {code}")
        return code, output, errors

    def _read_line(self, timeout, until=None):
        end = time.monotonic() + timeout
        while True:
            while b"\n" in self.received:
                line, _, self.received = self.received.partition(b"\n")
                line = line.strip(b"\r\0")
                if until is None or until in line:
                    return line
            self.qemu.shell.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.qemu.shell.recv(1 << 16)
            except (socket.timeout, TimeoutError):
                raise AssertionError(f"the machine's shell said nothing for {timeout} s\n{self.console()}") from None
            if not data:
                raise AssertionError(f"the machine ended\n{self.console()}")
            self.received += data

    def console(self):
        """The end of what was printed on the machine's console."""
        path = self.folder / "console.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "console: " + "\n         ".join(text.splitlines()[-30:])


def _as_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _evidence(output, errors):
    return "\n".join(f"    {line}" for line in (output + errors).splitlines()[-60:])


@contextlib.contextmanager
def subtest(name, log):
    """A part of a test, named by what it shows."""
    log(f"subtest: {name}")
    started = time.monotonic()
    try:
        yield
    except Exception as error:
        error.add_note(f"in the subtest: {name}")
        raise
    log(f"  ok, {time.monotonic() - started:.1f} s: {name}")


def overlay(base, path):
    """Makes a disk at `path` that starts as `base` and keeps its own changes."""
    backing = "raw" if base.suffix == ".raw" else "qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", backing, str(path)]
    subprocess.run(command, check=True)
