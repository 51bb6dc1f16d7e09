adopt("notes")
write_note("precious")
machine.succeed(f"head -c 20M /dev/urandom >{VOLUME}/attachment")
publish("notes", "1.1.0+1", format=2)
before = running("notes"), containers("notes")

with subtest("An update for which there is no room is refused before the app is stopped"):
    machine.succeed(
        "free=$(df --output=avail --block-size=1M / | tail -n 1); fallocate --length $((free - 70))MiB /fill; df --human-readable /"
    )
    expect("the exit code", 10, update("notes"))
    expect("what runs", before, (running("notes"), containers("notes")))
    expect("the data", (1, ["precious"]), data())
    expect_not_in("the journal", "stopping", logged("cc-warm-update-notes.service"))

with subtest("The operator is told what is missing"):
    [alert] = alerts("held", "disk-short", "prepare-failed")
    expect_in("the alert", "MiB", json.dumps(alert))

with subtest("With room, it is done"):
    machine.succeed("rm /fill")
    expect("the exit code", 0, update("notes"))
    expect("notes runs", "1.1.0+1", version("notes"))
