"""The content coding of a payload (RFC 9110, section 8.4): gzip, within a limit."""

from __future__ import annotations

import zlib

from portable_core.errors import MalformedPayload, PayloadTooComplex

#: The most bytes of a payload that is unpacked: a few kilobytes can stand for megabytes.
MAX_UNPACKED_BYTES = 8 * 2**20

_CODINGS = ("gzip", "x-gzip")
_MAGIC = b"\x1f\x8b"


def is_gzip(content_encoding: str) -> bool:
    """Return whether a value of ``Content-Encoding`` is gzip and nothing else."""
    return content_encoding.strip().lower() in _CODINGS


def unpack(payload: bytes, most: int = MAX_UNPACKED_BYTES) -> bytes:
    """Return the content of a gzip file (RFC 1952) of one member.

    Raises ``MalformedPayload`` for any other bytes, ``PayloadTooComplex`` for content of more than
    ``most`` bytes.
    """
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(payload, most + 1)
    except zlib.error:
        raise MalformedPayload("the payload is not gzip") from None
    if len(content) > most:
        raise PayloadTooComplex(f"the payload unpacks to more than {most} bytes")
    if not reader.eof:
        raise MalformedPayload("the payload is gzip that was cut")
    if reader.unused_data:
        raise MalformedPayload("the payload continues after the gzip file")
    return content


def unpack_for_people(payload: bytes) -> bytes:
    """Return the content of a payload that looks like gzip, else the payload itself."""
    if not payload.startswith(_MAGIC):
        return payload
    try:
        return unpack(payload)
    except MalformedPayload:
        return payload
