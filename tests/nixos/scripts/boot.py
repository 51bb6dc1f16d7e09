adopt("notes")
write_note("hello")
machine.succeed(f"head -c 8M /dev/urandom >{VOLUME}/attachment", "cc-warm snapshot notes")
publish("notes", "1.1.0+1", format=2)
machine.shutdown()
machine.start()
machine.wait_for_unit("multi-user.target")

with subtest("Recovery ran, and found nothing to settle"):
    wait_until_recovered()
    expect_in("what it said", "nothing to recover", machine.succeed("journalctl -b --output=cat -u cc-warm-recover.service"))
    for app in PORTS:
        wait_until_healthy(app)

with subtest("The shutdown synced all and noted it, so a snapshot takes over what did not change before it"):
    note = json.loads(machine.succeed(f"cat {STATE}/synced.json"))
    expect("the boot that found the note", machine.succeed("cat /proc/sys/kernel/random/boot_id").strip(), note["foundIn"])
    [forecast] = json.loads(machine.succeed("cc-warm snapshot notes --dry-run --json"))["apps"]
    [volume] = forecast["forecast"]["preflight"]["volumes"]
    expect("that the volume holds the attachment", True, volume["holds"]["bytes"] >= 8 << 20)
    expect("that the attachment would be copied again", False, volume["copied"]["bytes"] >= 8 << 20)

with subtest("No update was started, for booting is no activation"):
    expect("the start of the activation", "no", machine.get_unit_property("cc-warm-activation.service", "ConditionResult"))
    started = machine.get_unit_property("cc-warm-update-notes.service", "ExecMainStartTimestampMonotonic")
    expect("the start of the update", "0", started)
    expect("notes runs", "1.0.0+1", version("notes"))
    expect("the data", (1, ["hello"]), data())
    expect("failed units", "", machine.succeed("systemctl list-units --state=failed --no-legend --plain"))

with subtest("A switch to the same system is one"):
    code, said = switch("base")
    expect("the switch", (0, ""), (code, "" if code == 0 else said))
    wait_for_outcome("notes", "updated", "1.1.0+1")
    expect("notes runs", "1.1.0+1", version("notes"))
    expect("the data", (2, ["v2:hello"]), data())
