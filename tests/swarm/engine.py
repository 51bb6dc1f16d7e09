"""A docker with an active one-node swarm: the one that runs here, or one of our own, which ends with the tests."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
IMAGE = "cc-warm-demo"
# Set in the network of our own.
OWN = "CC_WARM_TEST_NETWORK"


def skip(why):
    print(f"skipped: swarm: {why}")
    sys.exit(0)


def docker(*argv, check=True, stdin=None):
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, input=stdin, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def info():
    try:
        said = json.loads(docker("info", "--format", "{{json .}}", check=False) or "{}")
    except json.JSONDecodeError:
        return None
    return None if said.get("ServerErrors") or "Swarm" not in said else said


class Daemon:
    """A dockerd in a folder of its own."""

    def __init__(self, root):
        self.root, self.process = pathlib.Path(root), None
        self.host = f"unix://{self.root}/docker.sock"

    def start(self):
        self.root.mkdir(parents=True, exist_ok=True)
        argv = ["dockerd", "--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec", "-H", self.host]
        argv += ["--pidfile", f"{self.root}/pid", "--bridge=none", "--iptables=false"]
        with open(self.root / "log", "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not (self.root / "docker.sock").exists() or not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = (self.root / "log").read_text(errors="replace").strip().splitlines()[-1:]
                self.stop()
                return tail[0] if tail else "dockerd ended"
            time.sleep(0.2)
        return None

    def answers(self):
        argv = ["docker", "-H", self.host, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # What it leaves mounted would keep its folder from being removed.
        subprocess.run(["umount", f"{self.root}/exec/netns/default"], capture_output=True, check=False)


def enter():
    """Whether a docker with a swarm runs here. Else all begins anew in a network of its own, where no other docker's ports
    are in the way."""
    for program in ("docker", "git", "busybox"):
        if not shutil.which(program):
            skip(f"needs {program}")
    if os.environ.get(OWN):
        subprocess.run(["busybox", "ifconfig", "lo", "127.0.0.1", "up"], check=True)
        return False
    running = info()
    if running and running["Swarm"]["LocalNodeState"] == "active":
        return True
    if os.getuid() != 0 or not shutil.which("dockerd") or not shutil.which("unshare"):
        skip("no docker with a swarm runs here, and none can be started")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0:
        skip("no docker with a swarm runs here, and none can have a network of its own")
    os.environ[OWN] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


def start(folder):
    """A daemon of our own, with a swarm."""
    daemon = Daemon(folder)
    why = daemon.start()
    if why:
        skip(f"dockerd does not run here: {why}")
    os.environ["DOCKER_HOST"] = daemon.host
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    return daemon


def make_image(tag="1"):
    """An image of nothing but busybox and the demo's server. There is no registry that it could come from."""
    busybox = shutil.which("busybox")
    if b"statically linked" not in subprocess.run(["file", "-L", busybox], capture_output=True, check=False).stdout:
        linked = subprocess.run(["ldd", busybox], capture_output=True, check=False)
        if linked.returncode == 0 and b"not a dynamic" not in linked.stdout + linked.stderr:
            skip("needs a static busybox")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("bin", "tmp", "data", "www"):
            (root / name).mkdir()
        shutil.copy(busybox, root / "bin/busybox")
        for name in ("sh", "sed", "cat", "mkdir", "mv", "touch", "sync", "sleep", "echo"):
            (root / "bin" / name).symlink_to("busybox")
        shutil.copy(HERE.parent / "programs/demo-server", root / "bin/demo-server")
        (root / "bin/demo-server").chmod(0o755)
        (root / "tag").write_text(tag)
        archive = root.parent / f"{root.name}.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".")
        docker("import", "--change", 'ENTRYPOINT ["/bin/demo-server"]', "--change", "ENV PATH=/bin", str(archive), f"{IMAGE}:{tag}")
        archive.unlink()
