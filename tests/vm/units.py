"""The units of every configuration: from the module, where nix with nixpkgs is at hand, else as committed."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def ensure(scratch):
    """The folder with `<configuration>/config.json` and `<configuration>/units`."""
    made = scratch / "configurations"
    generate = subprocess.run(
        [sys.executable, HERE / "generate", "--into", made], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if generate.returncode != 0:
        raise RuntimeError(f"tests/vm/generate: {generate.stderr}")
    if made.exists():
        print("units: made by the module", flush=True)
        return made
    print(f"units: tests/vm/generated ({generate.stderr.strip()})", flush=True)
    return HERE / "generated"
