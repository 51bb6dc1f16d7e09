adopt("notes")
publish("notes", "1.1.0+1")
publish("notes", "2.0.0+1", format=2, notes="The file of settings has moved: write it anew.")
before = running("notes"), containers("notes")

with subtest("A major step is held, and nothing is stopped"):
    expect("the exit code", 10, update("notes"))
    expect("what runs", before, (running("notes"), containers("notes")))
    expect_in("the status", "held at 1.0.0+1: 2.0.0+1 waits for you", status_text("notes"))
    machine.fail(f"ls {STATE}/apps/notes/snapshots/*/manifest.json")

with subtest("The alert has the release notes, and the command that lets it pass"):
    [alert] = alerts("held")
    for part in ("2.0.0+1", "The file of settings has moved", "cc-warm approve notes 2.0.0+1"):
        expect_in("the alert", part, json.dumps(alert))

with subtest("The next run holds it as well, and tells nobody again"):
    expect("the exit code", 10, update("notes"))
    expect("alerts", 1, len(alerts("held")))

with subtest("Approved, it passes the first gate"):
    machine.succeed("cc-warm approve notes 2.0.0+1")
    expect("the exit code", 0, update("notes"))
    expect("notes runs", "2.0.0+1", version("notes"))
    expect("the format of its data", 2, data()[0])
