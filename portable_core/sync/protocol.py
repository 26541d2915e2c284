"""The names and small texts of the sync protocol, which both ends of a connection share.

Paths, query parameters, the two answer headers and the document of ``GET /sync``. The bodies of
``POST /sync`` and ``POST /records`` are the matter of :mod:`portable_core.wire.negotiation`.

Whatever comes from the other side is checked here; each ``parse_…`` and ``…_from_json`` raises
``ValueError`` with a message that names what is wrong.
"""

from __future__ import annotations

import re

from portable_core.ports import SlaveInfo, StoreEpoch, SyncRequest
from portable_core.records import MAX_INTEGER

SYNC_PATH = "/sync"
RECORDS_PATH = "/records"
#: The master's pairs of ``start`` to ``end``, for comparisons from elsewhere.
PAIRS_PATH = "/pairs"

#: The query parameters of ``POST /sync``.
QUERY_START = "start"
QUERY_END = "end"
QUERY_SPAN = "span"
QUERY_HASH = "hash"
#: ``<uuid>/<generation>``: where ``start`` was reached; a slave that is not that refuses.
QUERY_STORE = "store"
#: ``1``: compare only. Without it a slave assumes that every record before ``start`` is in the
#: master, and its retention may remove them.
QUERY_COMPARE_ONLY = "compare_only"
#: The name of :data:`QUERY_COMPARE_ONLY` in older releases. A slave understands both, and whoever
#: asks sends both: an older slave that missed this one would mistake the comparison for a sync,
#: raise its retention mark to ``start`` and remove records that are in no master.
QUERY_COMPARE_ONLY_DEPRECATED = "keep"

#: The query parameter of ``POST /records`` and ``POST /trigger-sync``: a slave's name.
QUERY_SLAVE = "slave"

#: ``<ms>``: the answer holds every missing record before it; the cursor may not pass it.
THROUGH_HEADER = "Sync-Through"
#: ``<uuid>/<generation>``: the store that answered, and in which epoch.
STORE_HEADER = "Sync-Store"

#: Errors on every endpoint are documents of this type (RFC 9457).
PROBLEM_TYPE = "application/problem+json"

_MAX_NAME = 64  # characters of an algorithm's or a media type's name
_MAX_ENCODINGS = 16
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS = re.compile(r"[0-9]{1,16}")


def parse_integer(text: str, least: int = 0, most: int = MAX_INTEGER) -> int:
    """An integer of ``least`` to ``most``, which has 16 digits at most, from its decimal digits,
    with nothing around them."""
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"must be an integer of {least} to {most}, not {text[:40]!r}")
    return int(text)


def format_store(uuid: str, generation: int) -> str:
    """``<uuid>/<generation>``. Raises ``ValueError`` where the store's identity is no UUID."""
    return f"{_check_uuid(uuid)}/{_check_integer('generation', generation)}"


def parse_store(text: str) -> StoreEpoch:
    """The UUID and the generation; the opposite of :func:`format_store`."""
    uuid, slash, generation = text.partition("/")
    if not slash:
        raise ValueError(f"must be <uuid>/<generation>, not {text[:80]!r}")
    return StoreEpoch(_check_uuid(uuid), parse_integer(generation))


def format_sync_query(request: SyncRequest) -> dict[str, str]:
    """The query of ``POST /sync``: names and decimal values."""
    query = {
        QUERY_START: str(request.start),
        QUERY_END: str(request.end),
        QUERY_SPAN: str(request.span),
        QUERY_HASH: request.algorithm,
    }
    if request.epoch is not None:
        query[QUERY_STORE] = format_store(*request.epoch)
    if request.compare_only:
        query[QUERY_COMPARE_ONLY] = query[QUERY_COMPARE_ONLY_DEPRECATED] = "1"
    return query


def info_to_json(info: SlaveInfo) -> dict[str, object]:
    """The document of ``GET /sync`` as JSON-ready values."""
    return {
        "store": info.store,
        "generation": info.generation,
        "first": info.first,
        "horizon": info.horizon,
        "now": info.now,
        "span": info.span,
        "hash": info.hash,
        "encodings": list(info.encodings),
    }


def info_from_json(document: object) -> SlaveInfo:
    """The opposite of :func:`info_to_json`. Unknown members are ignored, missing ones are not."""
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    first = _member(document, "first")
    encodings = _member(document, "encodings")
    if not isinstance(encodings, list) or not 1 <= len(encodings) <= _MAX_ENCODINGS:
        raise ValueError(f"encodings: must be a list of 1 to {_MAX_ENCODINGS} names")
    return SlaveInfo(
        store=_check_uuid(_member(document, "store")),
        generation=_check_integer("generation", _member(document, "generation")),
        first=None if first is None else _check_integer("first", first),
        horizon=_check_integer("horizon", _member(document, "horizon")),
        now=_check_integer("now", _member(document, "now")),
        span=_check_integer("span", _member(document, "span")),
        hash=_check_name("hash", _member(document, "hash")),
        encodings=tuple(_check_name("encodings", name) for name in encodings),
    )


def _member(document: dict[object, object], name: str) -> object:
    if name not in document:
        raise ValueError(f"{name}: missing")
    return document[name]


def _check_integer(name: str, value: object) -> int:
    # A bool is an int to Python, but not to JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{name}: must be an integer of 0 to {MAX_INTEGER}, not {_show(value)}")
    return value


def _check_uuid(value: object) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError(f"store: must be a UUID in lower case, not {_show(value)}")
    return value


def _check_name(name: str, value: object) -> str:
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= _MAX_NAME
        or not value.isascii()
        or not value.isprintable()
    ):
        raise ValueError(f"{name}: must be 1 to {_MAX_NAME} printable characters")
    return value


def _show(value: object) -> str:
    # Python refuses to write out an integer of thousands of digits.
    shown = isinstance(value, str | float | None) or (
        isinstance(value, int) and value.bit_length() <= 128
    )
    return repr(value)[:80] if shown else f"a value of type {type(value).__name__}"
