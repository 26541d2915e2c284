"""The ways to other nodes over HTTP: a master's to one slave, and a stopping slave's to the master.

What an answer must look like is checked here; how bytes move is the matter of
:mod:`portable_core.adapters.http.exchange`. TLS certificates are verified.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from portable_core.adapters.http.async_bridge import LoopThread
from portable_core.adapters.http.connection import shorten
from portable_core.adapters.http.exchange import Exchange, Request, Timeouts
from portable_core.documents import convert_document
from portable_core.errors import (
    AnswerInvalid,
    HandOverFailed,
    SlaveError,
    SlaveRefused,
    SlaveUnreachable,
    WebhookSyncError,
)
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, wait_on
from portable_core.sync.protocol import (
    PROBLEM_TYPE,
    QUERY_SLAVE,
    RECORDS_PATH,
    STORE_HEADER,
    SYNC_PATH,
    THROUGH_HEADER,
    format_sync_query,
    info_from_json,
    parse_integer,
    parse_store,
)
from portable_core.sync.report import HandOverReport

#: The largest document that is read: ``GET /sync``, the answer of ``POST /records``.
MAX_DOCUMENT_BYTES = 65_536

_Value = TypeVar("_Value")

_JSON = "application/json"
_MAX_REFUSAL_BYTES = 16_384
_REFUSAL_S = 3.0
_EXCERPT = 300  # characters

#: Headers for one request, such as ``Authorization``. May raise a ``WebhookSyncError``.
Credentials = Callable[[], Mapping[str, str]]

#: Statuses after which the same request may be taken a moment later; the last two are a proxy's.
_TEMPORARY = (409, 429, 503, 502, 504)

_HINTS = {
    401: "is the same token in SYNC_TOKENS on both sides?",
    403: "may this node's identity call it?",
    404: "is that the address of a webhook-sync node, and of the right role?",
}


class _Peer:
    """One other node: its address, what messages call it, and what is sent along to it.

    ``told`` is the member of its problem documents that messages tell (RFC 9457, section 3.1).
    """

    def __init__(
        self,
        label: str,
        url: str,
        credentials: Credentials,
        tls: ssl.SSLContext | None,
        told: Literal["detail", "title"] = "detail",
    ) -> None:
        parts = urlsplit(url)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.label = f"{label} ({shown})"
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._tls = tls
        self._told = told
        self._loops = LoopThread()

    def close(self) -> None:
        self._loops.close()

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        limits: Timeouts,
        *,
        accept: str = _JSON,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Iterable[bytes] | None = None,
        keep_waiting: KeepWaiting = wait_on,
    ) -> Iterator[Exchange]:
        """An exchange that was answered with 200, uncompressed, as ``accept``."""
        credentials = self._get_credentials()
        headers = {**credentials, "Accept": accept, "Accept-Encoding": "identity"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        request = Request(self.label, method, self._url + path, headers, query, body)
        with Exchange(self._loops, request, limits, self._tls, keep_waiting) as exchange:
            if exchange.status != 200:
                raise self._explain_refusal(exchange, credentials)
            coding = exchange.headers.get("Content-Encoding", "identity")
            media_type = _get_media_type(exchange)
            if media_type != accept:
                raise AnswerInvalid(
                    f"{self.label}: answered with {shorten(media_type, 80) or 'no type'}, "
                    f"not {accept}; is that the address of a webhook-sync node?"
                )
            if coding.strip().lower() != "identity":
                raise AnswerInvalid(
                    f"{self.label}: answered in the coding {shorten(coding, 80)}, which nobody "
                    "asked for; does a proxy compress?"
                )
            yield exchange

    def read_document(self, exchange: Exchange, seconds: float) -> object:
        """The whole answer as JSON."""
        raw = exchange.read(MAX_DOCUMENT_BYTES, seconds)
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise AnswerInvalid(f"{self.label}: answered more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            return _parse_json(raw)
        except ValueError as error:
            raise AnswerInvalid(f"{self.label}: answered with invalid JSON: {error}") from error

    def parse_header(self, exchange: Exchange, name: str, parse: Callable[[str], _Value]) -> _Value:
        values = exchange.headers.getall(name, [])
        if len(values) != 1:
            raise AnswerInvalid(
                f"{self.label}: answered with {len(values)} headers {name}, not one; "
                "is that the address of a webhook-sync slave?"
            )
        try:
            return parse(values[0])
        except ValueError as error:
            raise AnswerInvalid(f"{self.label}: header {name}: {shorten(str(error))}") from error

    def _get_credentials(self) -> Mapping[str, str]:
        try:
            return self._credentials()
        except WebhookSyncError:
            raise
        except Exception as error:
            raise SlaveError(f"{self.label}: no credentials for it: {error}") from error

    def _explain_refusal(self, exchange: Exchange, credentials: Mapping[str, str]) -> SlaveRefused:
        status = exchange.status
        if 300 <= status < 400:
            host = _get_host(exchange.headers.get("Location", ""))
            return SlaveRefused(
                f"{self.label}: answered {status}, a redirect to {host}; redirects are not "
                "followed: set the address that answers itself",
                status,
            )
        text = _read_refusal(exchange, self._told)
        # Whoever answers might echo what it was sent, and this text goes into logs and reports.
        for value in credentials.values():
            for secret in value.split():
                if len(secret) > 6:  # longer than "Bearer" and the like
                    text = text.replace(secret, "[secret]")
        parts = [f"{self.label}: answered {status}", shorten(text, _EXCERPT), _HINTS.get(status)]
        retry_after = _parse_retry_after(exchange.headers.get("Retry-After", ""))
        return SlaveRefused("; ".join(part for part in parts if part), status, retry_after)


class _Client:
    """What both clients have in common: they own a thread once they were used."""

    _peer: _Peer

    def close(self) -> None:
        """End the event loop and whatever runs on it. Idempotent."""
        self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HttpSlaveClient(_Client):
    """A master's way to one slave; the port ``SlaveClient``. Safe to use from several threads.

    ``name`` is for messages and may be empty, ``url`` the address of the slave's root.
    ``credentials`` is called for every request. ``idle_s`` is how long the slave may be silent:
    without a byte received, and without a byte of the request still on its way to it. Nothing is
    started before the first request, so that one made before a fork can be used after it.
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
        self._peer = _Peer(f"slave {name}".rstrip(), url, credentials, tls)
        self._limits = Timeouts(idle_s, connect_s)

    @property
    def name(self) -> str:
        return self._name

    def describe(self, keep_waiting: KeepWaiting = wait_on) -> SlaveInfo:
        """See the port. It takes ``connect_s`` and twice ``idle_s`` at most."""
        limits, peer = self._limits, self._peer
        with peer.ask("GET", SYNC_PATH, limits, keep_waiting=keep_waiting) as exchange:
            try:
                return info_from_json(peer.read_document(exchange, limits.idle_s))
            except ValueError as error:
                raise AnswerInvalid(
                    f"{peer.label}: GET {SYNC_PATH}: {shorten(str(error))}"
                ) from error

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        """See the port. Leaving the context takes less than a second, whatever is stuck."""
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
    """The way of the slave called ``name``, which is being stopped, to ``POST /records``."""

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
        # A detail may quote what it is about, which here are records.
        self._peer = _Peer("master", url, credentials, tls, told="title")
        self._connect_s = connect_s

    def hand_over(
        self, chunks: Iterable[bytes], media_type: str, timeout_s: float
    ) -> HandOverReport:
        """Send records, encoded as ``media_type``, and return the master's report.

        Raises ``HandOverFailed``, after ``timeout_s`` at the latest, and what ``chunks`` raises.
        ``retry_after`` tells whether and when trying again makes sense.
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


def _get_media_type(exchange: Exchange) -> str:
    return exchange.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _parse_retry_after(value: str) -> int | None:
    """Seconds (RFC 9110, 10.2.3); a date counts as nothing said."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 5 else None


def _get_host(location: str) -> str:
    try:
        return shorten(urlsplit(location).hostname or "another path of the same host", 100)
    except ValueError:
        return "nowhere"


def _read_refusal(exchange: Exchange, told: str) -> str:
    """What the answer says: that member of a problem, or else, in place of a detail, its text."""
    try:
        raw = exchange.read(_MAX_REFUSAL_BYTES, _REFUSAL_S)
    except SlaveError:
        return ""  # the status alone must do
    if _get_media_type(exchange) in (PROBLEM_TYPE, _JSON):
        try:
            document = _parse_json(raw)
        except ValueError:
            pass
        else:
            text = document.get(told) if isinstance(document, dict) else None
            if isinstance(text, str):
                return text
    return raw.decode("utf-8", "replace") if told == "detail" else ""


def _parse_json(raw: bytes) -> object:
    try:
        document: object = json.loads(raw)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return document
