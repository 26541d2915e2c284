"""A Firestore protocol server on this machine: the one in ``FIRESTORE_EMULATOR_HOST``, or npm's
``@firestore-emulator/server`` from the checkout, started here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from portable_core.errors import SettingsError, Unavailable

#: What google-cloud-firestore reads to find an emulator instead of Google.
HOST_VARIABLE = "FIRESTORE_EMULATOR_HOST"

_FOLDER = Path(__file__).parents[2] / "tests" / "support" / "emulator"


class FirestoreEmulator:
    """Starts a server if none was given. Its process never outlives this one: it ends when its
    standard input does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """``host:port``, which the environment names from now on.

        Raises ``SettingsError`` where there is no server and none can be started.
        """
        given = os.environ.get(HOST_VARIABLE)
        if given:
            return given
        node = shutil.which("node")
        if node is None or not (_FOLDER / "node_modules").is_dir():
            raise SettingsError(
                f"{HOST_VARIABLE}: not set, and the emulator is not installed; "
                "run `npm ci --prefix tests/support/emulator`"
            )
        self._process = subprocess.Popen(  # noqa: S603  # a script of this project
            [node, str(_FOLDER / "serve.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None  # noqa: S101  # as asked for above
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"the Firestore emulator ended with status {self._process.wait()}")
        host = f"127.0.0.1:{json.loads(line)['port']}"
        os.environ[HOST_VARIABLE] = host
        return host

    def stop(self) -> None:
        """End the server that was started here, if one was."""
        if self._process is None:
            return
        os.environ.pop(HOST_VARIABLE, None)
        assert self._process.stdin is not None  # noqa: S101  # as asked for above
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
