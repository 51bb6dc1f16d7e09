adopt("plain")
publish("plain", "1.1.0+1", broken="crash")

with subtest("A version that ends goes back"):
    expect("the exit code", 11, update("plain"))
    expect("plain runs", "1.0.0+1", version("plain"))
    wait_until_healthy("plain")
    expect("plain answers", "ok 0", health("plain"))

with subtest("No snapshot was made of an app that has no data"):
    machine.fail(f"ls {STATE}/apps/plain/snapshots/*/manifest.json")

with subtest("The operator is told, and not of lost writes"):
    [alert] = alerts("rolled-back")
    expect("the app", "plain", alert["app"])
    expect_not_in("the alert", ".cc-warm-failed-", json.dumps(alert))

with subtest("A newer version is tried by itself"):
    publish("plain", "1.1.1+1")
    expect("the exit code", 0, update("plain"))
    expect("plain runs", "1.1.1+1", version("plain"))
