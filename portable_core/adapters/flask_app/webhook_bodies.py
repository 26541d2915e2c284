"""The body of a webhook from the WSGI environment (PEP 3333), within limits.

The sender decides when the bytes arrive. So an incomplete large body waits in a temporary file, not
in memory, and few large bodies are in memory at once.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from portable_core.errors import (
    BadRequest,
    PayloadTooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Larger bodies wait in a file, and so do those of unknown length that become larger.
SMALL_BYTES = 2**20

#: Large bodies that are in memory at the same time.
LARGE_AT_ONCE = 4

_SLICE = 64 * 1024
_DIGITS = frozenset("0123456789")


class BodyReader:
    """Reads the bodies of one application's webhooks. Safe to use from any number of threads."""

    def __init__(self, limit: int) -> None:
        """``limit`` is the largest body in bytes."""
        self._limit = limit
        self._large = threading.Semaphore(LARGE_AT_ONCE)

    @contextlib.contextmanager
    def read(self, environ: WSGIEnvironment) -> Iterator[bytes]:
        """Yield the whole body; a large one occupies one of few places during the block.

        A body that is announced as too large is not read. Raises ``PayloadTooLarge``,
        ``BadRequest`` for a body that is shorter than announced, ``Unavailable`` if a large one
        cannot be written to a file.
        """
        length = self._read_length(environ)
        body = self._read(environ, length)
        if isinstance(body, bytes):
            yield body
        else:
            with self._large, body:
                yield body.read()

    def _read_length(self, environ: WSGIEnvironment) -> int | None:
        """Return the announced length, or None if there is none."""
        announced: str = environ.get("CONTENT_LENGTH") or ""
        if not announced:
            return None
        if not set(announced) <= _DIGITS or len(announced) > 18:
            raise BadRequest(f"Content-Length: {announced[:40]!r} is not a length")
        length = int(announced)
        if length > self._limit:
            raise PayloadTooLarge(f"the body has {length} bytes, more than {self._limit}")
        return length

    def _read(self, environ: WSGIEnvironment, length: int | None) -> bytes | IO[bytes]:
        stream = environ["wsgi.input"]
        if length is None or length > SMALL_BYTES:
            return self._spool(stream, length)
        body = _read_slice(stream, length)
        _check_length(len(body), length)
        return body

    def _spool(self, stream: Any, length: int | None) -> bytes | IO[bytes]:
        file: IO[bytes] = tempfile.SpooledTemporaryFile(SMALL_BYTES)  # noqa: SIM115  # lent out
        try:
            size = 0
            # A server's read(n) may wait for n bytes, also for some that were never announced.
            while part := _read_slice(
                stream, _SLICE if length is None else min(_SLICE, length - size)
            ):
                size += len(part)
                if size > self._limit:
                    raise PayloadTooLarge(f"the body is larger than {self._limit} bytes")
                with _filing():
                    file.write(part)
            if length is not None:
                _check_length(size, length)
            with _filing():
                file.seek(0)
            if size > SMALL_BYTES:
                return file
            body = file.read()
        except BaseException:
            file.close()
            raise
        file.close()
        return body


def check_framing(environ: WSGIEnvironment) -> None:
    """Raise ``BadRequest`` if two servers could see the end of the request in different places.

    See RFC 9112, section 6.1.
    """
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is None:
        return
    if coding.strip().lower() != "chunked":
        raise BadRequest(f"Transfer-Encoding: {coding[:40]!r} is not chunked")
    if environ.get("CONTENT_LENGTH"):
        raise BadRequest("Transfer-Encoding and Content-Length are mutually exclusive; send one")


def _check_length(length: int, announced: int) -> None:
    if length != announced:
        raise BadRequest(f"the body has {length} bytes, but {announced} were announced")


def _read_slice(stream: Any, length: int) -> bytes:
    try:
        part: bytes = stream.read(length)
    except Exception as error:  # each server has its own, for a sender that disconnects
        raise BadRequest("the body ended before it was complete") from error
    return part


@contextlib.contextmanager
def _filing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"no temporary file for a large body: {error}") from error
