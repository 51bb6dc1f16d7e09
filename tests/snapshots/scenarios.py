"""The operations that are cut short or disturbed, what they begin with, and what must hold after each."""

import json
import os
import subprocess

import lab
from sandbox import APP, ENV as BARE, FORMATS, NEW, NOTES, OLD, Sandbox, difference, fill

SCENARIOS = {
    "forward": {"behaviour": "healthy", "words": ["update", APP], "exit": 0},
    "back": {"behaviour": "broken", "words": ["update", APP], "exit": 11},
    "snapshot": {"words": ["snapshot", APP], "exit": 0},
    "restore": {"words": ["restore", APP, "--yes"], "exit": 0},
}
LATER = "after the snapshot"
VOLUMES = ("data", "files")
# The files are seconds old, and nobody writes to them while they are staged: what did not change is taken over as if it were
# older.
ENV = {**BARE, "CC_WARM_WHILE_RUNNING_MS": "100"}


def prepare(kind, folder, program):
    """The image that every scenario begins with: a known-good of content 1, live content 2, in each of two volumes."""
    image, mounted = f"{folder}/{kind}.img", f"{folder}/mnt"
    lab.make_image(image, kind)
    lab.mount_image(image, mounted, kind)
    sandbox = Sandbox(mounted, program, ENV)
    sandbox.create(volumes=VOLUMES)
    expected = {}
    fill_all(sandbox, expected, 1)
    sandbox.run(["snapshot", APP]).expect(0)
    fill_all(sandbox, expected, 2)
    with open(f"{folder}/{kind}.json", "w") as file:
        json.dump(expected, file)
    os.sync()
    lab.end_all()
    subprocess.run(["umount", mounted], check=True)
    subprocess.run(["fallocate", "--dig-holes", image], check=True)
    return True


def fill_all(sandbox, expected, seed):
    if len(sandbox.volumes) != len(VOLUMES):
        raise lab.Failure(f"the app has the volumes {sandbox.volumes}")
    for place, volume in enumerate(sandbox.volumes):
        # No two of them are alike.
        fill(f"{volume}/_data", seed + 10 * place)
    expected[str(seed)] = sandbox.payload()


def begin(sandbox, scenario):
    """Boots the host of [`prepare`]'s image, and makes what the scenario needs."""
    how = SCENARIOS[scenario]
    sandbox.boot().expect(0)
    if "behaviour" in how:
        sandbox.publish(NEW, how["behaviour"])
    if scenario == "restore":
        sandbox.write_note(LATER)


def wait_stopped(pid):
    """Until the process stops; its exit status once it has ended."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def check_known_good(sandbox, expected, when):
    """The known-good is whole, by looking at its files and not at what cc-warm says of them."""
    found = sandbox.payload("current")
    wrong = [difference(expected[content], found) for content in ("1", "2")]
    if all(wrong):
        raise lab.Failure(f"{when} the known-good is neither: {wrong[0]}\nnor: {wrong[1]}")


def check(sandbox, scenario, expected, recovered, by_hand=False):
    """What must hold once it is settled; `by_hand`: by an operator who restored the known-good."""
    recovered.expect(0, 1, 11)
    if sandbox.journal():
        raise lab.Failure("the journal is still there")
    running = sandbox.answering()
    wanted = [OLD, NEW] if scenario == "forward" and not by_hand else [OLD]
    if running not in wanted:
        raise lab.Failure(f"{running} runs, and not one of {wanted}")
    if "refuse" in sandbox.log():
        raise lab.Failure("old code met new data")
    with open(f"{sandbox.data}/notes") as file:
        head, *lines = file.read().splitlines()
    if head != f"format {FORMATS[running]}":
        raise lab.Failure(f"{running} runs on data with `{head}`")
    # Which of the two datasets is it? It must be one of them as a whole.
    restored = by_hand or (scenario == "restore" and lines == NOTES)
    if lines != (NOTES if restored or scenario != "restore" else [*NOTES, LATER]):
        raise lab.Failure(f"the notes are {lines}")
    content = sandbox.payload("current") if by_hand else expected["1" if restored else "2"]
    wrong = difference(content, sandbox.payload())
    if wrong:
        raise lab.Failure(f"the data is not what it was: {wrong}")
    check_known_good(sandbox, expected, "after the recovery")
    sandbox.run(["verify", APP]).expect(0)
    left = [name for volume in sandbox.volumes for name in os.listdir(volume) if name.startswith(".cc-warm-new-")]
    if left:
        raise lab.Failure(f"unfinished data is left: {left}")
