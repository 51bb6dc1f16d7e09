# What scripts/helpers.py needs to know of NixOS.


def switch(configuration="base", action="test"):
    """Switches to one of lib/configurations.nix; returns the exit code of switch-to-configuration and its output."""
    path = "/run/booted-system"
    if configuration != "base":
        path += f"/specialisation/{configuration}"
    return machine.execute(f"{path}/bin/switch-to-configuration {action} 2>&1")
