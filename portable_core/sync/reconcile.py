"""Find the pairs of one sorted stream that are missing from another.

The one rule of the sync: a pair of ours is *represented* in theirs if theirs has a pair with the
same hash and a timestamp at most one span away. Both streams are in order of their timestamps, so a
pair of ours is decided as soon as theirs has been read one span past it, and memory holds only the
pairs within a few spans of the current one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from portable_core.errors import StreamTooLarge
from portable_core.records import Pair

#: The most different hashes of theirs in memory, those of four spans at most. One costs about 170
#: bytes; 1,000 webhooks a second and a span of two minutes make 480,000.
MAX_HELD = 1_000_000

#: The most pairs in one run.
RUN_LENGTH = 64

_BEFORE, _AFTER = -(2**62), 2**62  # all timestamps


def find_missing(
    ours: Iterable[Pair],
    theirs: Iterable[Sequence[Pair]],
    span: int,
    *,
    run_length: int = RUN_LENGTH,
    max_held: int = MAX_HELD,
) -> Iterator[list[Pair]]:
    """Return our pairs that are not represented in theirs, in order, in runs of several.

    ``ours`` is in order; ``theirs`` comes in batches as they arrive, with timestamps that never
    decrease; ``span`` is in milliseconds. A missing pair is returned before the next batch of
    theirs is awaited. When ours is exhausted, theirs is still read to its end, so that an error in
    it (a cut, a wrong order) is always raised.

    Raises the errors of ``theirs``; no pair was returned before that a later pair of theirs could
    still have represented. Raises :class:`StreamTooLarge` if theirs has more than ``max_held``
    different hashes within a few spans.
    """
    # One loop with everything in it: a function call per pair would double the cost.
    batches = iter(theirs)
    rest: Iterator[Pair] = iter(())
    pending = False  # whether the next pair of theirs was read, but is beyond the span of ours
    next_time, next_hash = _BEFORE, 0
    # By hash, the newest timestamp. A pair read two spans or more before the newest one moves to
    # `older` and is dropped two spans later: it then lies more than a span before our pair, which
    # is at most a span before the newest pair of theirs.
    newest: dict[int, int] = {}
    older: dict[int, int] = {}
    turned = _BEFORE
    run: list[Pair] = []
    for pair in ours:
        timestamp, hash_ = pair
        if next_time <= timestamp + span:
            last = timestamp + span
            if pending:
                newest[next_hash] = next_time
                pending = False
            while not pending:
                for next_time, next_hash in rest:  # the last one is kept on purpose
                    if next_time > last:
                        pending = True
                        break
                    newest[next_hash] = next_time
                else:
                    if len(newest) + len(older) > max_held:
                        raise StreamTooLarge(
                            f"more than {max_held} hashes lie within a few spans of {timestamp}; "
                            "request a range of hashes (hash_start, hash_end)"
                        )
                    if next_time - turned > 2 * span:
                        newest, older, turned = {}, newest, next_time
                    if run:
                        yield run
                        run = []
                    batch = next(batches, None)
                    if batch is None:
                        next_time = _AFTER
                        break
                    if batch and batch[-1][0] >= timestamp - span:
                        rest = iter(batch)
        seen = newest.get(hash_)
        if seen is None:
            seen = older.get(hash_, _BEFORE)
        if seen < timestamp - span:
            run.append(pair)
            if len(run) >= run_length:
                yield run
                run = []
    if run:
        yield run
    for _ in batches:
        pass
