"""A host with one app: its recipe, its `.env`, its state folder, and the program under test."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from engine import HERE, IMAGE, docker

# What takes longer hangs. Machines that run tests may be slow.
LONGEST = 400
CC_WARM = os.environ.get("CC_WARM", "")

COMPOSE = """version: "3.8"
services:
  app:
    image: {image}
    environment:
      - FORMAT={format}
      - BROKEN={broken}
      - GREETING=${{GREETING}}
      - PORT=${{PORT}}
    networks: [host]
{volumes}{secrets}    stop_grace_period: 3s
    deploy:
      labels:
        - "coop-cloud.${{STACK_NAME}}.version={version}"
        - "coop-cloud.${{STACK_NAME}}.timeout=${{TIMEOUT:-60}}"
      restart_policy:
        delay: 1s
      update_config:
        order: stop-first
        failure_action: {failure_action}
{services}networks:
  host:
    external: true
"""
HELPER = """  helper:
    image: {image}
    entrypoint: ["/bin/sleep", "100000"]
    stop_grace_period: 1s
"""


class Failed(Exception):
    """A check that does not hold."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Running:
    """The program, while something else happens."""

    def __init__(self, world, argv, environment):
        self.world, self.argv = world, argv
        self.log = open(world.root / "running.log", "w+")
        argv = [CC_WARM, "--config", str(world.configure()), *argv]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=world.environment(**environment)
        )

    def said(self):
        return (self.world.root / "running.log").read_text()

    def is_halted(self):
        if self.process.poll() is not None:
            raise Failed(f"it ended, and did not halt: {self.said()}")
        return ") T " in pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()

    def goes_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self, exit):
        code = self.process.wait(LONGEST)
        if code != exit:
            raise Failed(f"{' '.join(self.argv)}: exit {code}, not {exit}:\n{self.said()}\n{self.world.evidence()}")
        return self.said()


class World:
    def __init__(self, folder, name, stateful=True, secrets=True, **app):
        self.name, self.domain = name, f"{name}.swarm.test"
        self.stack = self.domain.replace(".", "_")
        self.root = pathlib.Path(folder) / name
        self.servers = self.root / "servers"
        (self.servers / "default").mkdir(parents=True)
        self.remote = self.root / "recipes" / name
        self.remote.mkdir(parents=True)
        self.git("init", "--quiet")
        self.port, self.secrets, self.stateful = free_port(), secrets, stateful
        self.faults, self.pace = self.root / "faults", None
        self.env = self.servers / "default" / f"{self.domain}.env"
        self.programs = self.root / "bin"
        self.programs.mkdir()
        shutil.copy(HERE.parent / "programs/abra", self.programs / "abra")
        self.sent = self.root / "alerts"
        self.sent.mkdir()
        keep = self.programs / "keep-alert"
        keep.write_text(f'#!/bin/sh\ncat >"{self.sent}/$(date +%s%N)-$$"\n')
        keep.chmod(0o755)
        self.app = {
            "recipe": str(self.remote), "domain": self.domain, "stateful": stateful, "deployer": {"abra": {}},
            "env": {"PORT": str(self.port)},
            "health": {
                "probes": [{"http": {"url": f"http://127.0.0.1:{self.port}/health", "body": "^ok"}}],
                "successes": 1, "interval": "500ms", "soak": "1s", "deadline": "5m",
            },
        } | app

    # The recipe.

    def git(self, *argv):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{who}_NAME": "Maintainer", f"GIT_{who}_EMAIL": "m@example.org"}
        argv = ["git", "-C", self.remote, "-c", "init.defaultBranch=main", *argv]
        return subprocess.run(argv, check=True, env=environment, capture_output=True, text=True).stdout.strip()

    def publish(
        self, version, format=1, broken="", volume="data", helper=False, secrets=("key",), image=f"{IMAGE}:1", label=None,
        annotated=True, failure_action="pause", mounts=(), volumes=(), named="", files="",
    ):
        data = f"    volumes:\n      - {volume}:/data\n" if self.stateful else ""
        data += "".join(f"      - {mount}\n" for mount in mounts)
        secrets = secrets if self.secrets else ()
        used = "    secrets:\n" + "".join(f"      - {name}\n" for name in secrets) if secrets else ""
        text = COMPOSE.format(
            image=image, format=format if self.stateful else 0, broken=broken, volumes=data, secrets=used, version=label or version,
            services=HELPER.format(image=image) if helper else "", failure_action=failure_action,
        )
        if self.stateful:
            text += f"volumes:\n  {volume}:\n" + (f"    name: {named}\n" if named else "")
            text += "".join(f"  {name}:\n" for name in volumes)
        text += files
        if secrets:
            text += "secrets:\n"
            for name in secrets:
                text += f"  {name}:\n    external: true\n    name: ${{STACK_NAME}}_{name}_${{SECRET_{name.upper()}_VERSION}}\n"
        (self.remote / "compose.yml").write_text(text)
        lines = [f"TYPE={self.name}", "DOMAIN=example.org", "PORT=1", 'GREETING="hello" # a word', "SECRET_KEY_VERSION=v1"]
        lines += [f"SECRET_{name.upper()}_VERSION=v1" for name in secrets if name != "key"]
        (self.remote / ".env.sample").write_text("\n".join(lines) + "\n")
        self.git("add", "-A")
        self.git("commit", "-qm", version, "--allow-empty")
        self.git("tag", *(["-a", "-m", version] if annotated else []), version)

    def commit_of(self, version):
        return self.git("rev-parse", f"{version}^{{commit}}")

    # The programs.

    def configure(self):
        path = self.root / "config.json"
        path.write_text(json.dumps({
            "format": 1, "stateDir": str(self.root / "state"), "serversDir": str(self.servers), "apps": {self.name: self.app},
            "alerts": {"kept": {"command": {"argv": [str(self.programs / "keep-alert")]}}}, "disk": {"reserve": 1 << 20},
        }))
        return path

    def environment(self, **more):
        names = ("DOCKER_HOST", "HOME")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {"PATH": f"{self.programs}:{os.environ['PATH']}", "ABRA_STANDIN_FAULTS": str(self.faults)}
        return environment | more

    def run(self, *argv, exit=0, environment={}):
        argv = [CC_WARM, "--config", str(self.configure()), *argv]
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment(**environment), timeout=LONGEST)
        self.took = time.monotonic() - began
        self.said = done.stdout + done.stderr
        if done.returncode != exit:
            raise Failed(f"{' '.join(argv)}: exit {done.returncode}, not {exit}:\n{self.said}\n{self.evidence()}")
        return self.said

    def start(self, *argv, **environment):
        return Running(self, argv, environment)

    def update(self, exit=0, **environment):
        said = self.run("update", self.name, exit=exit, environment=environment)
        if self.pace is None:
            # A bad version is waited for as long as the deadline is: by how fast this machine is, several times what a
            # good one takes.
            self.pace = self.took
            self.deadline(3)
        return said

    def deadline(self, times):
        self.app["health"]["deadline"] = f"{max(10, round(times * self.pace))}s"

    def abra(self, *argv):
        """As an operator who has an `ABRA_DIR` of their own."""
        folder = self.root / "operator"
        (folder / "recipes").mkdir(parents=True, exist_ok=True)
        if not (folder / "servers").exists():
            (folder / "servers").symlink_to(self.servers)
        clone = folder / "recipes" / self.name
        if not clone.exists():
            subprocess.run(["git", "clone", "-q", self.remote, clone], check=True)
        subprocess.run(["git", "-C", clone, "fetch", "-q", "--tags", "--force"], check=True)
        done = subprocess.run(
            [self.programs / "abra", *argv, "-n"], capture_output=True, text=True, env=self.environment(ABRA_DIR=str(folder))
        )
        if done.returncode != 0:
            raise Failed(f"abra {' '.join(argv)}: {done.stderr}")

    # What is the case.

    def services(self):
        while True:
            ids = docker("service", "ls", "-q", "--filter", f"label=com.docker.stack.namespace={self.stack}").split()
            rows = json.loads(docker("service", "inspect", *ids, check=False)) if ids else []
            # One that was removed in between is looked for again.
            if len(rows) == len(ids):
                return {row["Spec"]["Name"].removeprefix(f"{self.stack}_"): row for row in rows}

    def runs(self):
        """The version label of what runs, and whether it was deployed in chaos mode."""
        app = self.services().get("app")
        if app is None:
            return None
        labels = app["Spec"]["Labels"]
        return labels[f"coop-cloud.{self.stack}.version"]

    def label(self, name):
        return self.services()["app"]["Spec"]["Labels"].get(f"coop-cloud.{self.stack}.{name}")

    def known_good(self):
        return json.loads(self.run("status", "--json"))["apps"][0]["knownGood"]["id"]

    def volume(self, name="data"):
        found = docker("volume", "inspect", f"{self.stack}_{name}", check=False)
        rows = json.loads(found or "[]")
        return pathlib.Path(rows[0]["Mountpoint"]) if rows else None

    def notes(self):
        return (self.volume() / "notes").read_text()

    def write(self, text):
        with open(self.volume() / "notes", "a") as file:
            file.write(text + "\n")

    def alerts(self):
        return [json.loads(path.read_text()) for path in sorted(self.sent.iterdir())]

    def env_line(self, key):
        found = re.search(rf"^{key}=(.*)$", self.env.read_text(), re.MULTILINE)
        return found[1] if found else None

    def wait(self, what, condition, seconds=LONGEST):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Failed(f"this did not come to be within {seconds} s: {what}\n{self.evidence()}")
            time.sleep(0.1)

    def answers(self):
        argv = ["busybox", "wget", "-q", "-T", "2", "-O", "-", f"http://127.0.0.1:{self.port}/health"]
        return subprocess.run(argv, capture_output=True, text=True).stdout

    def evidence(self):
        parts = [docker("stack", "ps", "--no-trunc", self.stack, check=False), self.env.read_text() if self.env.exists() else "no .env"]
        return "\n".join(parts)

    def clean(self):
        docker("stack", "rm", self.stack, check=False)
        label = f"label=com.docker.stack.namespace={self.stack}"
        end = time.monotonic() + 60
        while docker("ps", "-aq", "--filter", label) + docker("network", "ls", "-q", "--filter", label):
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        names = docker("volume", "ls", "-q", "--filter", label).split()
        names += [name for name in docker("volume", "ls", "-q").split() if name.startswith(f"{self.stack}_")]
        for name in set(names):
            docker("volume", "rm", name, check=False)
        for kind in ("secret", "config"):
            for name in docker(kind, "ls", "--format", "{{.Name}}").split():
                if name.startswith(f"{self.stack}_"):
                    docker(kind, "rm", name, check=False)
        tags = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"cc-warm.invalid/*/{self.name}").split()
        for tag in tags:
            docker("image", "rm", "--no-prune", tag, check=False)
