"""What is seen to happen on a real swarm. Each case has a host of its own; its name is the claim."""

import json
import pathlib
import shutil
import signal
import subprocess
import time

import engine
from engine import IMAGE, docker
from world import Failed, World

CASES = []


def case(**world):
    def add(function):
        CASES.append((function.__name__.replace("_", " "), function, world))
        return function

    return add


def check(what, condition, evidence=""):
    if not condition:
        raise Failed(f"{what}\n{evidence}")


def same(what, found, wanted):
    check(what, found == wanted, f"found:  {found!r}\nwanted: {wanted!r}")


@case()
def updates_in_a_row_are_its_own_chaos_deployments_and_a_bad_one_goes_back_with_its_data(w):
    w.publish("1.0.0+1")
    w.update()
    same("the first deployment is of the highest version", w.runs(), "1.0.0+1")
    same("abra made the .env", w.env_line("DOMAIN"), w.domain)
    same("what Nix says is in it", w.env_line("PORT"), str(w.port))
    same("the rest of it stays", w.env_line("GREETING"), '"hello" # a word')
    same("it is for root alone", w.env.stat().st_mode & 0o777, 0o600)
    check("its secret was generated", f"{w.stack}_key_v1" in docker("secret", "ls", "--format", "{{.Name}}"))
    check("nothing to do is said", "up to date at 1.0.0+1" in w.update())
    w.write("mine")
    # Lightweight tags stop abra's own deployments.
    for version, format in [("1.1.0+1", 2), ("1.2.0+1", 2)]:
        w.publish(version, format=format, annotated=False)
        w.update()
        same("it runs", w.runs(), version)
        same("from the commit of its tag", w.label("chaos-version"), w.commit_of(version)[:8])
        same("and the .env names it", w.env_line("TYPE"), f"{w.name}:{version}")
    same("the data went forward", w.notes(), "v2:mine\n")
    w.write("more")
    w.publish("1.3.0+1", format=3, broken="1", helper=True)
    said = w.update(exit=11)
    check("why it went back is said", "answered 404" in said, said)
    same("the prior version runs", w.runs(), "1.2.0+1")
    same("on its data", w.notes(), "v2:mine\nmore\n")
    same("the .env names it", w.env_line("TYPE"), f"{w.name}:1.2.0+1")
    same("what only the bad version had is gone", list(w.services()), ["app"])
    check("the operator was told", any("went back" in alert["title"] for alert in w.alerts()), w.alerts())
    check("it is not tried again", "up to date at 1.2.0+1" in w.update())
    check("doctor finds nothing bad", "BAD" not in w.run("doctor"), w.said)


@case()
def what_operators_do_by_hand_is_adopted_left_alone_or_taken_over_again(w):
    w.publish("1.0.0+1")
    w.app["env"] = {}
    w.app["health"]["probes"] = []
    w.app |= {"stateful": False, "update": {"unmanaged": ["data"]}}
    w.abra("app", "new", w.name, f"--domain={w.domain}", "--server=default", "-S")
    w.env.write_text(w.env.read_text().replace("PORT=1", f"PORT={w.port}"))
    w.abra("app", "deploy", w.domain)
    check("what runs is adopted", "adopted" in w.update())
    same("in no chaos mode", w.label("chaos"), "false")
    mode = w.env.stat()
    w.publish("1.1.0+1")
    w.publish("1.2.0+1")
    w.abra("app", "deploy", w.domain, "1.1.0+1", "-f")
    check("an upgrade by hand is adopted", "adopted: 1.1.0+1" in w.update(), w.said)
    w.update()
    same("and updated in the next run", w.runs(), "1.2.0+1")
    same("its .env keeps its owner and mode", [w.env.stat().st_mode, w.env.stat().st_uid], [mode.st_mode, mode.st_uid])
    w.abra("app", "deploy", w.domain, "1.0.0+1", "-f")
    check("a downgrade is adopted", "adopted: 1.0.0+1" in w.update(), w.said)
    check("and what lies above is not tried again", "up to date at 1.0.0+1" in w.update(), w.said)
    w.abra("app", "undeploy", w.domain)
    check("taken down, it is left alone", "somebody undeployed it" in w.update(), w.said)
    same("nothing runs", w.runs(), None)
    w.run("resume", w.name)
    check("taken over again, it runs", "started again" in w.update(), w.said)
    same("the version that ran", w.runs(), "1.0.0+1")
    w.abra("app", "deploy", w.domain, "-C", "-f")
    (w.root / "operator/recipes" / w.name / "stray").write_text("x")
    w.abra("app", "deploy", w.domain, "-C", "-f")
    said = w.update(exit=10)
    check("a deployment of no commit is unknown, and held", "in no commit" in said, said)


@case()
def what_ran_last_is_not_started_on_data_that_another_version_may_have_written(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    w.run("snapshot", w.name)
    w.publish("2.0.0+1", format=2)
    w.abra("app", "undeploy", w.domain)
    w.update()
    w.run("resume", w.name)
    check("what nobody else touched is started again", "started again: 1.0.0+1" in w.update(), w.said)
    w.abra("app", "deploy", w.domain, "2.0.0+1", "-f")
    w.wait("the data goes on", lambda: w.notes().startswith("v2:"))
    w.abra("app", "undeploy", w.domain)
    w.wait("it is gone", lambda: not w.services())
    check("taken down, it is left alone", "somebody undeployed it" in w.update(), w.said)
    told = [alert for alert in w.alerts() if alert["kind"] == "down-by-hand"][-1]
    check("with what brings it back", "2.0.0+1" in json.dumps(told) and "restore" in json.dumps(told), told)
    said = w.run("resume", w.name, exit=24)
    check("it is not started, and why is said", "names 2.0.0+1, which somebody deployed since" in said, said)
    check("with what brings it back", f"cc-warm adopt {w.name}" in said and f"cc-warm restore {w.name}" in said, said)
    check("nor by the next update", "somebody undeployed it" in w.update(), w.said)
    w.run("restore", w.name, "--yes")
    same("a restore brings the version back", w.runs(), "1.0.0+1")
    same("and its data", w.notes(), "mine\n")


@case()
def an_app_that_the_configuration_moved_is_held_where_it_is(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    moved = f"deployed as stack `{w.stack}` on server `default`, and the configuration says stack `{w.stack}_b` on server `default`"
    w.app["deployer"] = {"abra": {"stack": f"{w.stack}_b"}}
    check("where it is, and where it would be, is said", moved in w.update(exit=10), w.said)
    check("and told", moved in json.dumps(w.alerts(), ensure_ascii=False), w.alerts())
    check("and shown", moved in w.run("status", w.name), w.said)
    w.abra("app", "undeploy", w.domain)
    w.wait("it is gone", lambda: not w.services())
    check("it is not started on empty volumes", moved in w.update(exit=10), w.said)
    w.app["deployer"] = {"abra": {}}
    check("set back, it is what it was", "somebody undeployed it" in w.update(), w.said)
    w.app["deployer"] = {"abra": {"stack": f"{w.stack}_b"}}
    check("nor by resume", moved in w.run("resume", w.name, exit=24), w.said)
    w.app["deployer"] = {"abra": {}}
    w.run("resume", w.name)
    check("where it was, it is started again", "started again: 1.0.0+1" in w.update(), w.said)
    same("on its data", w.notes(), "mine\n")


@case()
def somebody_who_works_on_it_in_mid_update_is_let_be(w):
    w.publish("1.0.0+1")
    w.update()
    w.deadline(8)
    w.publish("1.1.0+1", broken="wait")
    running = w.start("update", w.name)
    w.wait("the new version is there", lambda: w.runs() == "1.1.0+1" and "waiting until it is healthy" in running.said())
    docker("service", "update", "--detach", "--env-add", "MENDED=1", f"{w.stack}_app")
    (w.volume() / "go").touch()
    said = running.end(exit=1)
    check("it lets go", "changed by someone else" in said, said)
    same("what runs is left as it is", w.runs(), "1.1.0+1")
    check("with the change", "MENDED=1" in json.dumps(w.services()["app"]["Spec"]))


@case()
def an_upgrade_while_a_snapshot_or_a_restore_is_prepared_is_let_be(w):
    w.publish("1.0.0+1")
    w.update()
    w.run("snapshot", w.name)
    kept = w.known_good()
    for version, words in (("1.1.0+1", ["snapshot", w.name]), ("1.2.0+1", ["restore", w.name, "--yes"])):
        w.publish(version)
        running = w.start(*words, CC_WARM_FAULT="journal.begun.after=stop")
        w.wait("it halts", running.is_halted)
        w.abra("app", "deploy", w.domain, version, "-f")
        running.goes_on()
        said = running.end(exit=1)
        check("it lets go", "changed by someone else" in said, said)
        same("what was deployed runs", w.runs(), version)
        same("the known-good is what it was", w.known_good(), kept)
        check("it is adopted", f"adopted: {version}" in w.update(), w.said)


@case()
def a_way_back_that_finds_another_change_lets_be_too(w):
    w.publish("1.0.0+1")
    w.update()
    w.deadline(8)
    w.publish("1.1.0+1", broken="wait")
    running = w.start("update", w.name)
    w.wait("the new version is there", lambda: w.runs() == "1.1.0+1" and "waiting until it is healthy" in running.said())
    docker("service", "update", "--detach", "--env-add", "MENDED=1", f"{w.stack}_app")
    said = running.end(exit=1)
    check("it lets go", "changed by someone else" in said, said)
    check("with the change", "MENDED=1" in json.dumps(w.services()["app"]["Spec"]))


@case()
def only_secrets_that_are_new_are_generated(w):
    w.publish("1.0.0+1")
    w.update()
    old = docker("secret", "inspect", f"{w.stack}_key_v1", "--format", "{{.ID}}")
    w.app["env"]["SECRET_EXTRA_VERSION"] = "v1"
    w.publish("1.1.0+1", secrets=("key", "extra"))
    w.update()
    same("the new version runs", w.runs(), "1.1.0+1")
    check("with its new secret", f"{w.stack}_extra_v1" in docker("secret", "ls", "--format", "{{.Name}}"))
    same("and the old one", docker("secret", "inspect", f"{w.stack}_key_v1", "--format", "{{.ID}}"), old)
    w.app["env"]["SECRET_KEY_VERSION"] = "v2"
    said = w.update(exit=10)
    check("another of the same purpose is no new one", f"{w.stack}_key_v2" in said and "data may depend" in said, said)
    w.app["env"]["SECRET_KEY_VERSION"] = "v1"
    w.publish("1.2.0+1", secrets=("key", "extra", "token"))
    said = w.update(exit=10)
    check("one without a version is held", "SECRET_TOKEN_VERSION" in said, said)
    same("nothing was touched", w.runs(), "1.1.0+1")


@case()
def data_whose_secret_is_lost_is_never_started_with_another(w):
    w.publish("1.0.0+1")
    w.update()
    # The next version does not use the secret, so that it can be taken away while that version is waited for.
    w.publish("1.1.0+1", format=2, broken="1", secrets=())
    running = w.start("update", w.name)
    w.wait("the new version is there", lambda: w.runs() == "1.1.0+1" and "waiting until it is healthy" in running.said())
    docker("secret", "rm", f"{w.stack}_key_v1")
    docker("secret", "create", f"{w.stack}_key_v1", "-", stdin="another")
    said = running.end(exit=12)
    check("the same name is not the same secret", "another one now, of the same name" in said, said)
    same("it stays down", w.runs(), None)
    same("with the data of its version", (w.volume() / "format").read_text(), "1\n")


@case(stateful=False)
def a_swarm_that_rolls_back_by_itself_is_no_success(w):
    w.publish("1.0.0+1")
    w.update()
    w.publish("1.1.0+1", broken="crash", failure_action="rollback")
    said = w.update(exit=11)
    check("the version is to blame", "given up by the swarm" in said or "fails again" in said, said)
    same("the prior version runs", w.runs(), "1.0.0+1")
    same("and the .env names it", w.env_line("TYPE"), f"{w.name}:1.0.0+1")
    # The same by the operator's hand: the label went back, and the .env did not.
    w.abra("app", "deploy", w.domain, "1.1.0+1", "-f", "-c")
    w.wait("the swarm has put it back", lambda: w.runs() == "1.0.0+1")
    same("the .env names what failed", w.env_line("TYPE"), f"{w.name}:1.1.0+1")
    check("what runs is what cc-warm deployed", "up to date at 1.0.0+1" in w.update(), w.said)
    (w.root / "state/abra" / w.name / "deployed.json").unlink()
    said = w.update(exit=10)
    check("without its own word, what disagrees is unknown, and held", "its `.env` says 1.1.0+1" in said, said)


@case()
def what_cannot_be_prepared_costs_no_downtime(w):
    w.publish("1.0.0+1")
    w.update()
    before = w.services()["app"]["ID"]
    for what, version, recipe, exit, words in [
        ("an image that is not to be had", "1.1.0+1", {"image": "cc-warm-nothing.invalid/none:1"}, 1, ["is not to be had"]),
        ("a label that is not the tag's", "1.2.0+1", {"label": "1.1.0+1"}, 1, ["could not be told what runs"]),
        ("a volume that is renamed", "1.3.0+1", {"volume": "store"}, 10, ["store", "data"]),
        ("a bind mount", "1.4.0+1", {"mounts": ("/tmp:/host",)}, 10, ["/tmp"]),
        ("a volume with another name in docker", "1.4.1+1", {"named": "another_app_data"}, 10, ["another_app_data"]),
        (
            "a file of the host", "1.4.2+1", {"files": "configs:\n  host:\n    file: /etc/hostname\n"}, 10,
            ["/etc/hostname as config host"],
        ),
    ]:
        w.publish(version, **recipe)
        said = w.update(exit=exit)
        check(what, all(word in said for word in words), said)
    w.publish("1.5.0+1")
    other = docker("run", "-d", "--network", "host", "-v", f"{w.stack}_data:/x", "--entrypoint", "/bin/sleep", f"{IMAGE}:1", "1000")
    try:
        said = w.update(exit=10)
        check("a volume that somebody else mounts", "is not of this stack" in said, said)
    finally:
        docker("rm", "-f", other)
    same("all the time it ran", (w.services()["app"]["ID"], w.runs()), (before, "1.0.0+1"))


@case()
def an_env_that_cannot_be_written_is_found_out_before_the_stop(w):
    w.publish("1.0.0+1")
    w.update()
    # As in a unit that may write to abra's folder, and not to where a link in it leads.
    real = w.root / "infra"
    real.mkdir()
    w.env.rename(real / w.env.name)
    w.env.symlink_to(real / w.env.name)
    subprocess.run(["mount", "--bind", real, real], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", real], check=True)
        w.publish("1.1.0+1")
        before = w.services()["app"]["Version"]
        said = w.update(exit=1)
        check("what is to be done is said", f"add `{real}` to their `ReadWritePaths`" in said, said)
        same("nothing was touched", w.services()["app"]["Version"], before)
        check("doctor says it, too", f"may not write to `{real}`" in w.run("doctor", exit=1), w.said)
    finally:
        subprocess.run(["umount", real], check=True)
    w.update()
    same("once it may be written, the update goes on", w.runs(), "1.1.0+1")
    check("and the link is one still", w.env.is_symlink() and "1.1.0+1" in w.env.read_text())


@case(stateful=False, secrets=False)
def abra_is_not_believed(w):
    w.publish("1.0.0+1")
    w.update()
    w.publish("1.1.0+1")
    w.faults.write_text("timeout")
    w.update()
    same("a FATA line after a deployment is no failure", w.runs(), "1.1.0+1")
    w.publish("1.2.0+1")
    w.faults.write_text("fail-deploy")
    said = w.update(exit=11)
    check("one instead of it is", "fail-deploy" in said, said)
    # The prior version could not be deployed either, by the same fault: it was never away.
    same("what ran runs", w.runs(), "1.1.0+1")


@case()
def an_abra_that_hangs_is_killed_and_asked_again(w):
    w.publish("1.0.0+1")
    w.update()
    w.publish("1.1.0+1")
    w.faults.write_text("hang-deploy-once")
    # As in production, the patience is over before the first call is given up.
    running = w.start("update", w.name, CC_WARM_TEST_ABRA_SECONDS="3", CC_WARM_PATIENCE_MS="1000")
    w.wait("it is killed", lambda: "did not end within 3 s and was killed" in running.said())
    running.end(exit=0)
    same("then it is deployed", w.runs(), "1.1.0+1")
    left = [
        path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
        if str(w.programs / "abra").encode() in (path.read_bytes() if path.exists() else b"")
    ]
    same("nothing of it is left", left, [])


@case()
def our_own_full_disk_is_not_waited_for_while_the_app_is_down(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    w.publish("1.1.0+1", format=2)
    # Once is enough: it is not asked again.
    said = w.update(exit=11, CC_WARM_FAULT="abra.announce=enospc")
    check("why is said", "it could not be deployed now" in said and "waiting for the deployer" not in said, said)
    same("it is back", (w.runs(), w.notes()), ("1.0.0+1", "mine\n"))
    w.update()
    same("the version is not to blame", w.runs(), "1.1.0+1")


@case()
def where_docker_does_not_answer_nothing_is_called_absent(w):
    w.publish("1.0.0+1")
    w.update()
    w.publish("1.1.0+1")
    nowhere = f"unix://{w.root}/none.sock"
    said = w.run("update", w.name, exit=14, environment={"DOCKER_HOST": nowhere})
    check("why is said", "docker does not answer" in said, said)
    rows = json.loads(w.run("status", "--json", environment={"DOCKER_HOST": nowhere}))
    same("its state is unknown", rows["apps"][0]["state"], "unknown")
    said = w.run("doctor", exit=14, environment={"DOCKER_HOST": nowhere})
    check("doctor says what to look at", "systemctl status docker" in said, said)
    daemon = engine.Daemon(w.root / "no-swarm")
    why = daemon.start()
    try:
        check("a second dockerd runs", why is None, why)
        said = w.run("update", w.name, exit=14, environment={"DOCKER_HOST": daemon.host})
        check("nor where there is no swarm", "not part of a swarm" in said, said)
    finally:
        daemon.stop()
    same("it ran all the time", w.runs(), "1.0.0+1")


@case()
def a_changed_environment_is_laid_in_place_and_goes_back_with_the_rest(w):
    w.publish("1.0.0+1")
    w.update()
    w.env.write_text("# of the operator\n" + w.env.read_text())
    w.env.chmod(0o640)
    w.app["env"]["GREETING"] = "good day"
    said = w.update()
    check("a version is updated to itself", "changed environment" in said, said)
    same("in place", w.env.read_text().splitlines()[0], "# of the operator")
    same("with its comment", w.env_line("GREETING"), "'good day' # a word")
    same("and mode", w.env.stat().st_mode & 0o777, 0o640)
    check("it is used", "GREETING=good day" in json.dumps(w.services()["app"]["Spec"]))
    # One that breaks it: the port that is probed is another.
    w.app["env"]["PORT"] = str(w.port + 1)
    w.update(exit=11)
    same("the .env before is back", w.env_line("PORT"), str(w.port))
    same("all of it", w.env_line("GREETING"), "'good day' # a word")
    check("and not tried again", "up to date" in w.update(), w.said)


@case()
def a_pull_is_ended_when_cc_warm_is_asked_to_end(w):
    w.publish("1.0.0+1")
    w.update()
    w.publish("1.1.0+1", image=f"{IMAGE}:2")
    docker_itself, begun = shutil.which("docker"), w.root / "pulls"
    stub = w.programs / "docker"
    stub.write_text(f'#!/bin/sh\nif [ "$1" = pull ]; then echo "$*" >>{begun}; sleep 1000; fi\nexec {docker_itself} "$@"\n')
    stub.chmod(0o755)
    running = w.start("update", w.name)
    w.wait("the pull is under way", begun.exists)
    running.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    said = running.end(exit=25)
    check("it ends at once", time.monotonic() - asked < 60, said)
    check("nothing was begun", "cancelled before anything began" in said, said)
    same("one image was asked for", len(begun.read_text().splitlines()), 1)
    check("no alert", "prepare-failed" not in json.dumps(w.alerts()), w.alerts())
    stub.unlink()
    w.update()
    same("it is updated another time", w.runs(), "1.1.0+1")


@case()
def an_environment_that_names_another_set_of_volumes_is_held(w):
    for name in ("one", "other"):
        (w.remote / f"compose.{name}.yml").write_text(
            f'version: "3.8"\nservices:\n  app:\n    volumes:\n      - {name}:/{name}\nvolumes:\n  {name}:\n'
        )
    w.publish("1.0.0+1")
    w.app["env"]["COMPOSE_FILE"] = "compose.yml:compose.one.yml"
    w.update()
    (w.volume("one") / "rows").write_text("mine")
    w.app["env"]["COMPOSE_FILE"] = "compose.yml:compose.other.yml"
    said = w.update(exit=10)
    check("both volumes are named", "`one` is mounted at app:/one now" in said and "`other` is mounted at nowhere now" in said, said)
    same("nothing was made", w.volume("other"), None)
    # By the operator's hand, in the `.env` itself, too.
    del w.app["env"]["COMPOSE_FILE"]
    w.env.write_text(w.env.read_text().replace("compose.one.yml", "compose.other.yml"))
    check("it is held as well", "`other` is mounted at nowhere now" in w.update(exit=10), w.said)
    w.run("approve", w.name, "1.0.0+1")
    check("until it is approved", "changed environment" in w.update(), w.said)
    same("what was there stays", (w.volume("one") / "rows").read_text(), "mine")


@case()
def a_power_cut_is_settled_from_the_state_folder_alone(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    w.publish("1.1.0+1", format=2)
    w.update(exit=-9, CC_WARM_FAULT="abra.deployed=kill")
    w.wait("the new version migrates the data", lambda: (w.volume() / "format").read_text() == "2\n")
    # Nothing is declared any more, and nothing published.
    w.remote.rename(w.root / "away")
    said = w.run("recover", environment={})
    check("it is settled", "1.0.0+1" in said, said)
    same("the prior version runs", w.runs(), "1.0.0+1")
    same("on its data", w.notes(), "mine\n")
    same("and the .env names it", w.env_line("TYPE"), f"{w.name}:1.0.0+1")
    (w.root / "away").rename(w.remote)
    w.update(exit=-9, CC_WARM_FAULT="journal.snapshotted.after=kill")
    same("cut before the deployment, it is down", w.runs(), None)
    w.run("recover")
    same("and starts again", (w.runs(), w.notes()), ("1.0.0+1", "mine\n"))


@case()
def what_a_stop_that_was_cut_short_left_is_no_deployment_of_somebody_else(w):
    w.publish("1.0.0+1", helper=True)
    w.app["env"] = {}
    w.abra("app", "new", w.name, f"--domain={w.domain}", "--server=default", "-S")
    w.env.write_text(w.env.read_text().replace("PORT=1", f"PORT={w.port}"))
    w.abra("app", "deploy", w.domain)
    check("an operator deployed it", "adopted" in w.update(), w.said)
    w.write("mine")
    w.publish("1.1.0+1", helper=True, format=2, broken="1")
    # The first stop is before the snapshot, the second on the way back.
    for stop in (1, 2):
        w.update(exit=-9, CC_WARM_FAULT=f"abra.stop#{stop}=kill")
        docker("service", "rm", f"{w.stack}_app")
        said = w.run("recover")
        check("it is settled", "1.0.0+1 runs again" in said, said)
        same("the prior version runs", (w.runs(), sorted(w.services())), ("1.0.0+1", ["app", "helper"]))
        same("on its data", w.notes(), "mine\n")


@case(stateful=False, secrets=False)
def images_of_both_versions_are_kept_and_a_tag_that_moved_is_put_back(w):
    tag = f"{IMAGE}:{w.name}"
    docker("tag", f"{IMAGE}:1", tag)
    first = docker("image", "inspect", tag, "--format", "{{.Id}}")
    w.publish("1.0.0+1", image=tag)
    w.update()
    w.publish("1.1.0+1", broken="1", image=f"{IMAGE}:2")
    running = w.start("update", w.name)
    w.wait("the new version is there", lambda: w.runs() == "1.1.0+1" and "waiting until it is healthy" in running.said())
    docker("tag", f"{IMAGE}:2", tag)
    running.end(exit=11)
    same("the prior version runs", w.runs(), "1.0.0+1")
    same("of the image that it had", docker("image", "inspect", tag, "--format", "{{.Id}}"), first)
    kept = docker("image", "ls", "-q", "--no-trunc", f"cc-warm.invalid/*/{w.name}").split()
    check("which has a name of ours", first in kept, kept)
    docker("image", "rm", "--no-prune", tag)


@case()
def a_volume_that_only_the_bad_version_had_is_kept_as_failed_data(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    w.publish("1.1.0+1", format=2, broken="1", mounts=("extra:/extra",), volumes=("extra",))
    said = w.update(exit=10)
    check("it is held", "extra" in said, said)
    w.run("approve", w.name, "1.1.0+1")
    running = w.start("update", w.name)
    w.wait("the new version has its volume", lambda: w.volume("extra") is not None)
    (w.volume("extra") / "photo").write_text("x")
    running.end(exit=11)
    same("the data is what it was", w.notes(), "mine\n")
    places = [w.volume().parent, w.root / "state"] + ([w.volume("extra").parent] if w.volume("extra") else [])
    kept = [path for place in places for path in place.rglob("photo")]
    same("what was in the other volume is kept", [path.read_text() for path in kept], ["x"])
    check("and seen by nobody", all("_data" not in path.parts for path in kept), kept)
    w.publish("1.2.0+1", format=2)
    w.update()
    same("updates go on", w.notes(), "v2:mine\n")


@case()
def a_volume_that_is_gone_is_made_again_for_its_data(w):
    w.publish("1.0.0+1")
    w.update()
    w.write("mine")
    w.run("snapshot", w.name)
    labels = docker("volume", "inspect", f"{w.stack}_data", "--format", "{{json .Labels}}")
    w.abra("app", "undeploy", w.domain)
    w.wait("nothing uses it", lambda: not docker("ps", "-aq", "--filter", f"volume={w.stack}_data"))
    docker("volume", "rm", f"{w.stack}_data")
    w.run("restore", w.name, "--yes")
    same("its data is back", w.notes(), "mine\n")
    same("its labels too", docker("volume", "inspect", f"{w.stack}_data", "--format", "{{json .Labels}}"), labels)
    same("it runs", w.runs(), "1.0.0+1")


@case()
def an_app_that_has_to_be_killed_is_gone_before_anything_touches_its_data(w):
    w.publish("1.0.0+1", helper=True)
    w.update()
    w.write("mine")
    w.publish("1.1.0+1", format=2, broken="1", helper=True)
    w.update(exit=11)
    check("its data is said to be as after a power cut", "had to be killed" in json.dumps(w.alerts()), w.alerts())
    same("and is all there", (w.runs(), w.notes()), ("1.0.0+1", "mine\n"))


@case()
def a_state_folder_that_is_not_mounted_is_refused(w):
    w.publish("1.0.0+1")
    w.update()
    (w.root / "state").rename(w.root / "elsewhere")
    (w.root / "state").mkdir(mode=0o700)
    said = w.update(exit=2)
    check("why is said", "not mounted" in said and "findmnt" in said, said)
    check("doctor says so", "not mounted" in w.run("doctor", exit=1), w.said)
    same("nothing was made in it", list((w.root / "state").iterdir()), [])
    (w.root / "state").rmdir()
    (w.root / "elsewhere").rename(w.root / "state")
    check("mounted, all is as before", "up to date" in w.update(), w.said)
