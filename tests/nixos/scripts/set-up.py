# The machine as every test finds it.
#
# It runs two apps: `notes`, whose data format migrates forward only, and `plain`, which has no data. Both were deployed
# by hand, at 1.0.0+1, as an operator would have; cc-warm has not seen them yet.

import json
import shlex

PORTS = {"notes": 8081, "plain": 8082}


def compose(app, version, format, broken, extra):
    """The compose file of a version of the recipe `app`."""
    stateful = app == "notes"
    service = {
        "image": f"demo:{version.replace('+', '-')}",
        "environment": [f"FORMAT={format if stateful else 0}", f"BROKEN={broken}", f"PORT={PORTS[app]}", "GREETING"],
        "ports": [{"target": PORTS[app], "published": PORTS[app], "mode": "host"}],
        "secrets": ["password"],
        "deploy": {
            "labels": [f"coop-cloud.${{STACK_NAME}}.version={version}"],
            "update_config": {"order": "stop-first"},
            "restart_policy": {"delay": "1s"},
        },
        "stop_grace_period": "5s",
    }
    file = {
        "version": "3.8",
        "services": {"app": service},
        "secrets": {"password": {"external": True, "name": "${STACK_NAME}_password_${SECRET_PASSWORD_VERSION}"}},
    }
    if stateful:
        service["volumes"] = ["data:/data"]
        file["volumes"] = {"data": {}}
    service.update(extra)
    # JSON is YAML.
    return json.dumps(file, indent=2)


def publish(app, version, format=1, broken="", notes=None, **extra):
    """Publishes a version of the recipe: commits it in /srv/recipes, with an annotated tag. `broken` is what the
    demo-server knows; `notes` are its release notes; `extra` changes the service."""
    sample = f"TYPE={app}\nDOMAIN={app}.example.com\nSTACK_NAME={app}_test\nSECRET_PASSWORD_VERSION=v1\n#GREETING=hi\n"
    files = {"compose.yml": compose(app, version, format, broken, extra), ".env.sample": sample, "abra.sh": ""}
    if notes:
        files[f"release/{version}"] = notes
    script = [
        f"mkdir -p /srv/recipes/{app}/release && cd /srv/recipes/{app}",
        "git init --quiet --initial-branch=main",
        "git config user.name maintainer; git config user.email maintainer@example.com",
    ]
    script += [f"printf %s {shlex.quote(text)} >{shlex.quote(name)}" for name, text in files.items()]
    script += [
        "git add --all",
        f"git commit --quiet --message {shlex.quote('Release ' + version)}",
        f"git tag --annotate --message {shlex.quote(version)} {shlex.quote(version)}",
        f"docker tag demo:base demo:{version.replace('+', '-')}",
    ]
    machine.succeed("\n".join(script))


def set_up():
    """Makes the swarm, the image, and both apps at 1.0.0+1, once."""
    if machine.execute("test -e /var/lib/set-up")[0] == 0:
        return
    machine.wait_for_unit("multi-user.target")
    machine.wait_for_unit("docker.service")
    machine.wait_for_open_port(9000)
    machine.succeed(
        "docker swarm init --advertise-addr 127.0.0.1",
        """
        root=$(mktemp -d)
        mkdir -p $root/bin $root/data $root/tmp
        cp -L /etc/cc-warm-test/busybox $root/bin/busybox
        for name in sh cat sed mv touch mkdir sync echo sleep; do ln -s busybox $root/bin/$name; done
        install -m 755 /etc/cc-warm-test/demo-server $root/bin/demo-server
        tar -c -C $root . | docker import --change 'CMD ["/bin/demo-server"]' - demo:base
        rm -r $root
        """,
        "mkdir -p /srv/abra/servers/default /srv/abra/recipes",
    )
    for app in PORTS:
        publish(app, "1.0.0+1")
        machine.succeed(
            f"git clone --quiet /srv/recipes/{app} /srv/abra/recipes/{app}",
            f"ABRA_DIR=/srv/abra abra app new {app} -n --domain={app}.test --server=default",
            f"ABRA_DIR=/srv/abra abra app secret generate {app}.test -a -n",
            f"ABRA_DIR=/srv/abra abra app deploy {app}.test 1.0.0+1 -n -c",
        )
    for app in PORTS:
        wait_until_healthy(app)
    machine.succeed("touch /var/lib/set-up; sync")


def wait_until_healthy(app):
    """Waits until the app answers that it is well."""
    machine.wait_until_succeeds(f"curl --fail --silent --max-time 5 http://127.0.0.1:{PORTS[app]}/health")


set_up()
