"""Find webhooks of a provider's delivery log in the master's store, however late they came.

The time of a webhook in a log may lie hours before its delivery to a node: a provider retries. So
what is missing within a span is looked up by key, from its time in the log until now. Pairs are
read first, and the records of equal hashes only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from portable_core.payload_hash.canonical import read_values
from portable_core.payload_hash.pointers import parse_pointer
from portable_core.ports import Milliseconds, Store
from portable_core.records import MAX_INTEGER, Pair, Record

#: The most stored records of one hash whose keys are compared.
_MOST_CANDIDATES = 64


def find_by_key(
    store: Store, starts: Mapping[Pair, Milliseconds], keys: Mapping[Pair, str]
) -> set[Pair]:
    """Return the pairs whose key the store has in a record at or after the start of the pair."""
    if not starts:
        return set()
    wanted: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in starts:
        wanted[pair.hash].append(pair)
    candidates: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in store.pairs(min(starts.values()), MAX_INTEGER + 1):
        if pair.hash in wanted and len(candidates[pair.hash]) < _MOST_CANDIDATES:
            candidates[pair.hash].append(pair)
    found = set()
    for record in store.fetch([pair for pairs in candidates.values() for pair in pairs]):
        for pair in wanted[record.pair.hash]:
            late = record.pair.timestamp >= starts[pair]
            if late and record.meta.key and record.meta.key == keys[pair]:
                found.add(pair)
    return found


def find_by_identifier(
    store: Store,
    source: str,
    identifier: str,
    times: Mapping[str, Milliseconds],
    span: Milliseconds,
) -> set[str]:
    """Return which of these webhooks of a source have a record at most a span from their time.

    ``identifier`` is ``header:<name>`` or ``body:<JSON Pointer>``; ``times`` are by its value.
    """
    found = set()
    for start, end in merge_windows(sorted(times.values()), span):
        for record in store.records(start, end):
            if record.meta.source == source:
                text = read_identifier(identifier, record)
                if text in times and abs(record.pair.timestamp - times[text]) <= span:
                    found.add(text)
    return found


def read_identifier(identifier: str, record: Record) -> str:
    """Return the value by which a provider names the webhook of a record; empty if it has none."""
    place, _, name = identifier.partition(":")
    if place == "header":
        return record.meta.headers.get(name, "")
    try:
        (value,) = read_values(record.payload, (parse_pointer(name),))
    except ValueError:
        return ""
    return "" if value is None else value.decode("utf-8", "replace").strip('"')


def merge_windows(
    times: Sequence[Milliseconds], span: Milliseconds
) -> Iterator[tuple[Milliseconds, Milliseconds]]:
    """Return the windows that have the times, in order, and a span on either side of each."""
    start = end = None
    for time in times:
        if start is None or end is None or time - span > end:
            if start is not None and end is not None:
                yield start, end
            start = max(0, time - span)
        end = time + span + 1
    if start is not None and end is not None:
        yield start, end


def drop_repeats(records: Iterable[Record]) -> Iterator[Record]:
    """Return the records without those whose key came before."""
    seen = set()
    for record in records:
        if record.meta.key not in seen:
            seen.add(record.meta.key)
            yield record
