"""Nodes as real processes on free loopback ports, each in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from portable_core.errors import SettingsError, Unavailable
from portable_core.settings import Role

#: How a node is run: as the container's image does it, or as Cloud Functions does it.
Kind = Literal["container", "function"]

_BIN = Path(sys.executable).parent
_FUNCTIONS = Path(__file__).parents[2] / "functions" / "main.py"
_START_S = 30.0
_STOP_S = 12.0


def find_free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment.

    Taken from below the range out of which systems number outgoing connections (RFC 6335, section
    6, and Linux: 32768), so that none of those takes it before the node does.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@dataclass(slots=True, eq=False)
class NodeProcess:
    """One node. ``env`` holds its settings; ``log`` is where its output goes."""

    name: str
    role: Role
    kind: Kind
    env: Mapping[str, str]
    log: Path
    port: int = field(default_factory=find_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The first process of its group."""
        assert self._process is not None  # noqa: S101  # only a started node has one
        return self._process.pid

    def _command(self) -> list[str]:
        if self.kind == "container":
            return [str(_BIN / "webhook-sync"), "serve", "--role", self.role, "--host", "127.0.0.1"]
        if not _FUNCTIONS.exists():
            raise SettingsError(f"{_FUNCTIONS} is missing; run this from a checkout of the project")
        return [
            *(str(_BIN / "functions-framework"), "--source", str(_FUNCTIONS)),
            *("--target", self.role, "--host", "127.0.0.1", "--port", str(self.port)),
        ]

    def start(self) -> None:
        """Start it, without waiting for anything."""
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # a command of this project
                self._command(),
                env={**inherited, **self.env, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_healthy(self, within_s: float = _START_S) -> None:
        """Return when ``/health`` answers 200. Raises ``Unavailable`` with the end of its log."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._is_healthy():
                return
            time.sleep(0.05)
        raise Unavailable(f"{self.name} does not start; its log ends with: {self.read_log_end()}")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310  # loopback
                return bool(answer.status == 200)
        except OSError:  # also what urllib makes of a 503
            return False

    def read_log_end(self) -> str:
        return self.log.read_text(errors="replace")[-500:] if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL to the whole group: nothing of it gets to run another line."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if it does not end in time. Returns the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        return code

    def _signal_group(self, number: int) -> None:
        assert self._process is not None  # noqa: S101  # callers have checked
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
