"""Read the bodies of requests as they arrive."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request
from werkzeug.exceptions import ClientDisconnected

from portable_core.errors import StreamCut, UnsupportedEncoding

#: A server's ``read(n)`` returns once n bytes have arrived, so a large read would delay the bytes
#: that are already there. 8 KiB are about 600 pairs.
STREAM_CHUNK = 8 * 1024


def check_identity(request: Request) -> None:
    """Raise ``UnsupportedEncoding`` for a body with a content coding (RFC 9110, section 8.4)."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedEncoding(f"Content-Encoding {coding[:40]!r}: send the body uncompressed")


def read_chunks(request: Request) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises ``StreamCut`` if the sender disconnects."""
    stream = request.stream
    while True:
        try:
            chunk = stream.read(STREAM_CHUNK)
        except (ClientDisconnected, OSError, EOFError) as error:
            raise StreamCut("the sender disconnected before the end of the request") from error
        if not chunk:
            return
        yield chunk
