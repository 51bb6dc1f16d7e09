adopt("notes", "plain")
write_note("hello")
publish("notes", "1.1.0+1", format=2)
publish("plain", "1.1.0+1")

with subtest("A switch that waits brings both apps to their latest version"):
    code, said = switch("waiting")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    for app in PORTS:
        # Its patience has an end, and the machine may be slow.
        expect(f"the unit of {app}", "inactive", wait_for_end(f"cc-warm-update-{app}.service"))
        expect(f"{app} runs", "1.1.0+1", version(app))
        expect_in(f"the status of {app}", "updated: 1.0.0+1 → 1.1.0+1", status_text(app))

with subtest("The data was migrated, and the data of before is the known-good"):
    expect("the data", (2, ["v2:hello"]), data())
    expect("the snapshot's version", "1.0.0+1", known_good("notes")["version"])

with subtest("The next switch does it again: what cc-warm deploys, it knows"):
    write_note("world")
    publish("notes", "1.2.0+1", format=3)
    code, said = switch("base")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    wait_for_outcome("notes", "updated", "1.2.0+1")
    expect("notes runs", "1.2.0+1", version("notes"))
    expect("the data", (3, ["v3:v2:hello", "v3:world"]), data())
    expect("the snapshot's version", "1.1.0+1", known_good("notes")["version"])

with subtest("The app's `.env` names the version that runs, and keeps what it had"):
    env = machine.succeed("cat /srv/abra/servers/default/notes.test.env")
    expect_in("the .env", "TYPE=notes:1.2.0+1\n", env)
    expect_in("the .env", "SECRET_PASSWORD_VERSION=v1\n", env)

with subtest("Nobody is told of what went well, and no secret is told to anybody"):
    expect("alerts", [], alerts())
    expect_no_secret_is_told()
