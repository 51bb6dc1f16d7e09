"""What the machine has besides Debian: the counterpart of tests/nixos/lib/node.nix and of the module's files."""

import inspect
from pathlib import Path

import qemu

TESTS = Path(__file__).resolve().parents[1]
OLDER_GENERATION = TESTS.parent / "modules/older-generation.sh"
SWITCH = TESTS / "vm/switch-to-configuration"
TOKEN = "alert-token-of-the-tests"
ALERT_RECEIVER = """\
[Unit]
Description=HTTP server that keeps the alerts it gets
[Service]
ExecStart=/usr/local/lib/alert-receiver --port 9000 --folder /var/lib/alert-receiver
StateDirectory=alert-receiver
[Install]
WantedBy=multi-user.target
"""


def before_the_first_state(machine, scratch):
    """Puts in what the tests' set-up needs."""
    (scratch / "token").write_text(TOKEN + "\n")
    (scratch / "alert-receiver.service").write_text(ALERT_RECEIVER)
    machine.unpack(
        [
            (TESTS / "programs/abra", "/usr/local/bin/abra"),
            (TESTS / "programs/demo-server", "/etc/cc-warm-test/demo-server"),
            (TESTS / "programs/alert-receiver", "/usr/local/lib/alert-receiver"),
            (scratch / "token", "/etc/cc-warm-test/alert-token"),
            (scratch / "alert-receiver.service", "/etc/systemd/system/alert-receiver.service"),
        ]
    )
    machine.succeed(
        "ln -s /usr/bin/busybox /etc/cc-warm-test/busybox",
        "systemctl daemon-reload",
        "systemctl enable --now alert-receiver.service",
    )


def sources_of_the_first_state():
    """What decides what `before_the_first_state` and the set-up make of a machine."""
    programs = [TESTS / "programs" / name for name in ("abra", "demo-server", "alert-receiver")]
    code = [inspect.getsource(part) for part in (before_the_first_state, qemu.Qemu.__init__)]
    return [*programs, *code, *qemu.PROCESSOR[qemu.accelerator()], TOKEN, ALERT_RECEIVER, TESTS / "nixos/scripts/set-up.py"]


def before_the_second_state(machine, cc_warm, configurations):
    """Puts in what is tested: cc-warm, and the units of every configuration. Then the machine is as after a boot with
    the configuration `base`, where recovery runs, and no update; and cc-warm adopts both apps."""
    machine.unpack(
        [
            (cc_warm, "/usr/local/bin/cc-warm"),
            (OLDER_GENERATION, "/usr/local/lib/cc-warm/older-generation.sh"),
            (SWITCH, "/usr/local/sbin/switch-to-configuration"),
            (configurations, "/etc/cc-warm-test/configurations"),
        ]
    )
    machine.succeed("cc-warm --version")
    machine.succeed(
        "mkdir -p /etc/cc-warm",
        "cd /etc/cc-warm-test/configurations/base && cp -a units/. /etc/systemd/system && cp config.json /etc/cc-warm",
        "systemctl daemon-reload",
        "systemctl start cc-warm-synced.service cc-warm.target timers.target",
    )
    # The job waits for its turn behind the recovery, which the timer has started.
    machine.succeed("systemctl start cc-warm-recover.service")
    machine.succeed("systemctl start cc-warm-update-notes.service cc-warm-update-plain.service")


def sources_of_the_second_state():
    """What decides, with cc-warm and the units, what `before_the_second_state` makes of a machine."""
    return [inspect.getsource(before_the_second_state), OLDER_GENERATION, SWITCH]


def switch(machine, configuration="base"):
    """Switches to a configuration; returns the exit code, and what it printed."""
    return machine.execute(f"switch-to-configuration {configuration} 2>&1")
