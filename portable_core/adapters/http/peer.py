"""Another node: requests to it, and the validation of its responses."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from portable_core.adapters.http.async_bridge import LoopThread
from portable_core.adapters.http.connection import shorten
from portable_core.adapters.http.exchange import Exchange, Request, Timeouts
from portable_core.errors import AnswerInvalid, SlaveError, SlaveRefused, WebhookSyncError
from portable_core.ports import KeepWaiting, wait_on
from portable_core.problems import PROBLEM_TYPE

#: The largest document that is read: that of ``GET /sync`` and the response to ``POST /records``.
MAX_DOCUMENT_BYTES = 65_536

_Value = TypeVar("_Value")

_JSON = "application/json"
_MAX_REFUSAL_BYTES = 16_384
_REFUSAL_S = 3.0
_EXCERPT = 300  # characters

#: Headers for one request, such as ``Authorization``. May raise a ``WebhookSyncError``.
Credentials = Callable[[], Mapping[str, str]]

_HINTS = {
    401: "Is the same token in SYNC_TOKENS on both sides?",
    403: "May this node's identity call it?",
    404: "Is it the address of a webhook-sync node of the right role?",
}


class Peer:
    """Another node: its label in messages, its address, and the credentials for it.

    ``reason`` is the member of its problem documents that messages contain (RFC 9457, section 3.1).
    """

    def __init__(
        self,
        label: str,
        url: str,
        credentials: Credentials,
        tls: ssl.SSLContext | None,
        reason: Literal["detail", "title"] = "detail",
    ) -> None:
        parts = urlsplit(url)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.label = f"{label} ({shown})"
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._tls = tls
        self._reason = reason
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
        """Open an exchange whose response has status 200, the type ``accept``, and no coding."""
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
                    f"not {accept}. Is it the address of a webhook-sync node?"
                )
            if coding.strip().lower() != "identity":
                raise AnswerInvalid(
                    f"{self.label}: answered with Content-Encoding {shorten(coding, 80)}, which "
                    "was not requested. Does a proxy compress?"
                )
            yield exchange

    def read_document(self, exchange: Exchange, seconds: float) -> object:
        """Return the JSON document of the whole response."""
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
                f"{self.label}: answered with {len(values)} headers {name}, not one. "
                "Is it the address of a webhook-sync slave?"
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
            raise SlaveError(f"{self.label}: no credentials: {error}") from error

    def _explain_refusal(self, exchange: Exchange, credentials: Mapping[str, str]) -> SlaveRefused:
        status = exchange.status
        if 300 <= status < 400:
            host = _get_host(exchange.headers.get("Location", ""))
            return SlaveRefused(
                f"{self.label}: answered {status}, a redirect to {host}. Redirects are not "
                "followed; use the final address.",
                status,
            )
        text = _read_refusal(exchange, self._reason)
        # The peer may echo the request, and this text is logged and reported.
        for value in credentials.values():
            for secret in value.split():
                if len(secret) > 6:  # longer than "Bearer" and the like
                    text = text.replace(secret, "[secret]")
        reason = shorten(text, _EXCERPT)
        message = f"{self.label}: answered {status}" + (f": {reason}" if reason else "")
        if status in _HINTS:
            message = f"{message.removesuffix('.')}. {_HINTS[status]}"
        retry_after = _parse_retry_after(exchange.headers.get("Retry-After", ""))
        return SlaveRefused(message, status, retry_after)


def _get_media_type(exchange: Exchange) -> str:
    return exchange.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _parse_retry_after(value: str) -> int | None:
    """Return the seconds of ``Retry-After`` (RFC 9110, 10.2.3); None for a date."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 5 else None


def _get_host(location: str) -> str:
    try:
        return shorten(urlsplit(location).hostname or "another path of the same host", 100)
    except ValueError:
        return "nowhere"


def _read_refusal(exchange: Exchange, reason: str) -> str:
    """Return the member ``reason`` of a problem document; instead of a missing detail, the body."""
    try:
        raw = exchange.read(_MAX_REFUSAL_BYTES, _REFUSAL_S)
    except SlaveError:
        return ""  # the message has the status alone
    if _get_media_type(exchange) in (PROBLEM_TYPE, _JSON):
        try:
            document = _parse_json(raw)
        except ValueError:
            pass
        else:
            text = document.get(reason) if isinstance(document, dict) else None
            if isinstance(text, str):
                return text
    return raw.decode("utf-8", "replace") if reason == "detail" else ""


def _parse_json(raw: bytes) -> object:
    try:
        document: object = json.loads(raw)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return document
