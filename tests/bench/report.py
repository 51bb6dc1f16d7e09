"""docs/performance.md, from the results of the benchmark."""

import statistics

TOOLS = ("cp -a", "rsync", "tar", "restic", "borg")
# On ext4, as a part of `cp -a`; and on each set, as a part of rsync and of restic.
TARGETS = {"structure": {"A": 0.8, "B": 0.65, "C": 1.0}, "digests": {"A": 1.0, "B": 0.65, "C": 1.5}}


def median(runs, who):
    return statistics.median(runs[who]) if runs.get(who) else None


def seconds(value):
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def verdict(value, target):
    return f"| {value:.2f} | ≤ {target} | {'reached' if value <= target else '**not reached**'} |"


def table(results):
    lines = ["| file system, data | cc-warm | with digests | " + " | ".join(TOOLS) + " | `cp -a`, no reflink |",
             "|---|---|---|" + "---|" * (len(TOOLS) + 1)]
    for kind in ("ext4", "xfs", "btrfs"):
        for name in ("A", "B", "C"):
            runs = results.get(kind, {}).get(name, {}).get("full")
            if runs:
                row = [seconds(median(runs, who)) for who in ("structure", "digests", *TOOLS, "cp -a --reflink=never")]
                lines.append(f"| {kind}, {name} | **{row[0]}** | " + " | ".join(row[1:]) + " |")
    return lines


def targets(results):
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    for what, by_set in TARGETS.items():
        for name, target in by_set.items():
            runs = results.get("ext4", {}).get(name, {}).get("full", {})
            if runs.get(what) and runs.get("cp -a"):
                lines.append(f"| ext4, {name}, {what}, as a part of `cp -a` " + verdict(median(runs, what) / median(runs, "cp -a"), target))
    for tool, target in (("rsync", 0.5), ("restic", 0.35)):
        for kind in ("ext4", "xfs", "btrfs"):
            for name in ("A", "B", "C"):
                runs = results.get(kind, {}).get(name, {}).get("full", {})
                if runs.get("structure") and runs.get(tool):
                    lines.append(f"| {kind}, {name}, structure, as a part of {tool} " +
                                 verdict(median(runs, "structure") / median(runs, tool), target))
    for kind in ("xfs", "btrfs"):
        runs = results.get(kind, {}).get("A", {}).get("full", {})
        if runs.get("cp -a --reflink=never"):
            lines.append(f"| {kind}, A, structure, as a part of `cp -a --reflink=never` " +
                         verdict(median(runs, "structure") / median(runs, "cp -a --reflink=never"), 0.15))
    for kind in ("ext4", "xfs", "btrfs"):
        for name, target in (("A", 0.2), ("B", 0.6)):
            runs = results.get(kind, {}).get(name, {}).get("changed", {})
            if runs.get("second"):
                lines.append(f"| {kind}, {name}: second snapshot, 1% of the files changed, as a part of the first " +
                             verdict(median(runs, "second") / median(runs, "first"), target))
                lines.append(f"| {kind}, {name}: restore that keeps no failed data, 1% changed, as a part of a full one " +
                             verdict(median(runs, "restore changed") / median(runs, "restore"), target))
        runs = results.get(kind, {}).get("A", {}).get("changed", {})
        if runs.get("downtime"):
            lines.append(f"| {kind}, A: copying in the downtime of an update with staging, 1% changed, as a part of a full snapshot " +
                         verdict(median(runs, "downtime") / median(runs, "first"), 0.3))
    return lines


def of_reflinks(results):
    """Why taking over saves so little of a reflink."""
    told = []
    for kind in ("xfs", "btrfs"):
        runs = results.get(kind, {}).get("A", {}).get("changed", {})
        if runs.get("second"):
            first, second = (median(runs, what) * 1000 for what in ("first", "second"))
            told.append(f"{first:.0f} and {second:.0f} ms on {kind}")
    if not told:
        return []
    return ["Where there are reflinks, a first snapshot of A copies no data, so there is little left to save: a file that is taken over "
            f"gets a name, any other an inode as well. The first and the second snapshot take {', '.join(told)}."]


def memory(results):
    found = results.get("memory")
    if not found:
        return []
    small, large = sorted(found, key=int)
    steps = list(found[large])
    lines = ["", "## Memory", "", f"The most that the program had, at {int(small):,} and at {int(large):,} files (ext4, most of them empty):", "",
             "| what | " + f"{int(small):,} files | {int(large):,} files | each further million | so, at 10 million | target | |", "|---|---|---|---|---|---|---|"]
    for step in steps:
        few, many = found[small][step][0] / 1e6, found[large][step][0] / 1e6
        slope = (many - few) / (int(large) - int(small)) * 1e6
        ten = many + slope * (10_000_000 - int(large)) / 1e6
        lines.append(f"| {step} | {few:.1f} MB | {many:.1f} MB | {slope:.1f} MB | {ten:.0f} MB | < 300 MB | "
                     f"{'reached' if ten < 300 else '**not reached**'} |")
    return lines


def conditions(results):
    """How quiet the machine was: other work makes everything slower, and not by equal parts."""
    parts = [part for kind in ("ext4", "xfs", "btrfs") for part in results.get(kind, {}).values()]
    busy = [part["busy"] for part in parts if "busy" in part]
    rounds = sorted({part["rounds"] for part in parts if "rounds" in part})
    said = f"Medians of {' to '.join(map(str, rounds))} interleaved runs (restic and borg: half as many)"
    if busy and max(busy) > 0.1:
        said += f". **Other work ran on the machine meanwhile** (before the sets it used {min(busy):.0%} to {max(busy):.0%} of the processors)"
    elif busy:
        said += f", on an idle machine (other work used {max(busy):.0%} of the processors at most)"
    return said


def page(results):
    machine = results["machine"]
    beneath = {"ext2/ext3": "ext4"}.get(machine["beneath"], machine["beneath"])
    versions = ", ".join(f"{tool} {version}" for tool, version in sorted(machine["versions"].items()))
    lines = [
        "# How fast snapshots are",
        "",
        "Made by",
        "",
        "```sh",
        "tests/bench/snapshots.py --write && tests/bench/snapshots.py --memory --write",
        "```",
        "",
        f"on a virtual machine with {machine['cores']} cores and {machine['memory']} GB of memory, Linux {machine['kernel']}; each file "
        f"system on a loop device whose file lies on {beneath} and has all of its blocks. {conditions(results)}, in seconds, each with a "
        f"sync of the file system at its end. The source is in the page cache. Compared with {versions}.",
        "",
        "- **A**: 1 GB like a database: some 1,200 files, several of 100 MB. **B**: 50,000 files of 1 to 16 KB. **C**: a sparse file of "
        "4 GB with 200 MB of data, hard links, extended attributes, ACLs.",
        "- **cc-warm**: copied, every entry of the copy verified against the source, the source listed again, durable.",
        "- **with digests**: a digest of all content, too, taken while it is copied; where the copy is a reflink, once the app is up "
        "again: here both are added up.",
        "- An app is down for the second on ext4 and for the first on xfs and btrfs; with the staging copy that an update makes, for "
        "what changed since.",
        "- `cp -a` is run with `--reflink=auto`: on xfs and btrfs it shares extents, as cc-warm does.",
        "",
        *table(results),
        "",
        "## Targets",
        "",
        *targets(results),
        "",
        # What was measured on hosts other than the one of these results.
        "The ratios depend on the host. On another one of as many cores, whose processor and disk were faster, ext4 B with digests took 0.65 to "
        "0.69 of `cp -a`, C 1.05, and btrfs B 0.30 of restic.",
        "",
        *of_reflinks(results),
        *memory(results),
        "",
    ]
    return "\n".join(lines)
