"""The two encodings of pairs and records, and the choice between them.

The request of a sync carries pairs, hash first, in order of their timestamps; its response carries
records. Both end with a closing mark, which proves that they are whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from portable_core.errors import UnsupportedEncoding
from portable_core.wire.base import DEFAULT_LIMITS, Encoding, Reader, T, WireLimits, split_slices
from portable_core.wire.json_encoding import JsonEncoding
from portable_core.wire.msgpack_encoding import MsgpackEncoding

__all__ = [
    "DEFAULT_LIMITS",
    "ENCODINGS",
    "Encoding",
    "Reader",
    "WireLimits",
    "choose_encoding",
    "negotiate",
    "read_batches",
    "read_stream",
]

_JSON: Encoding = JsonEncoding()
_MSGPACK: Encoding = MsgpackEncoding()

#: The encodings by media type, the preferred one first.
ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {encoding.media_type: encoding for encoding in (_MSGPACK, _JSON)}
)

#: The parts of a list (RFC 9110, 5.6.1) or of a list of parameters; quoted strings stay whole.
_LIST_ITEM = re.compile(r'(?:[^,"]++|"(?:[^"\\]++|\\.)*+"?+)++', re.DOTALL)
_PARAMETER = re.compile(r'(?:[^;"]++|"(?:[^"\\]++|\\.)*+"?+)++', re.DOTALL)
_WEIGHT = re.compile(r"q\s*=\s*(0(?:\.[0-9]*)?|1(?:\.0*)?|\.[0-9]+)", re.IGNORECASE)


def choose_encoding(content_type: str | None) -> Encoding:
    """Return the encoding of a body with this ``Content-Type``; JSON without one.

    Parameters such as ``charset`` are ignored. Raises ``UnsupportedEncoding`` for any other type.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if not media_type:
        return _JSON
    if media_type not in ENCODINGS:
        raise UnsupportedEncoding(
            f"Content-Type: must be one of {', '.join(ENCODINGS)} (got {media_type[:100]!r})"
        )
    return ENCODINGS[media_type]


def negotiate(accept: str | None) -> Encoding:
    """Return the encoding that an ``Accept`` header prefers (RFC 9110, 12.5.1); JSON without one.

    The highest weight decides, then the more exact range; of two equal ones MessagePack if the
    header names it, else JSON. Raises ``UnsupportedEncoding`` if neither is acceptable.
    """
    if accept is None or not accept.strip():
        return _JSON
    ranges = _parse_accept(accept)
    ranked = []
    for named_first, encoding in ((1, _MSGPACK), (0, _JSON)):
        exactness, weight = _weigh(encoding.media_type, ranges)
        if weight > 0:
            tie = named_first if exactness == _EXACT else -named_first
            ranked.append((weight, exactness, tie, encoding))
    if not ranked:
        raise UnsupportedEncoding(
            f"Accept: must allow one of {', '.join(ENCODINGS)} (got {accept[:100]!r})"
        )
    return max(ranked, key=lambda rank: rank[:3])[3]


_EXACT = 2


def _weigh(media_type: str, ranges: Mapping[str, float]) -> tuple[int, float]:
    """Return how exactly the best of ``ranges`` names the media type (2 to 0), and its weight."""
    kind = media_type.partition("/")[0]
    for exactness, name in ((_EXACT, media_type), (1, f"{kind}/*"), (0, "*/*")):
        if name in ranges:
            return exactness, ranges[name]
    return 0, 0.0


def _parse_accept(accept: str) -> dict[str, float]:
    """Return the media ranges of an ``Accept`` header and their weights.

    It tolerates headers that clients do send: ``*`` counts as ``*/*`` (java.net sends it);
    parameters other than the weight, and ranges with an invalid weight, are ignored. The greatest
    weight of a repeated range counts.
    """
    ranges: dict[str, float] = {}
    for item in _LIST_ITEM.findall(accept):
        name, *parameters = (part.strip() for part in _PARAMETER.findall(item) or ("",))
        weight = 1.0
        for parameter in parameters:
            if parameter[:1] in "qQ" and parameter[1:].lstrip().startswith("="):
                match = _WEIGHT.fullmatch(parameter)
                weight = float(match[1]) if match else -1.0
        name = "*/*" if name == "*" else name.lower()
        if weight >= 0:
            ranges[name] = max(weight, ranges.get(name, 0.0))
    return ranges


def read_batches(reader: Reader[T], chunks: Iterable[bytes]) -> Iterator[list[T]]:
    """Return the items that ``reader`` reads from ``chunks``, in lists, as soon as any is complete.

    Raises ``MalformedStream`` at once, after the items before the fault, and ``StreamCut`` if the
    chunks end without the closing mark.
    """
    for chunk in chunks:
        for piece in split_slices(chunk):
            batch = reader.feed(piece)
            if batch:
                yield batch
                reader.feed(b"")
    reader.finish()


def read_stream(reader: Reader[T], chunks: Iterable[bytes]) -> Iterator[T]:
    """Return the items of :func:`read_batches` one by one."""
    for batch in read_batches(reader, chunks):
        yield from batch
