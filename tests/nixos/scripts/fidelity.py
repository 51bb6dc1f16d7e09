adopt("notes")
machine.succeed(
    f"""
    cd {VOLUME}
    echo kept >notes
    mkdir shared && chown 1234:5678 shared && chmod 2775 shared
    echo mine >shared/mine && chown 4321:8765 shared/mine && chmod 4640 shared/mine
    setfacl -m u:1111:rw,g:2222:r shared/mine && setfacl -d -m u:1111:rwx shared
    setfattr -n trusted.overlay.opaque -v y shared
    setfattr -n user.note -v "two words" shared/mine
    setfattr -n security.capability -v 0sAQAAAgAEAAAAAAAAAAAAAAAAAAA= notes
    mknod null c 1 3 && chmod 666 null && mknod disk b 7 200 && mkfifo pipe
    ln notes shared/same && ln -s /nowhere/at/all dangling
    truncate --size 20M sparse && echo end >>sparse
    touch -d "2001-02-03 04:05:06.789012345" shared/mine
    echo fixed >immutable && chattr +i immutable && echo log >log && chattr +a log
    touch -d "2002-02-03 04:05:06.987654321" shared
    """
)


def listing():
    """Everything that a snapshot has to bring back."""
    return machine.succeed(
        f"""
        cd {VOLUME}
        find . ! -name format ! -path ./notes.new -printf '%p %y %M %U:%G %s %b %n %TY-%Tm-%Td %TT %l\\n' | grep -v '^\\. ' | sort
        find . | sort | xargs getfattr --no-dereference --dump --match=- --absolute-names | grep -v '^$'
        getfacl --recursive --numeric --skip-base . 2>/dev/null
        lsattr -R . 2>/dev/null | cut -c1-6,21- | sort
        find . \\( -type c -o -type b \\) -exec stat --format='%n %t:%T' {{}} +
        stat --format=%i notes shared/same | uniq | wc -l
        cat sparse | sha256sum
        """
    )


before = listing()
for part in ("shared d drwxrwsr-x 1234:5678", "trusted.overlay.opaque", "security.capability", "null 1:3", "user:1111:rw-"):
    expect_in("the volume before", part, before)
publish("notes", "1.1.0+1", format=2, broken="crash")

with subtest("A rollback under the unit's hardening brings back all of it"):
    expect("the exit code", 11, update("notes"))
    expect("notes runs", "1.0.0+1", version("notes"))
    after = listing()
    if before != after:
        import difflib

        raise AssertionError("\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", "", "", 0)))

with subtest("The hardening is on"):
    for right, value in {"ProtectSystem": "strict", "NoNewPrivileges": "yes", "RestrictNamespaces": "yes"}.items():
        expect(right, value, machine.get_unit_property("cc-warm-update-notes.service", right))
