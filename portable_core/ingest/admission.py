"""Decide whether a request is a webhook that this node accepts, and what of its head is kept.

Both servers call this: the event loop of a container, and the WSGI application of a function. It
does no I/O and does not know how a request was received.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from portable_core.errors import HeadersTooLarge, NotFound
from portable_core.records import Meta, Pair
from portable_core.settings import Settings
from portable_core.sources.bodies import check_body_kind, check_encoding
from portable_core.sources.handshakes import Answer
from portable_core.sources.kept_headers import KeptParts
from portable_core.sources.limits import LimitGuard
from portable_core.sources.request import Headers, SourceRequest

logger = logging.getLogger(__name__)

WEBHOOK_PATH = "/webhook"

#: Most characters of the query string and the headers that are kept with one webhook. In any
#: encoding they stay far below the limit of a record's metadata on the wire
#: (``WireLimits.meta_bytes``): a master can receive every webhook that was acknowledged.
MAX_KEPT_CHARACTERS = 64 * 1024

_SOURCE_CHARACTERS = 200

#: Longer names and values are not remembered, so that no sender fills the memory with them.
_MOST_REMEMBERED = 128

#: The last one stands for bytes that are not UTF-8.
_NOT_IN_SOURCES = frozenset(" /\\%\ufffd")

#: Handshakes of one source that are all logged.
_HANDSHAKES_LOGGED = 50

#: Methods of handshakes, besides ``POST``.
HANDSHAKE_METHODS = ("GET", "HEAD", "OPTIONS")


class Admission:
    """The rules of one node. Safe to use from any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self._sources = settings.sources
        self._public_url = settings.public_url
        self._handshakes: Counter[str] = Counter()
        rows = settings.sources.rows
        limits = {source: row.limits for source, row in rows.items()}
        #: What is used of the limits of each source.
        self.limits = LimitGuard(limits, settings.buffer_bytes // 2)
        self._kept = KeptParts(
            settings.keep_headers, settings.keep_credential_headers, settings.sources.rows
        )

        self._remember_kept = lru_cache(maxsize=4096)(self._find_kept)
        self._remember_head = lru_cache(maxsize=1024)(self._check_head)
        self._remember_open = lru_cache(maxsize=1024)(self._is_open)

    def _find_kept(self, source: str, name: bytes) -> str:
        """Return the name, as text, of a header of this source if it is kept, else an empty one."""
        text = name.decode("latin-1")
        return text if self._kept.headers(source)(text) else ""

    def is_open(self, source: str) -> bool:
        """Return whether every request of a source is a webhook: no signature, no handshake."""
        return self._remember_open(source)

    def _is_open(self, source: str) -> bool:
        return not self._sources.schemes(source) and not self._sources.row(source).handshakes

    def check_head(self, source: str, content_type: str, content_encoding: str | None) -> None:
        """Raise an error for a head that cannot come before a webhook of this source.

        ``NotFound`` for a name that no source has, ``BadRequest`` for a body of another kind,
        ``UnsupportedEncoding`` for a compressed body. Handshakes have bodies of any kind, so where
        a source has them, the kind is checked after them.
        """
        if len(content_type) <= _MOST_REMEMBERED:
            self._remember_head(source, content_type, content_encoding)
        else:
            self._check_head(source, content_type, content_encoding)

    def _check_head(self, source: str, content_type: str, content_encoding: str | None) -> None:
        check_source(source)
        row = self._sources.row(source)
        check_encoding(content_encoding, compressed=row.compressed)
        if not row.handshakes:
            check_body_kind(row.body, content_type)

    def make_request(
        self, source: str, method: str, headers: Headers, query: str, body: bytes
    ) -> SourceRequest:
        """Return the request on which a source decides."""
        url = ""
        if self._public_url:
            url = f"{self._public_url}{WEBHOOK_PATH}{'/' * bool(source)}{source}"
            url += f"?{query}" if query else ""
        return SourceRequest(headers, body, method, query, url)

    def answer_handshake(
        self, source: str, method: str, headers: Headers, query: str
    ) -> Answer | None:
        """Return the response to a handshake without a body; None for any other request.

        Raises ``BadRequest`` for an invalid handshake.
        """
        if not self._sources.row(source).handshakes:
            return None
        request = self.make_request(source, method, headers, query, b"")
        answer = self._sources.answer_handshake(source, request)
        if answer is not None:
            self.report_handshake(source, answer)
        return answer

    def report_handshake(self, source: str, answer: Answer) -> None:
        """Log that a handshake was answered, and the secret that the provider has chosen, if any.

        No caller needs a secret for a handshake, so beyond a few of a source only every second,
        fourth, eighth … is logged.
        """
        self._handshakes[source] += 1
        count = self._handshakes[source]
        if count > _HANDSHAKES_LOGGED and count & (count - 1):
            return
        logger.info(
            "source %r: answered a handshake with %d (number %d)", source, answer.status, count
        )
        if answer.reveal:
            logger.warning(
                "source %r: the provider sent this secret: %s. Enter it where the provider asks "
                "for it, or in SOURCES.",
                source,
                answer.reveal,
            )

    def respond(self, source: str, pair: Pair) -> tuple[int, str, bytes]:
        """Return status, type and body of the response to a webhook that is stored."""
        response = self._sources.row(source).response
        if response is None:
            document = b'{"hash":%d,"timestamp":%d}' % (pair.hash, pair.timestamp)
            return 200, "application/json", document
        return response.status, response.type, response.body

    def read_meta(self, source: str, headers: Iterable[tuple[str, str]], query: str) -> Meta:
        """Return what is kept of a request's head.

        Header names are lower case; header values and the query string have a character a byte. A
        header that comes several times has its values joined (RFC 9110, section 5.3). Raises
        ``HeadersTooLarge``.
        """
        is_kept = self._kept.headers(source)
        kept: dict[str, str] = {}
        for name, value in headers:
            if value and is_kept(name):
                kept[name] = f"{kept[name]}, {value}" if name in kept else value
        return self._make_meta(source, kept, query)

    def read_head(self, source: str, headers: Iterable[tuple[bytes, bytes]], query: str) -> Meta:
        """Return what is kept of a request's head, from its bytes; see :meth:`read_meta`."""
        kept: dict[str, str] = {}
        for given, value in headers:
            short = len(given) <= _MOST_REMEMBERED
            name = self._remember_kept(source, given) if short else self._find_kept(source, given)
            if name and value:
                text = value.decode("latin-1")
                kept[name] = f"{kept[name]}, {text}" if name in kept else text
        return self._make_meta(source, kept, query)

    def _make_meta(self, source: str, kept: dict[str, str], query: str) -> Meta:
        query = self._kept.query(source, query)
        size = len(query) + sum(map(len, kept)) + sum(map(len, kept.values()))
        if size > MAX_KEPT_CHARACTERS:
            raise HeadersTooLarge(
                f"the query string and the headers that are kept have {size} characters, more "
                f"than {MAX_KEPT_CHARACTERS}; KEEP_HEADERS names the headers"
            )
        return Meta(source, kept, query)


def find_source(path: str) -> str | None:
    """Return the source in a path such as ``/webhook/<source>``, None for any other path.

    ``path`` is decoded and has a character a byte. A slash at its end does not count.
    """
    if not path.startswith(WEBHOOK_PATH):
        return None
    source = path[len(WEBHOOK_PATH) :].removesuffix("/")
    if source and not source.startswith("/"):
        return None
    source = source[1:]
    return source if source.isascii() else source.encode("latin-1").decode("utf-8", "replace")


def check_source(source: str) -> None:
    """Raise ``NotFound`` unless webhooks may come under this name; "" stands for no source."""
    if source and not _is_source(source):
        raise NotFound(
            "a source is one short name without spaces, slashes or control characters, and not - "
            "alone: POST /webhook/<source>"
        )


def _is_source(text: str) -> bool:
    return (
        len(text) <= _SOURCE_CHARACTERS
        and text not in (".", "..", "-")  # a lone - stands for no source in filters
        and text.isprintable()
        and not set(text) & _NOT_IN_SOURCES
    )
