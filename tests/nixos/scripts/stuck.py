adopt("notes")
write_note("precious")
publish("notes", "1.1.0+1", format=2, broken="wait")

with subtest("The new version fails, and so does the way back: the app stays down"):
    machine.succeed("systemctl start --no-block cc-warm-update-notes.service")
    wait_for_event("notes", "deployed")
    machine.succeed(f"echo damaged >$(ls -d {STATE}/apps/notes/snapshots/*/volumes/*/notes)", f"touch {VOLUME}/stop")
    expect("the unit", "failed", wait_for_end("cc-warm-update-notes.service"))
    expect("the exit code", "12", machine.get_unit_property("cc-warm-update-notes.service", "ExecMainStatus"))
    expect("its containers", [], containers("notes"))
    expect_in("the status", "STUCK", status_text("notes"))

with subtest("Old code was not started on new data, which is all there still"):
    wait_until_gone("notes")
    expect("the data", (2, ["v2:precious"]), data())

with subtest("The operator is told that it is down, and why"):
    [alert] = alerts("stuck")
    expect("the app", "notes", alert["app"])
    expect_in("the alert", "cc-warm restore notes", json.dumps(alert))

with subtest("The next switch, one that changes the app, does not suffer for it"):
    code, said = switch("changed-env")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    machine.wait_until_succeeds("systemctl show --value -p ExecMainStatus cc-warm-update-notes.service | grep -qx 13")
    expect("the unit", "inactive", wait_for_end("cc-warm-update-notes.service"))
    expect("failed units", "", machine.succeed("systemctl list-units --state=failed --no-legend --plain"))
    wait_until_gone("notes")
    expect("the data", (2, ["v2:precious"]), data())
    expect("alerts of it", 1, len(alerts("stuck")))

with subtest("Other apps are updated meanwhile"):
    publish("plain", "1.1.0+1")
    wait_for_end("cc-warm-update-plain.service")
    update("plain")
    update("plain")
    expect("plain runs", "1.1.0+1", version("plain"))
