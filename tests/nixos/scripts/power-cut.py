adopt("notes")
write_note("precious")
publish("notes", "1.1.0+1", format=2, broken="wait")

with subtest("The power fails when the new version has migrated the data"):
    machine.succeed("systemctl start --no-block cc-warm-update-notes.service")
    wait_for_event("notes", "deployed")
    machine.wait_until_succeeds(f"grep -qx 2 {VOLUME}/format")
    machine.crash()

with subtest("After the boot, recovery brings the prior version back, with its data"):
    machine.start()
    machine.wait_for_unit("multi-user.target")
    wait_until_recovered()
    expect("an open journal", False, has_journal("notes"))
    expect("notes runs", "1.0.0+1", version("notes"))
    wait_until_healthy("notes")
    expect("the data", (1, ["precious"]), data())

with subtest("The other app, which was not updated, is up again too"):
    wait_until_healthy("plain")

with subtest("The operator is told, and the version is not to blame"):
    wait_for_alert("recovered")
    expect("rejected versions", [], state("notes").get("rejected", []))
    expect_no_secret_is_told()

with subtest("It is tried again, and committed when it is healthy"):
    machine.succeed("systemctl start --no-block cc-warm-update-notes.service")
    wait_for_event("notes", "deployed")
    machine.succeed(f"touch {VOLUME}/go")
    expect("the unit", "inactive", wait_for_end("cc-warm-update-notes.service"))
    expect("notes runs", "1.1.0+1", version("notes"))
    expect("the data", (2, ["v2:precious"]), data())
