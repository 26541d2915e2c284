"""The nodes of a chaos run: real processes, each behind the harness's proxies, that can be broken.

==========  ==========================  ===================================================
master      container, SQLite           on a small file system of its own, behind a proxy
slave-1     function, SQLite            on the disk, behind a proxy
slave-2     container, SQLite           on a small file system of its own; its clock can be set
slave-3     container, Firestore        the emulator is behind a proxy, too
==========  ==========================  ===================================================

Senders reach every node through one proxy, the master reaches every slave through another.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from loadtests.faults import CONTAINER, FIRESTORE, FUNCTION, MASTER, SLAVES
from loadtests.ledger import Excuse, Held, PairIndex, find_needless
from loadtests.proxy import Proxy
from loadtests.timeline import Presence, note_presence
from portable_core.demo.cluster import read_records
from portable_core.demo.emulator import HOST_VARIABLE, FirestoreEmulator
from portable_core.demo.processes import NodeProcess
from portable_core.errors import SettingsError, WebhookSyncError
from portable_core.records import Pair, Record

SPAN_S = 16

_DISK_MIB = 192
_BROKEN = Path(__file__).parent / "broken"
_FAKETIME = ("/usr/lib/{}/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class FaultNodes:
    """Made, started and taken down by one chaos run, in a folder of its own.

    What this machine lacks is left out, and named in ``without``: small file systems need root,
    clocks need Debian's package ``libfaketime``, Firestore needs the emulator.
    """

    def __init__(self, folder: Path, *, broken: bool = False) -> None:
        self.without: dict[str, str] = {}
        self.token = secrets.token_urlsafe(24)
        self.excuses: list[Excuse] = []
        self.set_aside: list[str] = []
        #: What damage took from the master for good, whether there were copies or not.
        self.destroyed: set[Pair] = set()
        self.destroyed_presences: list[Presence] = []
        #: Needless copies that the master held when it was damaged.
        self.needless: list[Held] = []
        self._copies: dict[str, tuple[Path, Path]] = {}
        self._to_come_back: set[Pair] = set()
        self._folder = folder
        self._mounts: list[Path] = []
        self._clock_file = folder / "clock"
        self._emulator = FirestoreEmulator()
        self._env = {"SPAN_S": str(SPAN_S), "SYNC_TOKENS": self.token, "SYNC_IDLE_S": "3"}
        if broken:
            self._env["PYTHONPATH"] = str(_BROKEN)
        self.nodes: dict[str, NodeProcess] = {}
        self.doors: dict[str, Proxy] = {}
        self.links: dict[str, Proxy] = {}
        self.firestore: Proxy | None = None

    # -- making ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until every node accepts webhooks."""
        for name in (MASTER, CONTAINER):
            self._mount(name)
        for name in SLAVES:
            kind = "function" if name == FUNCTION else "container"
            env = {**self._env, "STORE": f"sqlite:{self._folder / name / 'store'}"}
            if name == FIRESTORE:
                env |= self._use_firestore()
            if name == CONTAINER:
                env |= self._use_faketime()
            self._add(name, NodeProcess(name, "slave", kind, env, self._folder / f"{name}.log"))  # type: ignore[arg-type]  # one of the two kinds
            self.links[name] = Proxy(self.nodes[name].port, name=f"master to {name}")
            self.links[name].start()
        addresses = ",".join(f"{name}={self.links[name].url}" for name in SLAVES)
        store = f"sqlite:{self._folder / MASTER / 'store'}"
        env = {**self._env, "STORE": store, "SLAVES": addresses}
        log = self._folder / "master.log"
        self._add(MASTER, NodeProcess(MASTER, "master", "container", env, log))
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_until_healthy()

    def _add(self, name: str, node: NodeProcess) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        self.nodes[name] = node
        self.doors[name] = Proxy(node.port, name=f"senders to {name}")
        self.doors[name].start()

    def _mount(self, name: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.without["full-disk"] = f"no file system could be mounted: {done.stderr.strip()}"
        else:
            self._mounts.append(folder)

    def _use_firestore(self) -> dict[str, str]:
        try:
            host = self._emulator.start()
        except SettingsError as error:
            self.without["firestore-gone"] = str(error)
            return {}
        self.firestore = Proxy(int(host.rpartition(":")[2]), name="slave-3 to Firestore")
        self.firestore.start()
        database = f"chaos-{secrets.token_hex(6)}"
        return {
            "STORE": f"firestore:webhook-sync-chaos/{database}",
            "LINGER_MS": "100",
            HOST_VARIABLE: f"127.0.0.1:{self.firestore.port}",
        }

    def _use_faketime(self) -> dict[str, str]:
        machine = f"{os.uname().machine}-linux-gnu"
        for path in _FAKETIME:
            if Path(path.format(machine)).exists():
                self.set_clock(0)
                return {
                    "LD_PRELOAD": path.format(machine),
                    "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
                    "FAKETIME_CACHE_DURATION": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "DONT_FAKE_MONOTONIC": "1",
                    "NO_FAKE_STAT": "1",
                }
        for kind in ("clock", "clock-far"):
            self.without[kind] = "libfaketime is not installed (apt-get install libfaketime)"
        return {}

    # -- breaking ----------------------------------------------------------------------------------

    def set_clock(self, milliseconds: int) -> None:
        """Set slave-2's clock wrong by so much; the node notices within a second."""
        new = self._clock_file.with_suffix(".new")
        new.write_text(f"{milliseconds / 1000:+.3f}\n")
        new.replace(self._clock_file)

    def freeze(self, name: str) -> None:
        _signal(self.nodes[name], signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        _signal(self.nodes[name], signal.SIGCONT)

    def fill_disk(self, name: str) -> None:
        """Leave not one free byte on a node's file system."""
        folder = self._folder / name
        with (folder / "balloon").open("wb") as balloon, suppress(OSError):
            while True:
                free = shutil.disk_usage(folder).free
                os.posix_fallocate(balloon.fileno(), balloon.tell(), max(4096, free))
                balloon.seek(0, os.SEEK_END)

    def empty_disk(self, name: str) -> None:
        (self._folder / name / "balloon").unlink(missing_ok=True)

    def damage(self, name: str) -> str:
        """Overwrite the beginning of the newest data file of a node that does not run.

        A slave's file can be put back with :meth:`put_back`. The master's is gone for good: what no
        store holds any more, and the master does not represent, is excused. Returns what was done.
        """
        folder = self._folder / name / "store"
        files = sorted(folder.glob("[0-9]*.sqlite3"))
        if not files:
            return "no file yet"
        target, before = files[-1], self.read(name)
        if name != MASTER:
            self._keep_copy(name, target)
        size = target.stat().st_size
        with target.open("r+b") as file:
            file.write(secrets.token_bytes(min(size, 8192)) if size else b"damaged")
        with suppress(FileNotFoundError):
            target.with_name(f"{target.name}-wal").unlink()
        left = self._read_pairs(name)
        lost = [record for record in before if record.pair not in left]
        if name == MASTER:
            self.needless += find_needless(before, SPAN_S * 1000)
            self._excuse(lost, left)
        else:
            self._to_come_back |= {record.pair for record in lost}
        return f"{len(lost)} records unreadable"

    def _excuse(self, lost: list[Record], left: set[Pair]) -> None:
        """The master has lost these records and has those left."""
        self.destroyed |= {record.pair for record in lost}
        self.destroyed_presences += note_presence(lost, time.time_ns() // 1_000_000)
        # A slave that has not noticed yet that its file is back has to have these all the same.
        held = [left, self._to_come_back, *map(self._read_pairs, SLAVES)]
        represented = PairIndex(SPAN_S * 1000, [left])
        only = frozenset(
            pair for pair in self.destroyed.difference(*held) if not represented.represents(pair)
        )
        self.excuses.append(Excuse(MASTER, only))

    def _keep_copy(self, name: str, target: Path) -> None:
        """A copy of a file with its log, as one file, on the file system that it came from."""
        copy = self._folder / name / f"{target.name}.copy"
        shutil.copyfile(target, copy)
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{target}-wal", f"{copy}-wal")
        with closing(sqlite3.connect(copy)) as connection:
            # What waits in the log goes into the file, and the log goes away.
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        self._copies[name] = (copy, target)

    def put_back(self, name: str) -> str:
        """Put a slave's damaged file back while the slave runs; it has to notice by itself."""
        if name not in self._copies:
            return "nothing to put back"
        copy, target = self._copies.pop(name)
        copy.replace(target)
        return "put back"

    def _read_pairs(self, name: str) -> set[Pair]:
        return {record.pair for record in self.read(name)}

    # -- looking -----------------------------------------------------------------------------------

    def read(self, name: str) -> list[Record]:
        """A node's records, read from its store past all proxies; none before it has one."""
        try:
            return read_records(self.nodes[name].env)
        except WebhookSyncError:
            return []

    def versions(self) -> Mapping[str, str]:
        return {name: node.env["STORE"].partition(":")[0] for name, node in self.nodes.items()}

    def stop(self) -> dict[str, int]:
        """Take everything down. Returns the nodes' exit codes."""
        codes = {name: node.stop() for name, node in self.nodes.items()}
        for proxy in (*self.doors.values(), *self.links.values()):
            proxy.close()
        if self.firestore is not None:
            self.firestore.close()
        self._emulator.stop()
        for folder in self._mounts:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        return codes


def _signal(node: NodeProcess, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(node.pid, number)
