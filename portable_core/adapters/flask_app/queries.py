"""Read the query parameters of a page."""

from __future__ import annotations

import re

from werkzeug.datastructures import MultiDict

from portable_core.errors import BadRequest
from portable_core.payload_hash.identity import KEY_DIGITS
from portable_core.ports import HashRange, Milliseconds
from portable_core.records import MAX_INTEGER, Pair, parse_id
from portable_core.sync.protocol import parse_hashes, parse_integer
from portable_core.text import parse_time
from portable_core.webhooks.search import FOREVER, MAX_PAGE_ROWS, PAGE_ROWS, Search

Query = MultiDict[str, str]

#: The values of ``origin``, with whether a record is recovered.
_ORIGINS = {"direct": False, "recovered": True}

_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_KEY = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}")


def read_search(query: Query, now: Milliseconds) -> Search:
    """Return the search of these parameters: ``start``, ``end``, ``source``, ``event``, ``hash``,
    ``key``, ``id``, ``value``, ``origin``, ``slave``.

    Times are milliseconds or ISO 8601. With ``last``, such as ``2h``, the search starts so long
    before ``now``, unless ``start`` is later. Raises ``BadRequest``.
    """
    hash_ = query.get("hash", "").strip()
    return Search(
        start=max(_read_time(query, "start", 0), _read_last(query, now)),
        end=_read_time(query, "end", FOREVER),
        source=read_source(query),
        hash=parse_bounded("hash", hash_) if hash_ else None,
        key=_read_key(query),
        id=query.get("id", "").strip(),
        value=query.get("value", ""),
        event=query.get("event", "").strip(),
        recovered=_read_origin(query),
        slave=query.get("slave", "").strip(),
    )


def read_source(query: Query) -> str | None:
    """Return the source that a record must have: the empty text for ``-``.

    None if the parameter is absent or empty: records of every source match.
    """
    source = query.get("source", "").strip()
    return None if not source else "" if source == "-" else source


def _read_last(query: Query, now: Milliseconds) -> Milliseconds:
    """Return the time that lies the duration ``last`` before ``now``; 0 without one."""
    last = query.get("last", "").strip()
    match = _DURATION.fullmatch(last)
    if match is None:
        if last:
            raise BadRequest(f"last: must be a duration such as 15m, 2h or 7d (got {last[:40]!r})")
        return 0
    return max(0, now - int(match[1]) * _UNITS_MS[match[2]])


def _read_origin(query: Query) -> bool | None:
    """Return whether a record must be recovered; None if both kinds match."""
    origin = query.get("origin", "").strip()
    if origin not in ("", *_ORIGINS):
        raise BadRequest(f"origin: must be {' or '.join(_ORIGINS)} (got {origin[:40]!r})")
    return _ORIGINS.get(origin)


def _read_key(query: Query) -> str:
    key = query.get("key", "").strip().lower()
    if key and not _KEY.fullmatch(key):
        raise BadRequest(f"key: must be {KEY_DIGITS} hexadecimal digits (got {key[:40]!r})")
    return key


def read_before(query: Query) -> Pair | None:
    text = query.get("before", "")
    return parse_id(text) if text else None


def read_limit(query: Query) -> int:
    """Return the number of rows of a page."""
    text = query.get("limit", "")
    return parse_bounded("limit", text, 1, MAX_PAGE_ROWS) if text else PAGE_ROWS


def read_hashes(query: Query) -> HashRange:
    """Return the range of hashes of ``hash_start`` and ``hash_end``. Raises ``BadRequest``."""
    try:
        return parse_hashes(query)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def parse_bounded(name: str, text: str, least: int = 0, most: int = MAX_INTEGER) -> int:
    """Return the integer of the parameter ``name``. Raises ``BadRequest``."""
    try:
        return parse_integer(text, least, most)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from error


def _read_time(query: Query, name: str, default: int) -> int:
    text = query.get(name, "").strip()
    if not text:
        return default
    try:
        return parse_time(text, FOREVER)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from error
