"""``forward`` beside a master: a process of its own, started again when it ends."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

#: Before a new start, and before a process that does not end is killed, in seconds.
_PAUSE_S = 10.0
_STOP_S = 5.0
_POLL_S = 0.2

_END, _PROBLEM = logging.INFO, logging.WARNING

#: The lines of ``forward`` that are logged; it prints one with its counts every ten seconds.
_LOGGED = ("dead_letter", "end", "stop", "warning")


class Forwarder:
    """Runs ``webhook-sync forward`` until ``stopping`` returns true.

    ``state`` is the file of the state, ``environment`` what the process reads beside this process's
    environment. It ends with this process, also if that is killed: its standard input is a pipe.
    """

    def __init__(
        self,
        state: Path,
        options: Sequence[str],
        environment: Mapping[str, str],
        stopping: Callable[[], bool],
    ) -> None:
        self._command = [
            *(sys.executable, "-P", "-m", "portable_core", "forward", "--json", "--until-eof"),
            *("--state", str(state), *options),
        ]
        self._state = state
        self._environment = {**os.environ, **environment}
        self._stopping = stopping
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, once ``stopping`` returns true."""
        self._thread.join()

    def _run(self) -> None:
        waited = threading.Event()
        while not self._stopping():
            try:
                self._state.parent.mkdir(mode=0o700, exist_ok=True)
                self._run_once()
            except OSError as error:
                logger.error("forward cannot be started: %s", error)
            for _ in range(round(_PAUSE_S / _POLL_S)):
                if self._stopping() or waited.wait(_POLL_S):
                    return

    def _run_once(self) -> None:
        process = subprocess.Popen(  # noqa: S603  # a command of this project
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the signals of a terminal go to this process alone
        )
        reader = threading.Thread(target=_log_lines, args=(process,), daemon=True)
        reader.start()
        while process.poll() is None and not self._stopping():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if not self._stopping():
            logger.error(
                "forward ended with exit code %d and is started again in %g s",
                process.returncode,
                _PAUSE_S,
            )


def _log_lines(process: subprocess.Popen[bytes]) -> None:
    for line in process.stdout or ():
        with suppress(ValueError, AttributeError):
            document = json.loads(line)
            event = document.pop("event", "")
            if event in _LOGGED:
                parts = ", ".join(f"{name} {value}" for name, value in document.items() if value)
                ended = event == "end" and not document.get("problem")
                logger.log(_END if ended else _PROBLEM, "forward: %s: %s", event, parts)
