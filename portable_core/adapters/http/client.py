"""HTTP clients for other nodes: of a master for a slave, and of a stopping slave for the master.

:mod:`.peer` validates responses, :mod:`.exchange` moves the bytes. TLS certificates are verified.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import msgspec

from portable_core.adapters.http.connection import shorten
from portable_core.adapters.http.exchange import Timeouts
from portable_core.adapters.http.peer import Credentials, Peer
from portable_core.documents import convert_document
from portable_core.epochs import Stint
from portable_core.errors import (
    AnswerInvalid,
    HandOverFailed,
    SlaveError,
    SlaveRefused,
    SlaveUnreachable,
)
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, Tombstone, wait_on
from portable_core.sync.erasing import ErasedDocument, TombstoneDocument
from portable_core.sync.protocol import (
    QUERY_CLOCK,
    QUERY_SLAVE,
    QUERY_STINT,
    RECORDS_PATH,
    STORE_HEADER,
    SYNC_PATH,
    THROUGH_HEADER,
    TOMBSTONES_PATH,
    format_stint,
    format_sync_query,
    info_from_json,
    parse_integer,
    parse_store,
)
from portable_core.sync.report import HandOverReport

#: Statuses after which a retry may succeed; the last two are a proxy's.
_TEMPORARY = (409, 429, 503, 502, 504)


class _Client:
    """The base of both clients: each owns a thread from its first request until it is closed."""

    _peer: Peer

    def close(self) -> None:
        """Stop the event loop and all exchanges on it. Idempotent."""
        self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HttpSlaveClient(_Client):
    """A master's client for one slave; the port ``SlaveClient``. Thread-safe.

    - ``name``: the slave's name in messages; may be empty.
    - ``url``: the address of the slave's root.
    - ``credentials``: called for every request.
    - ``idle_s``: the timeout for a slave that neither sends nor receives a byte.

    No thread is started before the first request, so that a client made before a fork can be used
    after it.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        credentials: Credentials,
        idle_s: float,
        connect_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name = name
        self._peer = Peer(f"slave {name}".rstrip(), url, credentials, tls)
        self._limits = Timeouts(idle_s, connect_s)

    @property
    def name(self) -> str:
        return self._name

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        """See the port. Returns within ``connect_s`` and twice ``idle_s``."""
        limits, peer = self._limits, self._peer
        query = {} if stint is None else {QUERY_STINT: format_stint(stint)}
        if clock is not None:
            query[QUERY_CLOCK] = str(clock)
        with peer.ask("GET", SYNC_PATH, limits, query=query, keep_waiting=keep_waiting) as exchange:
            try:
                return info_from_json(peer.read_document(exchange, limits.idle_s))
            except ValueError as error:
                raise AnswerInvalid(
                    f"{peer.label}: GET {SYNC_PATH}: {shorten(str(error))}"
                ) from error

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        peer, limits = self._peer, self._limits
        documents = [
            TombstoneDocument(each.pair.hash, each.pair.timestamp, each.key) for each in tombstones
        ]
        with peer.ask(
            "POST",
            TOMBSTONES_PATH,
            limits,
            content_type="application/json",
            body=[msgspec.json.encode(documents)],
            keep_waiting=keep_waiting,
        ) as exchange:
            try:
                convert_document(peer.read_document(exchange, limits.idle_s), ErasedDocument)
            except ValueError as error:
                raise AnswerInvalid(
                    f"{peer.label}: POST {TOMBSTONES_PATH}: {shorten(str(error))}"
                ) from error

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        """See the port. Leaving the context takes less than a second, even if the body blocks."""
        peer, media_type = self._peer, request.media_type
        with peer.ask(
            "POST",
            SYNC_PATH,
            self._limits,
            accept=media_type,
            content_type=media_type,
            query=format_sync_query(request),
            body=request.body,
            keep_waiting=request.keep_waiting,
        ) as exchange:
            store, generation = peer.parse_header(exchange, STORE_HEADER, parse_store)
            through = peer.parse_header(exchange, THROUGH_HEADER, parse_integer)
            yield SyncAnswer(store, generation, through, media_type, exchange.chunks())


class HttpMasterClient(_Client):
    """The client of the stopping slave ``name`` for ``POST /records`` of the master."""

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Credentials,
        *,
        connect_s: float = 3.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name = name
        # A detail may quote parts of the records that were sent.
        self._peer = Peer("master", url, credentials, tls, reason="title")
        self._connect_s = connect_s

    def hand_over(
        self, chunks: Iterable[bytes], media_type: str, timeout_s: float
    ) -> HandOverReport:
        """Send records, encoded as ``media_type``, and return the master's report.

        Raises ``HandOverFailed`` within ``timeout_s``, and what ``chunks`` raises. The error has a
        ``retry_after`` if a retry may succeed.
        """
        peer = self._peer
        limits = Timeouts(timeout_s, min(self._connect_s, timeout_s), timeout_s, timeout_s)
        try:
            with peer.ask(
                "POST",
                RECORDS_PATH,
                limits,
                content_type=media_type,
                query={QUERY_SLAVE: self._name},
                body=chunks,
            ) as exchange:
                document = peer.read_document(exchange, timeout_s)
        except SlaveError as error:
            temporary = isinstance(error, SlaveUnreachable) or (
                isinstance(error, SlaveRefused) and error.answered in _TEMPORARY
            )
            retry_after = (error.retry_after or 1) if temporary else None
            raise HandOverFailed(str(error), retry_after) from error
        try:
            return convert_document(document, HandOverReport)
        except ValueError as error:
            raise HandOverFailed(
                f"{peer.label}: POST {RECORDS_PATH}: {shorten(str(error))}"
            ) from error
