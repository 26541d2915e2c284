"""The bodies of streams, read as they arrive."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request
from werkzeug.exceptions import ClientDisconnected

from portable_core.errors import StreamCut, UnsupportedEncoding

#: A server's ``read(n)`` returns when n bytes are there, so reading much at once would hold back
#: what has arrived. 8 KiB are some 600 pairs.
STREAM_CHUNK = 8 * 1024


def check_identity(request: Request) -> None:
    """Refuse a body under a content coding (RFC 9110, section 8.4)."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedEncoding(f"Content-Encoding {coding[:40]!r}: send the body uncompressed")


def read_chunks(request: Request) -> Iterator[bytes]:
    """The body as it arrives. Raises ``StreamCut`` when the sender goes away."""
    stream = request.stream
    while True:
        try:
            chunk = stream.read(STREAM_CHUNK)
        except (ClientDisconnected, OSError, EOFError) as error:
            raise StreamCut("the sender went away in the middle of the request") from error
        if not chunk:
            return
        yield chunk
