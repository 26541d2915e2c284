"""Decide whether a request is a webhook that this node accepts, and what of its head is kept.

Both servers call this: the event loop of a container, and the WSGI application of a function. It
does no I/O and does not know how a request was received.
"""

from __future__ import annotations

from collections.abc import Iterable

from portable_core.errors import BadRequest, HeadersTooLarge, NotFound, UnsupportedEncoding
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sources.kept_headers import KeptParts

WEBHOOK_PATH = "/webhook"

#: Most characters of the query string and the headers that are kept with one webhook. In any
#: encoding they stay far below the limit of a record's metadata on the wire
#: (``WireLimits.meta_bytes``): a master can receive every webhook that was acknowledged.
MAX_KEPT_CHARACTERS = 64 * 1024

_SOURCE_CHARACTERS = 200
#: The last one stands for bytes that are not UTF-8.
_NOT_IN_SOURCES = frozenset(" /\\%\ufffd")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Admission:
    """The rules of one node. Safe to use from any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self._kept = KeptParts(
            settings.keep_headers, settings.keep_credential_headers, settings.sources.rows
        )

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


def check_kind(content_type: str, content_encoding: str | None) -> None:
    """Raise an error for the headers of a body that no webhook has.

    ``BadRequest`` for a form, ``UnsupportedEncoding`` for a compressed body.
    """
    if content_encoding is not None and content_encoding.strip().lower() != "identity":
        raise UnsupportedEncoding(
            f"Content-Encoding {content_encoding[:40]!r}: send the body uncompressed"
        )
    if content_type.partition(";")[0].strip().lower() in _FORMS:
        raise BadRequest(
            "the body is a form; choose application/json as the content type where the webhook is "
            "configured (GitHub: Settings, Webhooks, Content type)"
        )
