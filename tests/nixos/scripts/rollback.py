adopt("notes")
write_note("precious")
publish("notes", "1.1.0+1", format=2, broken="crash", notes="Faster.")

with subtest("A version that ends after its migration goes back, with the data of before"):
    expect("the exit code", 11, update("notes"))
    expect("notes runs", "1.0.0+1", version("notes"))
    wait_until_healthy("notes")
    expect("the data", (1, ["precious"]), data())

with subtest("The unit has not failed, and its status and its journal say what was done"):
    expect("the unit", "inactive", machine.get_unit_property("cc-warm-update-notes.service", "ActiveState"))
    expect_in("the status", "rolled back: 1.1.0+1 failed, 1.0.0+1 runs again", status_text("notes"))
    expect_in("the journal", "it ends after its migration", logged("cc-warm-update-notes.service"))

with subtest("What the failed version made of the data is kept aside"):
    failed = machine.succeed(f"cat {VOLUME}/../.cc-warm-failed-*/notes").split()
    expect("the failed data", ["v2:precious"], failed)

with subtest("The operator is told once, with the reason, the window of writes and where they are"):
    [alert] = alerts("rolled-back")
    expect("the app", "notes", alert["app"])
    for part in ("1.1.0+1", ".cc-warm-failed-", "it ends after its migration"):
        expect_in("the alert", part, json.dumps(alert))

with subtest("It is not tried again"):
    before = running("notes"), containers("notes")
    expect("the exit code", 0, update("notes"))
    expect_in("the status", "up to date at 1.0.0+1", status_text("notes"))
    expect_in("the journal", "1.1.0+1 is not tried", logged("cc-warm-update-notes.service"))
    expect("what runs", before, (running("notes"), containers("notes")))
    expect("alerts of rollbacks", 1, len(alerts("rolled-back")))

expect_no_secret_is_told()
