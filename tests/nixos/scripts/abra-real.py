# Not yet run anywhere: it needs a nixpkgs that can be built from. The set-up has already made both apps with the real
# abra (`app new`, `app secret generate`, `app deploy`); recipes come from disk, and there is no catalogue to ask.
adopt("notes")
write_note("precious")

with subtest("It is nixpkgs' abra, and not the stand-in"):
    expect_not_in("abra's version", "standin", machine.succeed("abra --version"))

with subtest("It deploys a healthy version, and then the next"):
    for format, wanted in ((2, "1.1.0+1"), (3, "1.2.0+1")):
        publish("notes", wanted, format=format)
        expect("the exit code", 0, update("notes"))
        expect("notes runs", wanted, version("notes"))

with subtest("It goes back from a broken one, with the data"):
    kept = data()
    publish("notes", "1.3.0+1", format=4, broken="crash")
    expect("the exit code", 11, update("notes"))
    expect("notes runs", "1.2.0+1", version("notes"))
    expect("the data", kept, data())
