"""Nodes as processes on free loopback ports, each in a process group of its own."""

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
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from portable_core.errors import Unavailable
from portable_core.settings import Role

#: How a node is run: as in the container's image, or as a Cloud Function.
Kind = Literal["container", "function"]

_FUNCTIONS = Path(__file__).parents[1] / "functions" / "main.py"
_START_S = 30.0
_STOP_S = 12.0


def find_free_port() -> int:
    """Return a port of the loopback interface that is free at this moment.

    The port lies below the ranges of outgoing connections (RFC 6335, section 6, and Linux: 32768),
    so that none of them uses the port before the node does.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def can_run_functions() -> bool:
    """Return whether functions-framework is installed."""
    return find_spec("functions_framework") is not None


@dataclass(slots=True, eq=False)
class NodeProcess:
    """A node. ``env`` holds its settings; its output is appended to ``log``."""

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
        """The id of the first process of its group."""
        assert self._process is not None  # noqa: S101  # only a started node has one
        return self._process.pid

    def _command(self) -> list[str]:
        python = (sys.executable, "-P", "-m")  # -P: the current folder may hold any modules
        if self.kind == "container":
            return [*python, "portable_core", "serve", "--role", self.role, "--host", "127.0.0.1"]
        return [
            *(*python, "functions_framework", "--source", str(_FUNCTIONS)),
            *("--target", self.role, "--host", "127.0.0.1", "--port", str(self.port)),
        ]

    def start(self) -> None:
        """Start the process, without waiting until it is healthy."""
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
        """Wait until ``/health`` answers 200. Raises ``Unavailable`` with the end of the log."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._is_healthy():
                return
            time.sleep(0.05)
        raise Unavailable(f"{self.name} did not start. Its log ends with: {self.read_log_end()}")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:  # noqa: S310  # loopback
                return bool(response.status == 200)
        except OSError:  # includes the HTTPError of a 503
            return False

    def read_log_end(self) -> str:
        return self.log.read_text(errors="replace")[-500:] if self.log.exists() else ""

    def kill(self) -> None:
        """Send SIGKILL to the whole process group, and wait."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL if the process does not end in time. Returns the exit code."""
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
        assert self._process is not None  # noqa: S101  # callers check it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
