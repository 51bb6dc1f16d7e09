"""The Debian image that the VM tests boot: made once by mmdebstrap, kept in the cache under the hash of its recipe."""

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "trixie"
MIRROR = os.environ.get("CC_WARM_VM_MIRROR", "http://deb.debian.org/debian")
DISK_SIZE = "6G"
PACKAGES = [
    *["systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "linux-image-cloud-amd64", "initramfs-tools"],
    *["docker.io", "docker-cli", "iproute2", "iptables"],
    *["git", "curl", "ca-certificates", "python3-minimal", "jq", "acl", "attr", "e2fsprogs", "xfsprogs"],
    *["busybox-static", "util-linux-extra", "zstd"],
]

# What is put into the image besides Debian's packages.
FILES = {
    # The disk's driver is all that the kernel needs before it can read modules from the disk.
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n",
    "etc/initramfs-tools/modules": "virtio_blk\nvirtio_console\next4\n",
    "etc/fstab": "/dev/vda / ext4 rw,relatime 0 1\n",
    "etc/hostname": "machine\n",
    "etc/hosts": "127.0.0.1 localhost machine notes.test plain.test\n",
    "etc/modules-load.d/docker.conf": "overlay\nbridge\nveth\nvxlan\nip_vs\n",
    # A restarted docker leaves tasks to swarm. No userland proxies: they cost a process a port.
    "etc/docker/daemon.json": '{"live-restore": false, "userland-proxy": false, "log-driver": "journald"}\n',
    "etc/systemd/journald.conf.d/test.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n",
    "etc/systemd/system/swarm-net.service": """\
[Unit]
Description=An address for the swarm: the machine has no network
Before=docker.service network-online.target
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=-/usr/sbin/ip link add swarm0 type dummy
ExecStart=/usr/sbin/ip addr replace 10.77.0.1/24 dev swarm0
ExecStart=/usr/sbin/ip link set swarm0 up
[Install]
WantedBy=multi-user.target
""",
    # The driver's root shell. It reads commands from the console that the driver holds.
    "etc/systemd/system/backdoor.service": """\
[Unit]
Description=Root shell of the test driver
After=multi-user.target
ConditionPathExists=/dev/hvc0
[Service]
ExecStart=/usr/local/lib/backdoor
KillSignal=SIGHUP
Environment=HOME=/root
WorkingDirectory=/root
[Install]
WantedBy=multi-user.target
""",
    "usr/local/lib/backdoor": """\
#!/bin/bash
exec </dev/hvc0 >/dev/hvc0 2>/dev/ttyS0
stty raw -echo
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo "the shell is ready"
exec /bin/bash --norc --noprofile
""",
}

# What only costs time at boot, or would wait for a network that is not there. Nothing is plugged in: what devices there
# are, the kernel makes.
MASKED = [
    *["systemd-networkd-wait-online.service", "getty@tty1.service", "serial-getty@ttyS0.service", "e2scrub_reap.service"],
    *["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"],
    *["systemd-timesyncd.service", "serial-getty@hvc0.service", "systemd-udev-trigger.service", "systemd-logind.service"],
    *["systemd-sysusers.service", "systemd-random-seed.service", "systemd-update-utmp.service", "systemd-pstore.service"],
    *[f"modprobe@{name}.service" for name in ("configfs", "drm", "efi_pstore", "fuse", "dm_mod", "loop")],
    *["dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"],
    *["sys-fs-fuse-connections.mount", "sys-kernel-config.mount"],
]


def key():
    """The hash of everything that decides what the image is."""
    recipe = repr((SUITE, MIRROR, DISK_SIZE, PACKAGES, FILES, MASKED, inspect.getsource(build)))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def tools_missing():
    """The programs that this machine lacks for making an image."""
    return [tool for tool in ("mmdebstrap", "mkfs.ext4") if not shutil.which(tool)] + (
        ["root"] if os.geteuid() != 0 else []
    )


class Unavailable(Exception):
    """What the image is made of cannot be had here."""


def exists(cache):
    """Whether the cache has the image."""
    return (cache / f"image-{key()}" / "disk.raw").exists()


def ensure(cache):
    """The folder with `disk.raw`, `vmlinuz` and `initrd`; made if the cache has none."""
    folder = cache / f"image-{key()}"
    if exists(cache):
        return folder
    with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as making:
        build(Path(making))
        os.rename(Path(making) / "image", folder)
    return folder


def build(work):
    """Makes `work/image`."""
    root, image, extra = work / "root", work / "image", work / "extra"
    image.mkdir()
    for path, text in FILES.items():
        (extra / path).parent.mkdir(parents=True, exist_ok=True)
        (extra / path).write_text(text)
    (extra / "usr/local/lib/backdoor").chmod(0o755)
    in_root = [
        "systemctl enable backdoor.service swarm-net.service docker.service",
        "systemctl mask " + " ".join(MASKED),
        "passwd -d root",
        "ln -sf /usr/bin/python3 /usr/local/bin/python3",
        "update-initramfs -u -k all",
        "rm -rf /usr/share/doc /usr/share/locale /usr/share/man /var/cache/apt/archives/*.deb /var/lib/apt/lists/*",
        # One machine id for all boots, so that the journal of each is one.
        "systemd-machine-id-setup",
    ]
    hooks = [f'--customize-hook=cp -r --preserve=mode {extra}/. "$1"']
    hooks += [f'--customize-hook=chroot "$1" sh -c "{command}"' for command in in_root]
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--components=main", "--format=directory"]
        + ["--include=" + ",".join(PACKAGES), "--aptopt=Acquire::Check-Valid-Until \"false\""]
        + [*hooks, SUITE, str(root), MIRROR],
        stderr=subprocess.PIPE,
        text=True,
    )
    print(made.stderr, end="", file=sys.stderr)
    if made.returncode != 0:
        if re.search(r"^E: apt-get update .* failed$", made.stderr, re.M):
            raise Unavailable(f"there is no image yet, and {MIRROR} cannot be reached to make one")
        made.check_returncode()
    for name in ("vmlinuz", "initrd"):
        [newest] = [p for p in (root / "boot").glob(f"{name}*") if not p.is_symlink()]
        shutil.copy(newest, image / name)
    subprocess.run(
        ["mkfs.ext4", "-q", "-d", str(root), "-E", "lazy_itable_init=1,nodiscard", str(image / "disk.raw"), DISK_SIZE],
        check=True,
    )
