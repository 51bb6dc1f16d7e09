# What the test scripts share, besides set-up.py. It knows `machine` and `subtest` of the NixOS test driver, and
# `switch(configuration)`.

VOLUME = "/var/lib/docker/volumes/notes_test_data/_data"
STATE = "/var/lib/ci-warm"
ALERTS = "/var/lib/alert-receiver"


def expect(what, wanted, got):
    """Fails, with the evidence, unless both are equal."""
    if wanted != got:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}")


def expect_in(what, part, whole):
    """Fails, with the evidence, unless `part` is in `whole`."""
    if part not in whole:
        raise AssertionError(f"{what}: expected {part!r} in:\n{whole}")


def expect_not_in(what, part, whole):
    """Fails, with the evidence, if `part` is in `whole`."""
    if part in whole:
        raise AssertionError(f"{what}: did not expect {part!r} in:\n{whole}")


# Updates.


def adopt(*apps):
    """cc-warm sees the apps for the first time, as they run. It may have seen them already."""
    for app in apps:
        if machine.execute(f"test -e {STATE}/apps/{app}/state.json")[0] != 0:
            update(app)
        expect(f"the last run of {app}", "adopted", state(app)["last_run"]["outcome"])


def update(app):
    """Starts the update unit and waits for its end. Returns the exit code of its main process; the unit must not fail."""
    unit = f"cc-warm-update-{app}.service"
    machine.succeed(f"systemctl start {unit}")
    return int(machine.get_unit_property(unit, "ExecMainStatus"))


def wait_for_end(unit, timeout=900):
    """Waits until a oneshot unit has ended; returns how (`inactive` or `failed`)."""
    # Not in a loop of systemctl: an emulated machine would be busy with that alone.
    ended = f"systemctl show --value --property=ActiveState,Job {unit} | paste -sd ' ' | grep -Eqx ' ?(inactive|failed) ?'"
    process = f"$(systemctl show --value --property=MainPID {unit})"
    machine.wait_until_succeeds(f"{ended} || {{ tail --pid={process} -f /dev/null; {ended}; }}", timeout=timeout)
    return machine.get_unit_property(unit, "ActiveState")


def wait_for_outcome(app, outcome, wanted):
    """Waits until the last line of the app's history is of this outcome and names this version."""
    line = f"tail -n 1 {STATE}/apps/{app}/history.jsonl"
    machine.wait_until_succeeds(f"{line} | grep -q '{outcome}.*{wanted}'", timeout=600)
    wait_for_end(f"cc-warm-update-{app}.service")


def wait_until_recovered():
    """Waits until the recovery after the boot has ended, well."""
    unit = "cc-warm-recover.service"
    machine.wait_until_succeeds(
        f"systemctl show --value --property=ExecMainStartTimestampMonotonic {unit} | grep -qvx 0", timeout=600
    )
    expect("recovery", "inactive", wait_for_end(unit))


def took(unit):
    """How long the unit's main process ran, in seconds."""
    start, end = (
        int(machine.get_unit_property(unit, f"ExecMain{what}TimestampMonotonic")) for what in ("Start", "Exit")
    )
    return (end - start) / 1e6


def status_text(app):
    """What `systemctl status` says of the last update."""
    return machine.get_unit_property(f"cc-warm-update-{app}.service", "StatusText")


def logged(unit="cc-warm-*"):
    """What the units wrote in the journal."""
    return machine.succeed(f"journalctl --no-pager --output=cat --unit={shlex.quote(unit)}")


# Apps.


def state(app):
    """cc-warm's own memory of the app."""
    return json.loads(machine.succeed(f"cat {STATE}/apps/{app}/state.json"))


def history(app):
    """What was done to the app, oldest first."""
    lines = machine.succeed(f"cat {STATE}/apps/{app}/history.jsonl || true").splitlines()
    return [json.loads(line) for line in lines]


def wait_for_event(app, *events):
    """Waits until the journal of the app's update has come to one of the events."""
    pattern = "|".join(events)
    machine.wait_until_succeeds(f"grep -Eq '\"event\":[{{\"]*({pattern})\\b' {STATE}/apps/{app}/journal.jsonl")


def has_journal(app):
    """Whether an operation on the app is under way, or was cut."""
    return machine.execute(f"test -e {STATE}/apps/{app}/journal.jsonl")[0] == 0


def known_good(app):
    """The known-good of the app, as `cc-warm status` tells it."""
    _, text = machine.execute(f"cc-warm status {app} --json")
    [row] = json.loads(text)["apps"]
    return row["knownGood"]


def running(app):
    """The version that the swarm runs, and since when (the version index of its service's spec)."""
    service = json.loads(machine.succeed(f"docker service inspect {app}_test_app"))[0]
    return service["Spec"]["Labels"][f"coop-cloud.{app}_test.version"], service["Version"]["Index"]


def version(app):
    """The version that the swarm runs."""
    return running(app)[0]


def health(app):
    """What the app answers."""
    return machine.succeed(f"curl --silent --max-time 5 http://127.0.0.1:{PORTS[app]}/health").strip()


def containers(app):
    """The ids of the app's running containers, the oldest first."""
    label = f"label=com.docker.stack.namespace={app}_test"
    return machine.succeed(f"docker ps --quiet --no-trunc --filter {label} | tac").split()


def wait_until_gone(app):
    """Waits until nothing of the app exists but its volumes, and checks that no service of it is left."""
    label = f"label=com.docker.stack.namespace={app}_test"
    machine.wait_until_succeeds(f"[ -z \"$(docker ps --quiet --all --filter {label})\" ]")
    expect("its services", "", machine.succeed(f"docker service ls --quiet --filter {label}"))


def write_note(text):
    """A user of `notes` writes something."""
    machine.succeed(f"echo {shlex.quote(text)} >>{VOLUME}/notes")


def data():
    """The data of `notes`: its format, and its lines."""
    lines = machine.succeed(f"cat {VOLUME}/format {VOLUME}/notes").splitlines()
    return int(lines[0]), lines[1:]


# Alerts.


def alerts(*kinds):
    """What the receiver got, oldest first; only these kinds, if any is named."""
    texts = machine.succeed(f"for f in {ALERTS}/*.json; do [ -e $f ] && cat $f && echo; done; true").splitlines()
    got = [json.loads(json.loads(text)["body"]) for text in texts]
    return [alert for alert in got if not kinds or alert.get("kind") in kinds]


def wait_for_alert(kind):
    """Waits until the receiver got an alert of this kind."""
    machine.wait_until_succeeds(f"grep -q '{kind}' {ALERTS}/*.json || {{ systemctl start cc-warm-alerts.service; false; }}")
    return alerts(kind)


def secrets():
    """The values that must not be seen anywhere."""
    values = [machine.succeed("cat /etc/cc-warm-test/alert-token").strip()]
    for app in PORTS:
        for container in containers(app):
            values.append(machine.succeed(f"docker exec {container} /bin/cat /run/secrets/password").strip())
    return values


def expect_no_secret_is_told():
    """No secret is in the journal, in the alerts, or in what cc-warm keeps for people to read."""
    values = secrets()
    assert len(values) > 1 and all(len(value) > 8 for value in values), f"these are no secrets: {values}"
    for value in values:
        found = machine.execute(f"journalctl --no-pager --all | grep --fixed-strings --count -- {shlex.quote(value)}")[1]
        expect("lines of the journal with a secret", "0", found.strip())
    for alert in alerts():
        for value in values:
            expect_not_in("an alert", value, json.dumps(alert))

