#!/usr/bin/env python3
"""Updates a real Keycloak, breaks it, and gets it back.

Three real releases from Maven Central, run by the process deployer: the first is updated to the second with a realm and a
user in it and committed; the third, broken on purpose (it starts, migrates the database, and never answers where it should),
is rolled back. Realm and user must be there on the second, which must not see any trace of the third in its database.

Then the second is started on the data that the third left, as a rollback of the version alone would do it. Keycloak does not refuse
that (tried: every pair of 22.0.5 to 26.7.3 starts); it says that the state of its migration is possibly incorrect. That line is what
tells the two rollbacks apart.

Skipped by name without Java 17 or the downloads. `CC_WARM` names the program under test.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

FIRST, SECOND, BROKEN = "25.0.6", "26.4.7", "26.7.3"
CENTRAL = "https://repo1.maven.org/maven2/org/keycloak/keycloak-quarkus-dist"
CACHE = pathlib.Path(os.environ.get("CC_WARM_CACHE", pathlib.Path.home() / ".cache" / "cc-warm"))
UID = 471147
REALM, USER = "lighthouse", "keeper"


def skip(why):
    print(f"skipped: keycloak: {why}")
    sys.exit(0)


def check(what, condition, evidence=""):
    if not condition:
        print(f"FAILED: {what}\n{evidence}")
        print("count: 0 passed, 1 failed")
        sys.exit(1)
    print(f"  ok: {what}", flush=True)
    check.passed += 1


check.passed = 0


def java_version():
    if not shutil.which("java"):
        return None
    text = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', text)
    return int(found[1]) if found else None


def fetch(version):
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"keycloak-{version}.zip"
    if not path.exists():
        partial = path.with_suffix(".part")
        try:
            with urllib.request.urlopen(f"{CENTRAL}/{version}/keycloak-quarkus-dist-{version}.zip", timeout=60) as answer:
                with open(partial, "wb") as file:
                    shutil.copyfileobj(answer, file)
        except OSError as error:
            skip(f"keycloak {version} cannot be fetched: {error}")
        partial.rename(path)
    return path


def unpack(version, into):
    with zipfile.ZipFile(fetch(version)) as archive:
        archive.extractall(into)
    home = into / f"keycloak-{version}"
    (home / "bin" / "kc.sh").chmod(0o755)
    return home


def free_port():
    """Below those that the kernel gives to connections, of which one could have it before Keycloak does."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def git(repo, *args):
    environment = {"PATH": os.environ["PATH"], "HOME": str(repo), "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "Maintainer", f"GIT_{who}_EMAIL": "m@example.org"}
    subprocess.run(["git", "-C", repo, "-c", "init.defaultBranch=main", *args], check=True, env=environment, capture_output=True)


def publish(repo, version, upstream, options=""):
    (repo / "Procfile").write_text(
        f"web: ${{KC_HOMES}}/keycloak-{upstream}/bin/kc.sh start-dev --http-host=127.0.0.1 --http-port=${{PORT}}"
        f" '--db-url=jdbc:h2:file:${{DATA_DIR}}/keycloak;NON_KEYWORDS=VALUE;AUTO_SERVER=FALSE' --db-username=sa --db-password=password"
        f" {options}\n"
    )
    (repo / "Volumes").write_text("data: DATA_DIR\n")
    (repo / ".env.sample").write_text("PORT=\nKC_HOMES=\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", f"{version}+{upstream}")
    git(repo, "tag", "-a", "-m", "release", f"{version}+{upstream}")


class Keycloak:
    """The admin's view of the server at `port`."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def call(self, method, path, body=None, token=None, form=False):
        headers = {}
        data = None
        if body is not None:
            data = urllib.parse.urlencode(body).encode() if form else json.dumps(body).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def token(self):
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        return json.loads(self.call("POST", "/realms/master/protocol/openid-connect/token", form, form=True))["access_token"]

    def make_realm_and_user(self):
        token = self.token()
        self.call("POST", "/admin/realms", {"realm": REALM, "enabled": True}, token)
        self.call("POST", f"/admin/realms/{REALM}/users", {"username": USER, "enabled": True}, token)

    def users(self):
        return [user["username"] for user in json.loads(self.call("GET", f"/admin/realms/{REALM}/users", token=self.token()))]

    def version(self):
        return json.loads(self.call("GET", "/admin/serverinfo", token=self.token()))["systemInfo"]["version"]


def main():
    java = java_version()
    if java is None or java < 17:
        skip("needs Java 17 or newer")
    program = os.environ["CC_WARM"]
    sandbox = pathlib.Path(tempfile.mkdtemp(prefix="cc-warm-keycloak-"))
    sandbox.chmod(0o755)
    homes = sandbox / "homes"
    for version in (FIRST, SECOND, BROKEN):
        unpack(version, homes)
    root = os.getuid() == 0
    if root:
        for folder, _, files in os.walk(homes):
            for name in [folder] + [os.path.join(folder, file) for file in files]:
                os.chown(name, UID, UID)
    port = free_port()
    keycloak = Keycloak(port)
    repo = sandbox / "recipes" / "keycloak"
    repo.mkdir(parents=True)
    git(repo, "init", "-q")
    publish(repo, "1.0.0", FIRST)

    config = sandbox / "config.json"
    url = f"http://127.0.0.1:{port}/realms/master"
    config.write_text(json.dumps({
        "format": 1, "stateDir": str(sandbox / "state"), "disk": {"reserve": 0},
        "apps": {"keycloak": {
            "recipe": str(repo), "domain": "login.example.org",
            "deployer": {"process": {"user": str(UID)} if root else {}},
            "env": {"PORT": str(port), "KC_HOMES": str(homes), "JAVA_HOME": os.environ.get("JAVA_HOME", ""),
                    "KEYCLOAK_ADMIN": "admin", "KEYCLOAK_ADMIN_PASSWORD": "admin"},
            "health": {"probes": [{"http": {"url": url, "body": '"realm":"master"'}}],
                       "successes": 2, "soak": "3s", "deadline": "600s"},
        }},
    }))

    def run(command, want, *more):
        argv = [program, "--config", str(config), command, "keycloak", *more]
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True)
        evidence = f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}"
        check(f"`cc-warm {command}` exits with {want} (after {time.monotonic() - began:.0f} s)", done.returncode == want, evidence)
        return done.stdout

    try:
        print("a first deployment of", FIRST)
        run("update", 0)
        check(f"{FIRST} answers", keycloak.version() == FIRST)
        keycloak.make_realm_and_user()
        check("realm and user are there", USER in keycloak.users())

        print("an update to", SECOND)
        publish(repo, "1.1.0", SECOND)
        print(run("update", 0), end="")
        check(f"{SECOND} answers", keycloak.version() == SECOND)
        check("realm and user are there", USER in keycloak.users())

        print("a broken", BROKEN, "that migrates and never answers where it should")
        publish(repo, "1.2.0", BROKEN, "--http-relative-path=/elsewhere")
        settings = json.loads(config.read_text())
        settings["apps"]["keycloak"]["health"]["deadline"] = "120s"
        config.write_text(json.dumps(settings))
        print(run("update", 11), end="")
        check(f"{SECOND} answers again", keycloak.version() == SECOND)
        check("realm and user are there", USER in keycloak.users())
        run("update", 0)
        check("it is not tried again", keycloak.version() == SECOND)
        logs = sandbox / "state/process/apps/keycloak"
        said = "".join(path.read_text(errors="replace") for path in logs.rglob("log*") if path.is_file())
        check("it sees nothing of the newer migration", "Possibly incorrect state of migration" not in said, said[-4000:])

        print("a rollback of the version alone, on the data that", BROKEN, "left")
        volume = next((sandbox / "state/process/volumes").glob("*_data"))
        failed = next(volume.glob(".cc-warm-failed-*"))
        alone = sandbox / "alone"
        subprocess.run(["cp", "-a", failed, alone], check=True)
        other = free_port()
        environment = {"PATH": os.environ["PATH"], "HOME": str(sandbox), "JAVA_HOME": os.environ.get("JAVA_HOME", "")}
        with open(sandbox / "alone.log", "w+") as log:
            server = subprocess.Popen(
                [homes / f"keycloak-{SECOND}" / "bin" / "kc.sh", "start-dev", "--http-host=127.0.0.1", f"--http-port={other}",
                 f"--db-url=jdbc:h2:file:{alone}/keycloak;NON_KEYWORDS=VALUE;AUTO_SERVER=FALSE", "--db-username=sa",
                 "--db-password=password"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                **({"user": UID, "group": UID, "extra_groups": []} if root else {}))
            wait_for_end_or_answer(server, other, 120)
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            log.seek(0)
            said = log.read()
        line = next((line for line in said.splitlines() if "Possibly incorrect state of migration" in line), None)
        check(f"{SECOND} finds itself on data that {BROKEN} migrated", line is not None, said[-4000:])
        print("    it says:", line)
    finally:
        stop(program, config, sandbox)
    print(f"count: {check.passed} passed, 0 failed")


def wait_for_end_or_answer(server, port, seconds):
    """True once it answers, False once it ended or never answered."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/realms/master", timeout=5) as answer:
                if answer.status == 200:
                    return True
        except OSError:
            pass
        try:
            server.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    return False


def stop(program, config, sandbox):
    """Leaves nothing running and nothing behind."""
    if os.environ.get("CC_WARM_KEEP"):
        print("kept:", sandbox)
        return
    subprocess.run([program, "--config", str(config), "undeploy", "keycloak", "--wait"], capture_output=True)
    shutil.rmtree(sandbox, ignore_errors=True)


if __name__ == "__main__":
    main()
