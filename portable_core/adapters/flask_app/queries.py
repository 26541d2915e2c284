"""What the address of a page asks for, read from its query."""

from __future__ import annotations

from datetime import UTC, datetime

from werkzeug.datastructures import MultiDict

from portable_core.browse import FOREVER, MAX_PAGE_ROWS, PAGE_ROWS, Search, parse_id
from portable_core.errors import BadRequest
from portable_core.records import MAX_INTEGER, Pair

Query = MultiDict[str, str]


def read_search(query: Query) -> Search:
    """The search of ``start``, ``end``, ``source``, ``hash``, ``id`` and ``value``; times are
    milliseconds or ISO 8601. An empty ``source`` asks for nothing, ``-`` for webhooks without one.
    Raises ``BadRequest``.
    """
    source = query.get("source", "").strip()
    hash_ = query.get("hash", "").strip()
    if hash_ and not (hash_.isascii() and hash_.isdecimal() and len(hash_) <= 16):
        raise BadRequest(f"hash: {hash_[:40]!r} is not a number")
    return Search(
        start=_read_time(query, "start", 0),
        end=_read_time(query, "end", FOREVER),
        source=None if not source else "" if source == "-" else source,
        hash=int(hash_) if hash_ else None,
        id=query.get("id", "").strip(),
        value=query.get("value", ""),
    )


def read_before(query: Query) -> Pair | None:
    text = query.get("before", "")
    return parse_id(text) if text else None


def read_limit(query: Query) -> int:
    """The rows of a page."""
    text = query.get("limit", "")
    if text and not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_PAGE_ROWS):
        raise BadRequest(f"limit: must be 1 to {MAX_PAGE_ROWS}")
    return int(text) if text else PAGE_ROWS


def _read_time(query: Query, name: str, default: int) -> int:
    text = query.get(name, "").strip()
    if not text:
        return default
    if text.isascii() and text.isdecimal():
        if int(text[:20]) > MAX_INTEGER + 1:
            raise BadRequest(f"{name}: is too large")
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(
            f"{name}: {text[:40]!r} is neither milliseconds nor a time like 2026-01-31T09:05"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, round(moment.timestamp() * 1000))
