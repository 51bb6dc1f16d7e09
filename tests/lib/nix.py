"""How the checks that need Nix find nixpkgs, and evaluate with it; and how they say that they cannot."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
NIX = ["nix", "--extra-experimental-features", "nix-command flakes"]


def skip(check, why):
    """Ends this program, saying which check did not run and why. What was not run has not failed."""
    print(f"skipped: {check}: {why}", file=sys.stderr)
    sys.exit()


def nixpkgs(check):
    """The folder of a nixpkgs flake: $CC_WARM_NIXPKGS, else the one that flake.lock names, if it can be had."""
    if not shutil.which("nix"):
        skip(check, "nix is not installed")
    if given := os.environ.get("CC_WARM_NIXPKGS"):
        return pathlib.Path(given).resolve()
    locked = '(builtins.getFlake "git+file://%s").inputs.nixpkgs.outPath' % ROOT
    quick = ["--option", "connect-timeout", "5", "--option", "download-attempts", "1"]
    found = run([*NIX, "eval", "--impure", "--raw", *quick, "--expr", locked], check=False)
    if found.returncode != 0:
        reason = next((line for line in found.stderr.splitlines() if line.startswith("error:")), "error: unknown")
        skip(check, f"no nixpkgs ({reason}): set CC_WARM_NIXPKGS to a folder that holds its flake")
    return pathlib.Path(found.stdout)


def expression(flake, file, rest=""):
    """`file`, a function, called with nixpkgs as a flake and as the function that makes a NixOS system."""
    return (
        f'let nixpkgs = builtins.getFlake "path:{flake}"; in '
        f"(import {ROOT / file} {{ inherit nixpkgs; inherit (nixpkgs.lib) nixosSystem; }}){rest}"
    )


def evaluate(flake, file, rest=""):
    """What `expression` evaluates to, as JSON; ends this program if it does not."""
    result = run([*NIX, "eval", "--impure", "--json", "--expr", expression(flake, file, rest)], check=False)
    if result.returncode != 0:
        sys.exit(f"{file} does not evaluate:\n{result.stderr}")
    return json.loads(result.stdout)


def error_of(flake, file, rest=""):
    """What evaluation says when it fails; None if it does not fail."""
    result = run([*NIX, "eval", "--impure", "--json", "--expr", expression(flake, file, rest)], check=False)
    return result.stderr if result.returncode != 0 else None


def run(argv, check=True):
    return subprocess.run(argv, cwd=ROOT, check=check, capture_output=True, text=True)
