#!/usr/bin/env python3
"""How fast snapshots are: cc-warm's engine side by side with `cp -a`, `rsync`, `tar`, restic and borg.

Each copy ends with a sync of its file system. Runs are interleaved: one round of every contestant, then the next; the table
has medians, and ratios of medians. Data sets:

  A  1 GB like a database: some 1,200 files, several of 100 MB
  B  50,000 files of 1 to 16 KB
  C  a sparse file of 4 GB with 200 MB of data, hard links, extended attributes, ACLs

  snapshots.py --write               everything, on ext4, xfs and btrfs; writes docs/performance.md
  snapshots.py --kind ext4 --set A   only that, printed
  snapshots.py --scale 0.02          a small copy of it all, to try the script
  snapshots.py --memory --write      memory at 250,000 and 1,000,000 files; adds it to what --write wrote before

Needs root, loop devices, and the tools that it compares with. Results are kept as JSON (`--results`), so that a part can be
measured again alone.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = ("ext4", "xfs", "btrfs")
SETS = ("A", "B", "C")
# None of them gives the image's blocks back: see `allocated`.
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-K"],
}
IMAGE = 12 << 30
# Older than this, and a file may be taken over from a copy that was made while the app ran.
AGE = 130


# --- data ---

def noise(rng, length):
    """Data that neither compresses nor repeats."""
    return rng.randbytes(length)


def put(path, content):
    with open(path, "wb") as file:
        file.write(content)


def make_a(top, scale):
    rng = random.Random(1)
    os.makedirs(f"{top}/base")
    for number in range(max(1, round(8 * scale))):
        with open(f"{top}/base/large{number}", "wb") as file:
            for _ in range(100):
                file.write(noise(rng, 1 << 20))
    for number in range(max(12, round(1192 * scale))):
        folder = f"{top}/base/{number % 30}"
        os.makedirs(folder, exist_ok=True)
        # Most are small, as tables and indexes are.
        put(f"{folder}/{number}", noise(rng, (8 << 10) << min(7, int(rng.expovariate(0.35)))))


def make_b(top, scale):
    rng = random.Random(2)
    for number in range(max(100, round(50_000 * scale))):
        folder = f"{top}/{number // 1000}/{number // 50 % 20}"
        if number % 50 == 0:
            os.makedirs(folder, exist_ok=True)
        put(f"{folder}/{number}", noise(rng, rng.randrange(1 << 10, 16 << 10)))


def make_c(top, scale):
    rng = random.Random(3)
    os.makedirs(f"{top}/links")
    size = round((4 << 30) * scale)
    with open(f"{top}/sparse", "wb") as file:
        file.truncate(size)
        for _ in range(max(1, round(800 * scale))):
            os.pwrite(file.fileno(), noise(rng, 256 << 10), rng.randrange(size >> 12) << 12)
    for number in range(max(20, round(2000 * scale))):
        path = f"{top}/{number}"
        put(path, noise(rng, rng.randrange(100, 4000)))
        if number % 2:
            os.link(path, f"{top}/links/{number}")
        os.setxattr(path, "user.note", noise(rng, 40))
        if number % 4 == 0:
            subprocess.run(["setfacl", "-m", f"u:{1000 + number}:rw", path], check=True)


MAKE = {"A": make_a, "B": make_b, "C": make_c}


def files_of(top):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)


def change(top, part, seed):
    """Changes this part of the files: a page of a large one, all of a small one."""
    rng = random.Random(seed)
    every = files_of(top)
    for path in rng.sample(every, max(1, round(len(every) * part))):
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(0 if size <= 16 << 10 else rng.randrange(size - 8192))
            file.write(noise(rng, min(size, 8192)))


# --- measuring ---

def sync(folder):
    subprocess.run(["sync", "-f", folder], check=True)


def timed(argv, folder, **more):
    """Seconds until the program has ended and all is durable."""
    begin = time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(argv)}: {done.stderr.decode(errors='replace')[-2000:]}")
    sync(folder)
    return time.monotonic() - begin


class Bench:
    def __init__(self, engine, where, rounds):
        self.engine, self.where, self.rounds = engine, where, rounds
        self.source, self.out = f"{where}/live/_data", f"{where}/out"

    def step(self, *words):
        done = subprocess.run([self.engine, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {' '.join(words)}: {done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def clean(self):
        """Before each run: nothing is left of the one before, nothing waits to be written."""
        shutil.rmtree(self.out, ignore_errors=True)
        os.makedirs(self.out)
        sync(self.where)

    def take(self, name, *more):
        return self.step("take", self.source, f"{self.out}/{name}", f"{self.out}/{name}.catalog", *more)

    def contestants(self, reflinks):
        out = f"{self.out}/copy"
        env = {**os.environ, "RESTIC_PASSWORD": "benchmark", "HOME": self.where, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

        def restic():
            subprocess.run(["restic", "init", "-q", "--repo", out], check=True, env=env, stdout=subprocess.DEVNULL)
            sync(self.out)
            return timed(["restic", "backup", "-q", "--no-cache", "--repo", out, "."], self.out, env=env, cwd=self.source)

        def borg():
            subprocess.run(["borg", "init", "--encryption", "none", out], check=True, env=env, stderr=subprocess.DEVNULL)
            sync(self.out)
            return timed(["borg", "create", f"{out}::one", "."], self.out, env=env, cwd=self.source)

        found = {
            "cp -a": lambda: timed(["cp", "-a", "--reflink=auto", self.source, out], self.out),
            "rsync": lambda: timed(["rsync", "-aHAX", "--sparse", f"{self.source}/", out], self.out),
            "tar": lambda: timed(["tar", "--xattrs", "--acls", "--sparse", "-C", self.source, "-cf", out, "."], self.out),
            "restic": restic,
            "borg": borg,
            "structure": lambda: self.take("copy")["total"],
            "digests": lambda: self.digested(reflinks),
        }
        if reflinks:
            found["cp -a --reflink=never"] = lambda: timed(["cp", "-a", "--reflink=never", self.source, out], self.out)
        return found

    def digested(self, reflinks):
        """Where it is a reflink, the digests are taken once the app is up again: both together."""
        first = self.take("copy", "--digest")["total"]
        if not reflinks:
            return first
        begin = time.monotonic()
        self.step("digest", f"{self.out}/copy", f"{self.out}/copy.catalog")
        return first + time.monotonic() - begin

    def full(self, reflinks, only=None):
        """Every contestant's median, in seconds."""
        runs = {}
        contestants = self.contestants(reflinks)
        for turn in range(self.rounds):
            order = list(contestants)
            # Nobody always comes after the same.
            random.Random(turn).shuffle(order)
            for name in order:
                if only and name not in only:
                    continue
                # The slowest by far; they are no closer for being measured once more.
                if name in ("restic", "borg") and turn >= max(1, self.rounds // 2):
                    continue
                self.clean()
                runs.setdefault(name, []).append(contestants[name]())
        return runs

    def changed(self, files):
        """What an update with staging, a second snapshot and a restore take, 1% of the files having changed."""
        runs = {what: [] for what in ("downtime", "first", "second", "restore", "restore changed")}
        self.rest()
        for turn in range(self.rounds):
            self.clean()
            self.take("staged", "--running")
            change(self.source, 0.01, 300 + turn)
            # Right before the stop, while the app still runs.
            sync(self.where)
            down = self.take("final", "--predecessor", f"{self.out}/staged", f"{self.out}/staged.catalog")
            runs["downtime"].append(down["total"])
            self.must_be_taken_over(down, files, "staging copy")
        for turn in range(self.rounds):
            self.clean()
            runs["first"].append(self.take("first")["total"])
            time.sleep(0.05)
            change(self.source, 0.01, 100 + turn)
            sync(self.where)
            second = self.take("second", "--predecessor", f"{self.out}/first", f"{self.out}/first.catalog")
            runs["second"].append(second["total"])
            self.must_be_taken_over(second, files, "first snapshot")
            # Data that the failed version changed, and that nobody wants.
            time.sleep(0.05)
            change(self.source, 0.01, 200 + turn)
            sync(self.where)
            known = [f"{self.out}/second", f"{self.out}/second.catalog"]
            runs["restore"].append(self.step("restore", *known, f"{self.out}/full")["total"])
            sync(self.where)
            # What did not change gets a second name; this moves the ctime of the live files, so it comes last.
            back = self.step("restore", *known, f"{self.out}/back", "--live", self.source, f"{self.out}/second.catalog")
            runs["restore changed"].append(back["total"])
            self.must_be_taken_over(back, files, "live data")
        return runs

    def must_be_taken_over(self, done, files, whence):
        if done["taken_over"] < 0.9 * files:
            print(f"  only {done['taken_over']} of {files} files were taken over from the {whence}", flush=True)

    def rest(self):
        """Until nothing of the live tree is too young to be taken over from a staging copy."""
        paths = files_of(self.source)
        names = sorted(os.lstat(path).st_ctime for path in paths)
        old = names[int(len(names) * 0.94)]
        time.sleep(max(0.0, old + AGE - time.time()))


def mounted(kind, image, where):
    os.makedirs(where, exist_ok=True)
    subprocess.run([*MKFS[kind], image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop,nodiscard", image, where], check=True)


def allocated(image):
    """An image that has all of its blocks. Else the first to write to one waits for the file system beneath, as nobody does on a
    disk, and who that is changes from run to run."""
    zeros = bytes(16 << 20)
    with open(image, "wb") as file:
        for _ in range(IMAGE // len(zeros)):
            file.write(zeros)
        os.fsync(file.fileno())


def measure(args, results):
    engine = args.engine or build()
    image, where = f"{args.work}/image", f"{args.work}/mnt"
    allocated(image)
    try:
        measure_all(args, results, engine, (image, where))
    finally:
        os.unlink(image)


def measure_all(args, results, engine, place):
    image, where = place
    for kind in args.kind or KINDS:
        for name in args.set or SETS:
            mounted(kind, image, where)
            try:
                bench = Bench(engine, where, args.rounds)
                os.makedirs(bench.source)
                MAKE[name](bench.source, args.scale)
                bench.clean()
                files = len(files_of(bench.source))
                print(f"{name} on {kind}: {files} files", flush=True)
                found = results.setdefault(kind, {}).setdefault(name, {})
                found.update(busy=busy(), rounds=args.rounds)
                reflinks = kind != "ext4"
                found["full"] = bench.full(reflinks, args.only)
                for who, times in found["full"].items():
                    print(f"  {who}: {statistics.median(times):.2f} s {['%.2f' % t for t in times]}", flush=True)
                if name in ("A", "B") and not args.only:
                    found["changed"] = bench.changed(files)
                    for what, times in found["changed"].items():
                        print(f"  {what}: {statistics.median(times):.3f} s {['%.3f' % t for t in times]}", flush=True)
            finally:
                subprocess.run(["umount", where], check=True)
            save(args, results)


def busy(seconds=2):
    """The part of the processors that others use, while nothing of the benchmark runs."""
    def read():
        numbers = [int(number) for number in open("/proc/stat").readline().split()[1:]]
        return sum(numbers), numbers[3] + numbers[4]
    before = read()
    time.sleep(seconds)
    total, idle = (now - then for now, then in zip(read(), before))
    return 1 - idle / total


def memory(args, results):
    """The most memory that a snapshot takes, and what each file adds."""
    engine = args.engine or build()
    found = {}
    for count in (250_000, 1_000_000):
        count = max(1000, round(count * args.scale))
        image, where = f"{args.work}/memory.img", f"{args.work}/mnt"
        with open(image, "wb") as file:
            file.truncate(8 << 30)
        os.makedirs(where, exist_ok=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-I", "256", "-N", str(count * 3 + 10_000), image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, where], check=True)
        try:
            os.makedirs(f"{where}/live/_data")
            for number in range(count):
                folder = f"{where}/live/_data/{number // 1000}"
                if number % 1000 == 0:
                    os.mkdir(folder)
                fd = os.open(f"{folder}/some-name-of-usual-length-{number}", os.O_WRONLY | os.O_CREAT, 0o644)
                if number % 10 == 0:
                    os.write(fd, b"x" * 100)
                os.close(fd)
            sync(where)
            os.mkdir(f"{where}/out")
            words = [engine, "take", f"{where}/live/_data", f"{where}/out/copy", f"{where}/out/catalog", "--digest"]
            rows = {"take": peak(words)}
            words = [engine, "take", f"{where}/live/_data", f"{where}/out/again", f"{where}/out/again.catalog", "--predecessor",
                     f"{where}/out/copy", f"{where}/out/catalog"]
            rows["take with a predecessor"] = peak(words)
            rows["restore"] = peak([engine, "restore", f"{where}/out/copy", f"{where}/out/catalog", f"{where}/out/back", "--digest"])
            shutil.rmtree(f"{where}/out")
            os.mkdir(f"{where}/out")
            for number in range(count):
                folder = f"{where}/live/_data/more/{number // 1000}"
                if number % 1000 == 0:
                    os.makedirs(folder)
                name = f"some-name-of-usual-length-{number}"
                os.link(f"{where}/live/_data/{number // 1000}/{name}", f"{folder}/{name}")
            sync(where)
            words = [engine, "take", f"{where}/live/_data", f"{where}/out/copy", f"{where}/out/catalog", "--digest"]
            rows["take, each file with two names"] = peak(words)
            found[str(count)] = rows
            print(f"{count} files: " + ", ".join(f"{what} {size / 1e6:.1f} MB, {seconds:.1f} s"
                                                 for what, (size, seconds) in rows.items()), flush=True)
        finally:
            subprocess.run(["umount", where], check=True)
            os.unlink(image)
    results["memory"] = found
    save(args, results)


def peak(words):
    """The most memory that a step had, in bytes, and how long it took."""
    begin = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["peak"], time.monotonic() - begin


def build():
    command = ["cargo", "build", "--quiet", "--locked", "--release", "--bench", "engine", "--message-format", "json", "--manifest-path",
               str(ROOT / "pkgs/cc-warm/Cargo.toml")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if found.get("executable") and found["target"]["name"] == "engine":
            return found["executable"]
    sys.exit("error: cargo built no `engine`")


def save(args, results):
    results["machine"] = machine(args)
    with open(args.results, "w") as file:
        json.dump(results, file, indent=1)


def machine(args):
    memory = int(re.search(r"MemTotal: +(\d+)", open("/proc/meminfo").read())[1])
    versions = {}
    for tool, argv in (("rsync", ["rsync", "--version"]), ("tar", ["tar", "--version"]), ("restic", ["restic", "version"]),
                       ("borg", ["borg", "--version"]), ("cp", ["cp", "--version"])):
        if shutil.which(tool):
            said = subprocess.run(argv, capture_output=True, text=True).stdout
            versions[tool] = re.search(r"\d+(\.\d+)+", said)[0]
    return {"cores": os.cpu_count(), "memory": round(memory / (1 << 20)), "kernel": re.match(r"\d+\.\d+", platform.release())[0],
            "beneath": subprocess.run(["stat", "-f", "-c", "%T", args.work], capture_output=True, text=True).stdout.strip(),
            "versions": versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--set", action="append", choices=SETS)
    parser.add_argument("--only", action="append", help="only this contestant")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--work", default="/var/tmp/cc-warm-bench", help="where images lie, on a disk")
    parser.add_argument("--results", default="/var/tmp/cc-warm-bench.json")
    parser.add_argument("--engine", help="a built engine; else it is built")
    parser.add_argument("--memory", action="store_true", help="only memory")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md from the results")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: it mounts loop devices: run it as root")
    missing = [tool for tool in ("rsync", "restic", "borg", "setfacl", "mkfs.xfs", "mkfs.btrfs") if not shutil.which(tool)]
    if missing:
        sys.exit(f"error: these are missing: {', '.join(missing)}\nhint: apt-get install rsync restic borgbackup acl xfsprogs btrfs-progs")
    os.makedirs(args.work, exist_ok=True)
    results = json.load(open(args.results)) if os.path.exists(args.results) else {}
    (memory if args.memory else measure)(args, results)
    if args.write:
        import report
        path = ROOT / "docs/performance.md"
        # What `tests/bench/commands` wrote stays.
        _, heading, commands = path.read_text().partition("\n## Commands\n")
        path.write_text(report.page(results) + heading + commands)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
