adopt("notes", "plain")
before = {app: (running(app), containers(app)) for app in PORTS}

with subtest("A switch with nothing to update stops nothing"):
    code, said = switch("waiting")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    for app in PORTS:
        expect(f"the unit of {app}", "inactive", wait_for_end(f"cc-warm-update-{app}.service"))
        expect("the exit code", "0", machine.get_unit_property(f"cc-warm-update-{app}.service", "ExecMainStatus"))
        expect_in(f"the status of {app}", "up to date at 1.0.0+1", status_text(app))
        expect(f"what runs of {app}", before[app], (running(app), containers(app)))

with subtest("It copies nothing, and deploys nothing"):
    machine.fail(f"ls -d {STATE}/apps/*/snapshots/*/volumes")
    for app in PORTS:
        expect(f"operations on {app}", [], [line for line in history(app) if line.get("outcome") != "adopted"])

with subtest("It is fast"):
    # On a machine of its own this takes a second; this one may be emulated, on a host with other work.
    for app in PORTS:
        seconds = took(f"cc-warm-update-{app}.service")
        assert seconds < 30, f"the update of {app}, with nothing to do, took {seconds} s"

expect("alerts", [], alerts())
