"""Functions that are called when something happened."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Listeners:
    """A set of functions without arguments. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._functions: tuple[Callable[[], object], ...] = ()

    def add(self, function: Callable[[], object]) -> Callable[[], None]:
        """Add a function, which must neither wait nor raise; return one that removes it."""

        def call() -> None:
            function()

        with self._lock:
            self._functions = (*self._functions, call)

        def remove() -> None:
            with self._lock:
                self._functions = tuple(one for one in self._functions if one is not call)

        return remove

    def notify(self) -> None:
        """Call all functions."""
        for function in self._functions:
            function()
