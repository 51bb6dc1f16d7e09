adopt("notes", "plain")
publish("notes", "1.1.0+1", notes="Small things.\nManual migration: export the notes before, import them after.\n")
publish("notes", "1.2.0+1", format=2)
publish("plain", "1.1.0+1", notes="No manual migration needed.")
before = running("notes"), containers("notes")

with subtest("A note of a version on the way holds the latest, which has none"):
    expect("the exit code", 10, update("notes"))
    expect("what runs", before, (running("notes"), containers("notes")))
    expect("the format of its data", 1, data()[0])

with subtest("The alert shows the line"):
    [alert] = alerts("held")
    for part in ("1.2.0+1", "release/1.1.0+1", "Manual migration: export the notes before"):
        expect_in("the alert", part, json.dumps(alert))

with subtest("A note that none is needed does not hold"):
    expect("the exit code", 0, update("plain"))
    expect("plain runs", "1.1.0+1", version("plain"))
