"""What became of a webhook that was added to a buffer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

logger = logging.getLogger(__name__)


class Resolvable(Protocol[T_contra]):
    """What can be given an outcome: an :class:`Outcome`, or a ``Future`` of a thread that waits."""

    def set_result(self, result: T_contra, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class Outcome(Generic[T]):
    """A future for callbacks alone: no thread can wait for it.

    Two threads use it: one adds callbacks, another one resolves it, once. A
    ``concurrent.futures.Future`` has two locks and costs three times as much, which is a fifth of
    the time that receiving a webhook takes.
    """

    __slots__ = ("_callbacks", "_done", "_error", "_result")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Outcome[T]], object]] = []
        self._done = False
        self._error: BaseException | None = None
        self._result: T

    def done(self) -> bool:
        """Return whether the outcome is known."""
        return self._done

    def result(self) -> T:
        """Return the result of an outcome that is done, or raise its error."""
        if not self._done:
            raise RuntimeError("the outcome is not known yet")
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self) -> BaseException | None:
        """Return the error of an outcome that is done, None if it has a result."""
        if not self._done:
            raise RuntimeError("the outcome is not known yet")
        return self._error

    def add_done_callback(self, callback: Callable[[Outcome[T]], object]) -> None:
        """Call ``callback`` with this outcome once it is done, in the thread that resolves it.

        It is called now if the outcome is done already. Its errors are logged.
        """
        self._callbacks.append(callback)
        if self._done:
            self._call()

    def set_result(self, result: T) -> None:
        self._result = result
        self._done = True
        self._call()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._done = True
        self._call()

    def _call(self) -> None:
        # ``done`` was set before this looks at the list, and ``add_done_callback`` looks at it
        # after it has added to the list: no callback is left out. ``pop`` returns each of them to
        # one thread only.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:  # the other callbacks, and other records, get their outcomes
                logger.exception("a callback of an outcome failed")
