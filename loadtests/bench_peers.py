"""The servers of ``make bench-receive``: each pinned to one core, all that store on a real disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from loadtests.generator import Load
from portable_core.demo.processes import find_free_port

_BIN = Path(sys.executable).parent
_ROOT = Path(__file__).parents[1]
_THREADS = "32"

OURS = "slave, container"
#: Presets whose signatures are measured: one over the body, one over the time and the body.
SIGNED = ("github", "slack")

EARLIER = "slave, container, earlier version"


@dataclass(frozen=True, slots=True)
class BenchPeer:
    """A server to measure: its command with ``{port}``, its settings with ``{folder}``.

    - ``most``: the most senders that it is measured with; servers with a thread a sender refuse
      more.
    - ``scheme``: ``preset:secret`` with which its webhooks are signed; empty for none.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path = _ROOT
    most: int = 1000
    scheme: str = ""


def _gunicorn(target: str) -> tuple[str, ...]:
    return (
        *(str(_BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", "--workers", "1"),
        *("--threads", _THREADS, "--worker-connections", "256", target),
    )


def _uvicorn(target: str) -> tuple[str, ...]:
    return (str(_BIN / "uvicorn"), "--port", "{port}", "--log-level", "warning", target)


def _function(source: str, target: str) -> tuple[str, ...]:
    return (
        *(str(_BIN / "functions-framework"), "--source", str(_ROOT / source)),
        *("--target", target, "--host", "127.0.0.1", "--port", "{port}"),
    )


_SLAVE = ("serve", "--role", "slave", "--host", "127.0.0.1")
_STORED = {"SYNC_TOKENS": "bench", "STORE": "sqlite:{folder}/store", "THREADS": _THREADS}
_DATABASE = {"DATABASE": "{folder}/peer.sqlite3"}

PEERS = (
    BenchPeer(OURS, (str(_BIN / "webhook-sync"), *_SLAVE), _STORED),
    BenchPeer(
        "slave, container, nothing stored",
        (sys.executable, "-m", "loadtests.peers.storeless_node", *_SLAVE),
        {"SYNC_TOKENS": "bench", "STORE": "memory:", "ALLOW_EPHEMERAL": "1"},
    ),
    *(
        BenchPeer(
            f"slave, container, signed ({preset})",
            (str(_BIN / "webhook-sync"), *_SLAVE),
            {**_STORED, "SOURCES": f"={preset}:bench"},
            scheme=f"{preset}:bench",
        )
        for preset in SIGNED
    ),
    BenchPeer(
        "Starlette + group commit", _uvicorn("loadtests.peers.starlette_queue:app"), _DATABASE
    ),
    BenchPeer("FastAPI + aiosqlite", _uvicorn("loadtests.peers.fastapi_aiosqlite:app"), _DATABASE),
    BenchPeer(
        "Flask + sqlitedict", _gunicorn("loadtests.peers.flask_sqlitedict:app"), _DATABASE, most=64
    ),
    BenchPeer("slave, gunicorn threads", _gunicorn("containers.slave.app:app"), _STORED, most=256),
    BenchPeer(
        "nothing stored (gunicorn threads)",
        _gunicorn("loadtests.peers.storeless:app"),
        {},
        most=256,
    ),
    BenchPeer("slave, function", _function("functions/main.py", "slave"), _STORED, most=256),
    BenchPeer(
        "nothing stored (function)",
        _function("loadtests/peers/bare_function.py", "webhook"),
        {},
        most=256,
    ),
)

#: What is divided by what.
COMPARED = (
    *((f"slave, container, signed ({preset})", OURS) for preset in SIGNED),
    (OURS, "slave, container, nothing stored"),
    (OURS, EARLIER),
    (OURS, "Starlette + group commit"),
    (OURS, "FastAPI + aiosqlite"),
    (OURS, "Flask + sqlitedict"),
    ("slave, gunicorn threads", "nothing stored (gunicorn threads)"),
    ("slave, function", "nothing stored (function)"),
)


def find_earlier(folder: Path) -> BenchPeer:
    """Return the container of another version: a checkout with its own ``.venv``."""
    command = str(folder / ".venv" / "bin" / "webhook-sync")
    return BenchPeer(EARLIER, (command, *_SLAVE), _STORED, folder)


class Server:
    """A peer that runs, in a folder of its own on the disk of this checkout."""

    def __init__(self, peer: BenchPeer, core: int = 0) -> None:
        self.peer = peer
        self.port = find_free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bench-", dir=_ROOT))
        self._log = self._folder / "log"
        env = {name: value.format(folder=self._folder) for name, value in peer.env.items()}
        command = (part.format(port=self.port) for part in peer.command)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=peer.folder,
                env={**os.environ, "PORT": str(self.port), "PYTHONPATH": str(peer.folder), **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _wait(self) -> None:
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        log = self._log.read_text(errors="replace")[-800:]
        raise RuntimeError(f"{self.peer.name} does not start: {log}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, senders: int, seconds: float, rate: float = 0, core: int = 1) -> Load:
        """Run the generator once, on the other core; ``rate`` makes it an open load.

        Raises ``RuntimeError`` with the generator's reason if it fails, for example because not one
        webhook was acknowledged.
        """
        command = ["taskset", "-c", str(core), sys.executable, "-m", "loadtests.generator"]
        done = subprocess.run(
            [
                *(*command, str(self.port), "/webhook", str(senders), str(seconds)),
                *("--rate", str(rate), "--scheme", self.peer.scheme),
            ],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        )
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise RuntimeError(
                f"{self.peer.name}, {senders} senders: the generator ended: {reason}"
            )
        return Load(**json.loads(done.stdout))
