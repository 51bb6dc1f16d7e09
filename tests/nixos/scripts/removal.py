adopt("notes")
write_note("hello")
publish("notes", "1.1.0+1", format=2, broken="wait")
machine.succeed("systemctl start --no-block cc-warm-update-notes.service")
wait_for_event("notes", "deployed")

with subtest("The app is taken out of the configuration in mid-update, and the update is not cut"):
    code, said = switch("without-notes")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    machine.fail("test -e /etc/systemd/system/cc-warm-update-notes.service")
    expect("its unit", "activating", machine.get_unit_property("cc-warm-update-notes.service", "ActiveState"))
    expect("a journal", True, has_journal("notes"))

with subtest("It comes to its end"):
    machine.succeed(f"touch {VOLUME}/go")
    expect("its unit", "inactive", wait_for_end("cc-warm-update-notes.service"))
    expect("a journal", False, has_journal("notes"))
    expect("notes runs", "1.1.0+1", version("notes"))
    expect("the data", (2, ["v2:hello"]), data())

with subtest("What is not declared any more is left running, and is not updated"):
    publish("notes", "1.2.0+1", format=3)
    before = running("notes"), containers("notes")
    code, said = switch("without-notes")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    wait_for_end("cc-warm-update-plain.service")
    expect("what runs", before, (running("notes"), containers("notes")))
    expect_in("the status", "not declared", machine.execute("cc-warm status 2>&1")[1])
