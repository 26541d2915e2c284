"""The port of a master's client of one slave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from portable_core.epochs import MAX_LOSSES, Loss, Stint
from portable_core.ports.erasing import Tombstone
from portable_core.ports.values import (
    ALL_HASHES,
    STINT_PATTERN,
    UUID_PATTERN,
    HashRange,
    Milliseconds,
    StoreEpoch,
)
from portable_core.records import Integer

#: The name of a hash algorithm or a media type.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,64}\Z")]


class SlaveInfo(msgspec.Struct, frozen=True):
    """A slave's response to ``GET /sync``.

    ``first`` is the timestamp of its oldest record, None for an empty store; ``now`` the timestamp
    that it would assign at that moment. ``rules`` has, by source, the text of each identity rule
    that is not the default; None stands for versions before 0.2, which hash the payload alone.
    ``ranges``: whether the slave compares a range of hashes, if a request names one.

    ``clock``: what the slave's clock shows, which may be ahead of ``now`` or behind; None for older
    releases. ``stint`` has reported ``horizon``, or a later one; empty for versions before 0.2.
    ``continues``: whether the store is the one that has reported the stint of the request, or a
    later state of it; None if the request named none. ``ephemeral``: whether the store ends with
    its process. ``losses``: the parts of the store that have lost acknowledged webhooks.
    ``erases``: whether the slave erases webhooks that an operator has deleted.
    """

    store: Annotated[str, msgspec.Meta(pattern=rf"\A{UUID_PATTERN}\Z")]
    generation: Integer
    first: Milliseconds | None
    horizon: Milliseconds
    now: Milliseconds
    span: Milliseconds
    hash: _Name
    encodings: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=16)]
    rules: dict[str, str] | None = None
    ranges: bool = False
    clock: Milliseconds | None = None
    stint: Annotated[str, msgspec.Meta(pattern=rf"\A({STINT_PATTERN})?\Z")] = ""
    continues: bool | None = None
    ephemeral: bool = False
    losses: Annotated[tuple[Loss, ...], msgspec.Meta(max_length=MAX_LOSSES)] = ()
    erases: bool = False


#: Called in the caller's thread about twice a second while the other side sends nothing. An
#: exception of it ends the wait and is raised in the caller.
KeepWaiting = Callable[[], object]


def wait_on() -> None:
    """Do nothing: the ``KeepWaiting`` of callers that just wait."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One ``POST /sync``: the window, and the master's pairs encoded as ``media_type``.

    ``keep_waiting`` is called while the response, or its next chunk, is awaited. ``epoch``
    is the epoch of the slave's store in which ``start`` was reached; a slave whose store is in
    another epoch rejects the request. ``compare_only``: the slave must not advance its retention.
    ``stint``: a stint of that store; a slave whose store does not continue it rejects the request.
    ``hashes``: only pairs with these hashes are sent and compared. ``master``: the UUID of the
    master's store; the slave keeps a retention mark for each master.
    """

    start: Milliseconds
    end: Milliseconds
    span: Milliseconds
    algorithm: str
    media_type: str
    body: Iterable[bytes]
    keep_waiting: KeepWaiting = wait_on
    epoch: StoreEpoch | None = None
    compare_only: bool = False
    hashes: HashRange = ALL_HASHES
    master: str = ""
    stint: Stint | None = None


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The head of a response with status 200, and its body as it arrives.

    ``chunks`` raises ``SlaveUnreachable`` when the connection breaks or times out; it ends where
    the response ended, complete or not.
    """

    store: str
    generation: int
    through: Milliseconds
    media_type: str
    chunks: Iterator[bytes]


class SlaveClient(Protocol):
    """The master's client of one slave.

    Errors: ``SlaveUnreachable``, ``SlaveRefused`` for any status but 200 (redirects are not
    followed), ``AnswerInvalid`` for a 200 that is not of this protocol.
    """

    @property
    def name(self) -> str: ...

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: Milliseconds | None = None,
    ) -> SlaveInfo:
        """``GET /sync``. With a ``stint``, the slave returns whether its store continues it.

        ``clock`` is what the master's clock shows; it may confirm the slave's.
        """
        ...

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        """``POST /tombstones``: erase these webhooks on the slave, durably."""
        ...

    def exchange(self, request: SyncRequest) -> AbstractContextManager[SyncAnswer]:
        """``POST /sync``: sends ``request.body`` while the response is read.

        Leaving the context stops both directions at once. An exception of ``request.body`` ends the
        exchange and is raised from ``chunks``.
        """
        ...
