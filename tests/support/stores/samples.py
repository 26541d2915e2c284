"""Records to store: small, distinct, and with every part that a record may have."""

from __future__ import annotations

from portable_core.records import Meta, Pair, Record, Recovery

HOUR = 3_600_000
DAY = 24 * HOUR

#: A moment in the middle of an hour and of a day, so that a few steps stay within both.
NOON = 20_000 * DAY + 12 * HOUR + HOUR // 2


def make_record(timestamp: int, hash_: int = 1, payload: bytes = b"") -> Record:
    """A record whose payload and meta follow from its pair unless ``payload`` is given."""
    text = payload or b'{"timestamp": %d, "hash": %d}' % (timestamp, hash_)
    meta = Meta("shop", {"content-type": "application/json"}) if hash_ % 2 else Meta()
    recovery = Recovery("slave-1", timestamp + 1) if hash_ % 3 == 0 else None
    return Record(Pair(timestamp, hash_), text, meta, recovery)


def make_records(count: int, start: int = NOON, step: int = 10) -> list[Record]:
    return [make_record(start + step * index, index) for index in range(count)]
