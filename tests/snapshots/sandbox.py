"""A host with one app on the process deployer, in a folder (the mounted loop file system of a cell): the demo's little app,
whose data format goes forward only, with a volume that holds much else.
"""

import hashlib
import json
import os
import stat
import subprocess

import lab

APP = "notes"
OLD, NEW = "1.0.0+1", "1.1.0+2"
FORMATS = {OLD: 1, NEW: 2}
NOTES = ["buy milk", "call home"]
PORT = 8080
ENV = {"PATH": os.environ["PATH"]}


class Sandbox:
    def __init__(self, folder, program, env=ENV):
        self.folder, self.program, self.env = folder, program, env
        self.state = f"{folder}/state"
        self.config = f"{folder}/config.json"

    # --- the host ---

    def create(self, change=None, volumes=("data",)):
        """A new one: configuration, recipe, and the first version deployed with two notes, which are in the first volume."""
        os.chmod(self.folder, 0o755)
        health = {"probes": [{"http": {"url": f"http://127.0.0.1:{PORT}/health", "body": "^ok "}}],
                  "successes": 2, "interval": "50ms", "soak": "150ms", "deadline": "1500ms"}
        config = {
            "format": 1, "stateDir": self.state, "host": "lab", "disk": {"reserve": 0},
            "apps": {APP: {"recipe": f"{self.folder}/recipe", "domain": "notes.example.org", "deployer": {"process": {}},
                           "env": {"PORT": str(PORT), "CC_WARM_PROGRAM": self.program}, "health": health}},
            "alerts": {"operator": {"command": {"argv": ["tee", "-a", f"{self.folder}/alerts.jsonl"]}}},
        }
        if change:
            change(config)
        with open(self.config, "w") as file:
            json.dump(config, file)
        os.mkdir(f"{self.folder}/recipe")
        self.git("init", "--quiet", "--initial-branch=main")
        with open(f"{self.folder}/recipe/Volumes", "w") as file:
            file.writelines(f"{name}: {name.upper()}_DIR\n" for name in volumes)
        self.publish(OLD)
        self.run(["update", APP]).expect(0)
        for note in NOTES:
            self.write_note(note)

    def git(self, *words):
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "A maintainer"), ("EMAIL", "maintainer@example.org"))}
        subprocess.run(["git", "-c", "core.fsync=none", "-c", "gc.auto=0", *words], cwd=f"{self.folder}/recipe", check=True,
                       env={"PATH": os.environ["PATH"], "HOME": self.folder, "GIT_CONFIG_NOSYSTEM": "1",
                            "GIT_CONFIG_GLOBAL": "/dev/null", **who})

    def publish(self, version, behaviour="healthy"):
        files = {
            "Procfile": f"web: ${{CC_WARM_PROGRAM}} demo-app --release {version} --format {FORMATS[version]} "
                        f"--behaviour {behaviour}\n",
            ".env.sample": "PORT=\nCC_WARM_PROGRAM=\n",
        }
        for name, text in files.items():
            with open(f"{self.folder}/recipe/{name}", "w") as file:
                file.write(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", version)
        self.git("tag", "--annotate", "--message", "release", version)

    def command(self, words):
        return [self.program, "--config", self.config, *words]

    def run(self, words, fault="", trace=None, timeout=60):
        """cc-warm, with fault rules."""
        env = {**self.env, "CC_WARM_FAULT": fault, "RUST_BACKTRACE": "0"}
        if trace:
            env["CC_WARM_FAULT_TRACE"] = trace
        try:
            done = subprocess.run(self.command(words), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode(errors="backslashreplace")
            raise lab.Failure(f"`cc-warm {' '.join(words)}` (fault `{fault}`) hung for {timeout} s:\n{said}") from error
        return Ran(words, fault, done.returncode, done.stdout)

    def json(self, words):
        done = subprocess.run(self.command([*words, "--json"]), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return json.loads(done.stdout)

    def boot(self):
        """What a host does when it starts."""
        return self.run(["recover"])

    # --- the app ---

    def get(self, path):
        return self.request("GET", path)

    def request(self, method, path, body=None):
        # Hundreds of cells start, and not all of them ask.
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return None, str(error)
        finally:
            connection.close()

    def write_note(self, note):
        status, text = self.request("POST", "/notes", note)
        if status != 201:
            raise lab.Failure(f"a note was not taken: {status} {text}")

    def notes(self):
        status, text = self.get("/notes")
        return text.splitlines() if status == 200 else None

    def answering(self):
        """The version that answers and is well."""
        status, text = self.get("/health")
        return text.strip().removeprefix("ok ") if status == 200 else None

    def log(self):
        try:
            with open(f"{self.state}/process/apps/{APP}/log", errors="backslashreplace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # --- its data ---

    @property
    def volumes(self):
        """All of them; the first is where the app's notes are."""
        place = f"{self.state}/process/volumes"
        return [f"{place}/{name}" for name in sorted(os.listdir(place))]

    @property
    def volume(self):
        return self.volumes[0]

    @property
    def data(self):
        return f"{self.volume}/_data"

    @property
    def app_dir(self):
        return f"{self.state}/apps/{APP}"

    def snapshot_id(self, name="current"):
        """The snapshot that is kept by this name."""
        with open(f"{self.app_dir}/snapshots/generations.json") as file:
            kept = json.load(file)[name]
        return kept["id"] if isinstance(kept, dict) else kept

    def snapshot_tree(self, name="current"):
        """Where the volume's copy lies in the snapshot that is kept by this name."""
        tree = f"{self.app_dir}/snapshots/{self.snapshot_id(name)}/volumes/{os.path.basename(self.volume)}"
        if not os.path.isdir(tree):
            raise lab.Failure(f"no snapshot `{name}`: " + repr(sorted(os.listdir(f"{self.app_dir}/snapshots"))))
        return tree

    def payload(self, name=None):
        """The fingerprint of all that lives, or of what the snapshot that is kept by this name has of it."""
        tops = {os.path.basename(volume): f"{volume}/_data" for volume in self.volumes}
        if name:
            copies = os.path.dirname(self.snapshot_tree(name))
            tops = {volume: f"{copies}/{volume}" for volume in os.listdir(copies)}
        return {f"{volume}: {path}": entry for volume, top in tops.items() for path, entry in payload(top).items()}

    def journal(self):
        try:
            with open(f"{self.app_dir}/journal.jsonl") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def evidence(self):
        """What a person would look at."""
        listing = subprocess.run(["find", *self.volumes, f"{self.app_dir}/snapshots", "-maxdepth", "2", "-printf",
                                  "%p %i %l\n"], capture_output=True).stdout.decode(errors="backslashreplace")
        return f"journal:\n{self.journal()[-3000:]}\napp's log:\n{self.log()[-1000:]}\n{listing}"


class Ran:
    def __init__(self, words, fault, code, output):
        self.words, self.fault, self.code, self.raw = words, fault, code, output
        self.text = output.decode(errors="backslashreplace")

    def expect(self, *codes):
        if self.code not in codes:
            raise lab.Failure(f"`cc-warm {' '.join(self.words)}` (fault `{self.fault}`) ended with {self.code}, "
                              f"not {codes}:\n{self.text}")
        return self.text


# --- a volume's content ---

def write(path, content, mode=0o644, owner=(0, 0)):
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    os.chown(path, *owner)


def fill(data, seed):
    """A volume's content that is not the app's notes: some of each kind of thing, different for each `seed`."""
    top = f"{data}/payload"
    for folder in ("", "/many", "/deep/er/still", "/shared"):
        os.makedirs(top + folder, exist_ok=True)
    for number in range(24):
        # Most files are the same for every seed.
        own = seed if number % 4 == 0 else 0
        write(f"{top}/many/{number}", hashlib.sha256(f"{own}/{number}".encode()).digest() * (1 + number * 13 % 64),
              owner=(1000 + number, 2000 + number))
    write(f"{top}/deep/er/still/big", hashlib.sha256(str(seed).encode()).digest() * 8192, mode=0o600, owner=(33, 33))
    with open(f"{top}/sparse", "wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), str(seed).encode() * 500, 256 << 10)
    for link in ("deep/link", f"shared/link-{seed}"):
        if not os.path.lexists(f"{top}/{link}"):
            os.link(f"{top}/many/3", f"{top}/{link}")
    if not os.path.lexists(f"{top}/symlink"):
        os.symlink("many/../../../../../../../etc/passwd", f"{top}/symlink")
    if not os.path.lexists(f"{top}/fifo"):
        os.mkfifo(f"{top}/fifo", 0o640)
    os.chown(f"{top}/shared", 12345, 54321)
    os.chmod(f"{top}/shared", 0o2775)
    os.setxattr(f"{top}/many/1", "user.seed", str(seed).encode())
    os.setxattr(f"{top}/many/2", "trusted.seed", str(seed).encode())
    subprocess.run(["setfacl", "-m", "u:4711:r", f"{top}/many/5"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:4712:rwx", f"{top}/deep"], check=True)
    os.utime(f"{top}/many/7", ns=(1_000_000_001, 1_234_567_890_123_456_789))


def fingerprint(top, skip=()):
    """All that a copy must carry, by path. Hard links are named by the first of their paths."""
    found, first = {}, {}
    pending = [b""]
    top = os.fsencode(top)
    while pending:
        relative = pending.pop()
        path = os.path.join(top, relative) if relative else top
        at = os.lstat(path)
        kind = stat.S_IFMT(at.st_mode)
        entry = {"kind": oct(kind), "mode": oct(stat.S_IMODE(at.st_mode)), "owner": [at.st_uid, at.st_gid],
                 "mtime": at.st_mtime_ns}
        entry["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False).hex()
                           for name in sorted(os.listxattr(path, follow_symlinks=False))}
        if stat.S_ISDIR(at.st_mode):
            names = [name for name in os.listdir(path) if os.path.join(relative, name) not in skip]
            pending += [os.path.join(relative, name) for name in sorted(names)]
            entry["flags"] = lab.inode_flags(path)
        elif stat.S_ISLNK(at.st_mode):
            entry["target"] = repr(os.readlink(path))
        elif stat.S_ISREG(at.st_mode):
            entry["size"] = at.st_size
            entry["flags"] = lab.inode_flags(path)
            with open(path, "rb") as file:
                entry["content"] = hashlib.file_digest(file, "blake2b").hexdigest()
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry["device"] = at.st_rdev
        elif stat.S_ISSOCK(at.st_mode):
            continue
        if not stat.S_ISDIR(at.st_mode) and at.st_nlink > 1:
            # A snapshot shares inodes with others: what counts is which names in the tree are one file.
            if at.st_ino in first:
                entry["same as"] = first[at.st_ino]
            first.setdefault(at.st_ino, repr(relative))
        found[repr(relative)] = entry
    return found


def payload(top):
    """The fingerprint of a volume or its copy but for what the app itself writes."""
    found = fingerprint(top, skip=(b"notes",))
    # The app replaces a file in it.
    found["b''"]["mtime"] = 0
    return found


def difference(wanted, found):
    """What a person would want to read of two fingerprints; nothing if they are equal."""
    said = []
    for path in sorted(wanted.keys() | found.keys()):
        if path not in found:
            said.append(f"{path} is not there")
        elif path not in wanted:
            said.append(f"{path} should not be there")
        elif wanted[path] != found[path]:
            keys = wanted[path].keys() | found[path].keys()
            said.append(f"{path}: " + ", ".join(f"{key} is {found[path].get(key)!r}, should be {wanted[path].get(key)!r}"
                                                for key in sorted(keys) if wanted[path].get(key) != found[path].get(key)))
    return "; ".join(said[:8]) + (f"; and {len(said) - 8} more" if len(said) > 8 else "")
