"""Machines with systemd of their own, as namespaces on this one: two hosts that a wire connects.

A machine is a Debian with a root file system, processes and a network of its own. Nothing of the
project is in it at first. Its base is made once from Debian's packages (``mmdebstrap``), and kept
in ``$WEBHOOK_SYNC_MACHINES`` (a folder of the user's cache).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.support.missing import give_up

#: What the guide requires of a machine, and what a machine is made of.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "sudo", "iproute2", "ca-certificates"),
    *("python3", "python3-venv", "caddy", "nginx-light", "prometheus"),
)

#: The programs that make and run machines.
_TOOLS = ("mmdebstrap", "unshare", "nsenter", "ip")

_CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = ("systemd", "unified")
_PATIENCE_S = 20

#: Makes a machine of its namespaces: mounts what systemd expects, changes the root, starts systemd.
_BOOT = """
set -e
root=$1 name=$2
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$3,upperdir=$4,workdir=$5" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sys "$root/sys"
for folder in run tmp dev sys/fs/cgroup; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
ip link set lo up
hostname "$name"
cd "$root"
pivot_root . mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c \
  'umount -l /mnt; exec /lib/systemd/systemd --log-target=console --show-status=0'
"""


def find_base() -> Path:
    """Return the folder with the base of all machines; make it if it is not there yet."""
    if os.geteuid() != 0:
        give_up("a machine needs root")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        give_up(f"missing: {', '.join(missing)}: run `apt-get install mmdebstrap iproute2`")
    if not all((_CGROUPS / name).is_dir() for name in _HIERARCHIES):
        give_up("a machine needs the hierarchies of systemd's hybrid mode")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webhook-sync"
    cache = Path(os.environ.get("WEBHOOK_SYNC_MACHINES") or cache / "machines")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
        base = cache / digest
        if not base.exists():
            _make_base(base)
    return base


def _make_base(base: Path) -> None:
    new = base.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    suite = _read("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"')
    wanted = ("--format", "$(REPO_URI)", "Created-By: Packages")
    mirror = _read("apt-get", "indextargets", *wanted).split()[0]
    _read(
        *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"),
        *("--aptopt=APT::Install-Recommends false", "--skip=cleanup/apt/lists"),
        '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash admin',
        '--customize-hook=echo "admin ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/admin"',
        *(suite, str(new), mirror),
    )
    new.rename(base)


def _read(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Machine:
    """A machine. ``admin`` is its user, who may use sudo without a password."""

    def __init__(self, base: Path, folder: Path, name: str, *, without: Iterable[str] = ()) -> None:
        self.name = name
        self._base = base
        self._folder = folder
        self._exports = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroups = [_CGROUPS / part / f"test-{os.getpid()}-{name}" for part in _HIERARCHIES]
        for part in ("root", "upper", "work"):
            (folder / part).mkdir(parents=True)
        units = folder / "upper/etc/systemd/system"
        units.mkdir(parents=True)
        for unit in without:  # as if its package were not installed
            (units / unit).symlink_to("/dev/null")

    def write(self, path: str, text: str) -> None:
        """Write a file, before the machine is started for the first time."""
        file = self._folder / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def start(self) -> None:
        for cgroup in self._cgroups:
            cgroup.mkdir()
        folders = (self._folder / "upper", self._folder / "work")
        enter = "".join(f"echo $$ >{cgroup}/cgroup.procs\n" for cgroup in self._cgroups)
        namespaces = "--mount --pid --net --uts --ipc --cgroup --fork --kill-child"
        arguments = (self._folder / "root", self.name, self._base, *folders)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("bash", "-ec", f'{enter}exec unshare {namespaces} bash -c "$@"', "machine"),
                    *(_BOOT, "boot", *map(str, arguments)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_running():
            assert time.monotonic() < deadline, self.read_log()
            time.sleep(0.05)

    def _is_running(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        try:
            done = self._enter("systemctl", "is-system-running", timeout=10)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return False
        return done.stdout.strip() in ("running", "degraded")

    @property
    def init(self) -> int:
        """The first process of the machine, by its number outside."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(children) != 1:
            raise FileNotFoundError("it has no process yet")
        return int(children[0])

    def connect(self, other: Machine, address: str, other_address: str) -> None:
        """Lay a wire between two machines; it is gone once one of them is off."""
        wire = ("ip", "link", "add", "wire", "netns", str(self.init), "type", "veth")
        _read(*wire, "peer", "name", "wire", "netns", str(other.init))
        ends = ((self, address, other_address), (other, other_address, address))
        for machine, own, far in ends:
            machine.run(
                f"sudo ip address replace {own}/32 dev lo\n"
                "sudo ip link set wire up\n"
                f"sudo ip route add {far} dev wire src {own}"
            )

    def run(self, script: str, *, timeout: float = 300) -> str:
        """Run a script of bash as ``admin`` in the copy of the repository; return its output.

        Variables that a script exports are there for the next one, as in one shell.
        """
        whole = "\n".join(
            ("set -euo pipefail", "cd ~/webhook-sync 2>/dev/null || cd", self._exports, script)
        )
        whole += "\n{ echo; echo ==exports; export -p; } >&2\n"
        done = self._enter(
            *("runuser", "-u", "admin", "--", "env", "-i", "HOME=/home/admin", "LANG=C.UTF-8"),
            *("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "bash", "-c", whole),
            timeout=timeout,
        )
        errors, _, exports = done.stderr.partition("\n==exports\n")
        assert done.returncode == 0, f"{self.name}: {script}\n{done.stdout}\n{errors}"
        self._exports = "\n".join(
            line for line in exports.splitlines() if line.startswith("declare -x ")
        )
        return done.stdout

    def _enter(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self.init}", "--all", "--root", "--wd", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def cut_power(self) -> None:
        """Kill everything at once. What was written stays; the machine can be started again."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)  # the first process dies with it, and all others
        self._process.wait()
        self._process = None
        for cgroup in self._cgroups:
            _remove(cgroup)

    def read_log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


def _remove(cgroup: Path) -> None:
    """Remove a group and those below it, once their processes are gone."""
    deadline = time.monotonic() + _PATIENCE_S
    folders = sorted((cgroup, *(p for p in cgroup.rglob("*") if p.is_dir())), reverse=True)
    for folder in folders:
        while True:
            try:
                folder.rmdir()
                break
            except OSError:
                assert time.monotonic() < deadline, f"{folder} still has processes"
                time.sleep(0.02)
