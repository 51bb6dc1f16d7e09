"""One QEMU process: its command line, its monitor (QMP) and the socket of its root shell."""

import calendar
import contextlib
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

BINARY = "qemu-system-x86_64"
MEMORY = "2048M"
# An emulated machine has a time of its own: an instruction takes 1 ns, and where nothing is to be done until a timer
# ends, it ends at once. So no deadline is missed because this host is slow or busy, and no wait costs anything.
PROCESSOR = {
    "kvm": ["-cpu", "host", "-smp", "2"],
    "tcg": ["-cpu", "Nehalem-v1", "-smp", "1", "-icount", "shift=0,sleep=off"],
}
EXCHANGE_SIZE = 256 << 20


@functools.cache
def accelerator():
    """`kvm` where the processor has it, else `tcg`. A /dev/kvm without the processor's help runs no ordinary kernel."""
    helps = re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return "kvm" if helps and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def tools_missing():
    """The programs that this machine lacks for running one."""
    return [tool for tool in (BINARY, "qemu-img", "zstd") if not shutil.which(tool)]


def version():
    """QEMU's own version: a saved state is for the QEMU that saved it."""
    return subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class Qemu:
    """Runs from its creation until `end`. `folder` takes sockets, the console's log and the exchange disk; `now` is
    the time that the machine's clock shows."""

    def __init__(self, image, disk, folder, now, incoming=None):
        self.folder = folder
        self.exchange = folder / "exchange.raw"
        if not self.exchange.exists():
            with open(self.exchange, "wb") as file:
                file.truncate(EXCHANGE_SIZE)
        shell_server = _listen(folder / "shell.sock")
        monitor_server = _listen(folder / "monitor.sock")
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        command = [
            *[BINARY, "-machine", f"pc,accel={accelerator()}", *PROCESSOR[accelerator()], "-m", MEMORY],
            # Switched off, it is still there to be asked for its time.
            *["-nodefaults", "-no-user-config", "-no-shutdown", "-display", "none", "-rtc", f"base={clock},clock=vm"],
            *["-kernel", image / "vmlinuz", "-initrd", image / "initrd"],
            # Nothing hostile runs here, and an emulated machine is slow enough. `norandmaps`: QEMU keeps a translation for
            # the address that the code was at, so a program that is elsewhere each time is translated each time.
            *["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off norandmaps systemd.show_status=false panic=1"],
            *["-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe,discard=unmap"],
            *["-device", "virtio-blk-pci,drive=root"],
            *["-drive", f"file={self.exchange},if=none,id=exchange,format=raw,cache=writeback"],
            *["-device", "virtio-blk-pci,drive=exchange"],
            *["-chardev", f"file,id=console,append=on,path={folder / 'console.log'}", "-serial", "chardev:console"],
            *["-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={folder / 'shell.sock'}"],
            *["-device", "virtconsole,chardev=shell", "-device", "virtio-rng-pci"],
            *["-chardev", f"socket,id=monitor,path={folder / 'monitor.sock'}", "-mon", "chardev=monitor,mode=control"],
        ]
        if incoming:
            command += ["-incoming", f"exec:zstd -dc {incoming}"]
        self.log = open(folder / "qemu.log", "ab")
        self.process = subprocess.Popen(
            ["nice", "-n", "10", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            # Ctrl-C is for the driver, which ends it in order.
            start_new_session=True,
        )
        self.shell = self._accept(shell_server)
        self.monitor = self._accept(monitor_server).makefile("rw")
        json.loads(self.monitor.readline())
        self.ask("qmp_capabilities")

    def _accept(self, server):
        server.settimeout(0.2)
        for _ in range(300):
            try:
                connection = server.accept()[0]
                server.close()
                connection.settimeout(None)
                return connection
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        raise RuntimeError("QEMU did not start: " + (self.folder / "qemu.log").read_text()[-2000:])

    def ask(self, command, **arguments):
        """What QEMU's monitor returns for `command`."""
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while line := self.monitor.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise RuntimeError(f"QEMU ended at {command}: " + (self.folder / "qemu.log").read_text()[-2000:])

    @contextlib.contextmanager
    def going(self):
        """While a command runs. An emulated machine stands still between two: with nothing to do, its time would fly."""
        if accelerator() == "tcg":
            self.ask("cont")
        yield
        if accelerator() == "tcg":
            self.ask("stop")

    def cpu_seconds(self):
        """What it has used of this host's processors."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_for_status(self, *wanted, timeout=3600):
        """Waits until the machine is in one of the states (`running`, `paused`, `shutdown`, …)."""
        end = time.monotonic() + timeout
        while (status := self.ask("query-status")["status"]) not in wanted:
            if time.monotonic() > end:
                raise RuntimeError(f"the machine is {status} after {timeout} s, not {' or '.join(wanted)}")
            time.sleep(0.05)

    def clock(self):
        """What the machine's clock shows, in seconds since 1970."""
        now = self.ask("qom-get", path="/machine", property="rtc-time")
        fields = (now["tm_year"] + 1900, now["tm_mon"] + 1, now["tm_mday"], now["tm_hour"], now["tm_min"], now["tm_sec"])
        return calendar.timegm(fields)

    def save(self, path):
        """Stops the machine, writes all of its state but the disks to `path`, and ends QEMU."""
        self.ask("stop")
        self.ask("migrate-set-parameters", **{"max-bandwidth": 10 << 30, "downtime-limit": 1000})
        self.ask("migrate", uri=f"exec:zstd -q -1 -T2 > {path}")
        while (status := self.ask("query-migrate"))["status"] not in ("completed", "failed", "cancelled"):
            time.sleep(0.05)
        if status["status"] != "completed":
            raise RuntimeError(f"saving the machine failed: {status}")
        self.end()

    def end(self):
        """Ends QEMU at once: for what runs in it, a power cut."""
        if self.process.poll() is None:
            try:
                self.ask("quit")
            except (RuntimeError, OSError, ValueError):
                self.process.kill()
        self.process.wait(timeout=60)
        self.shell.close()
        # What it was last told may still be to be written, and nobody reads it.
        with contextlib.suppress(OSError):
            self.monitor.close()
        self.log.close()


def _listen(path):
    Path(path).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    return server
