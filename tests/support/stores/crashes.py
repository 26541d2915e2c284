"""A process that ends at one of the writes of a SQLite store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from portable_core.adapters.sqlite import changer
from portable_core.adapters.sqlite.writer import Writer

#: The exit code of a process that ended so.
CRASHED = 7


def crash_at(step: int, *, after: bool) -> None:
    """End this process before or after so many writes.

    A write is a list of statements that a writer executes, or the removal of a file.
    """
    left = step

    def crash_around(write: Callable[..., Any]) -> Callable[..., Any]:
        def write_and_crash(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            last = left == 0
            if last and not after:
                os._exit(CRASHED)
            result = write(*arguments)
            if last:
                os._exit(CRASHED)
            return result

        return write_and_crash

    # only in a child process
    Writer._run = crash_around(Writer._run)  # type: ignore[method-assign]
    changer.remove_database = crash_around(changer.remove_database)  # type: ignore[attr-defined]


def run_in_child(run: Callable[[], object]) -> bool:
    """Return whether a child process that runs this came to its end; False if it crashed."""
    pid = os.fork()
    if pid == 0:  # the child must not run anything of pytest
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, CRASHED)
    return code == 0
