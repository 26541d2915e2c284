"""A Firestore emulator: the running one that ``FIRESTORE_EMULATOR_HOST`` names, or, in a checkout,
npm's ``@firestore-emulator/server``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from portable_core.errors import SettingsError, Unavailable

#: The variable from which google-cloud-firestore reads the address of an emulator.
HOST_VARIABLE = "FIRESTORE_EMULATOR_HOST"

_FOLDER = Path(__file__).parents[2] / "tests" / "support" / "emulator"


class FirestoreEmulator:
    """Starts a server unless one is running.

    The server ends when its standard input is closed, and so never outlives this process.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Return ``host:port`` of the server, and set the environment variable.

        Raises ``SettingsError`` if no server is running and none can be started.
        """
        given = os.environ.get(HOST_VARIABLE)
        if given:
            return given
        node = shutil.which("node")
        if node is None or not (_FOLDER / "node_modules").is_dir():
            raise SettingsError(
                f"{HOST_VARIABLE}: not set, and no emulator is installed. Start a Firestore "
                "emulator and set its host:port, or, in a checkout, run "
                "`npm ci --prefix tests/support/emulator`."
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
        """Stop the server if :meth:`start` has started one."""
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
