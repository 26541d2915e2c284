"""The records of a slave that a master lacks, found without changing either node."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from portable_core.cli.master_client import MasterClient
from portable_core.cli.responses import DOUBT
from portable_core.errors import AnswerInvalid, SlaveRefused, StreamCut, Unavailable
from portable_core.payload_hash.algorithms import ALGORITHMS
from portable_core.ports import (
    ALL_HASHES,
    HashRange,
    Milliseconds,
    SlaveClient,
    SlaveInfo,
    SyncRequest,
)
from portable_core.records import MAX_INTEGER, Pair, Record, format_id
from portable_core.sync.protocol import (
    PAIRS_PATH,
    THROUGH_HEADER,
    format_hashes,
    parse_integer,
)
from portable_core.wire.negotiation import ENCODINGS, Encoding, read_stream

_CHUNK_BYTES = 64 * 1024

#: The most parts into which the hashes are divided.
_MOST_PARTS = 2**16


class Comparison:
    """One comparison of the window ``[start, end)`` of a slave with a master.

    The slave does the comparison, as in a sync, but does not advance its retention. If too many
    pairs lie within few spans for the slave or for a proxy, it is divided by ranges of hashes.
    """

    def __init__(
        self,
        master: MasterClient,
        client: SlaveClient,
        info: SlaveInfo,
        algorithm: str,
        start: Milliseconds,
        end: Milliseconds,
    ) -> None:
        self._master = master
        self._client = client
        self._info = info
        self._algorithm = algorithm
        self._start = start
        self._end = end
        self._encoding: Encoding = next(
            (known for name, known in ENCODINGS.items() if name in info.encodings),
            ENCODINGS["application/json"],
        )

    def find_missing(self) -> Iterator[Record]:
        """Yield the records that are not represented in the master, in order within each part."""
        hashes = _count_hashes(self._algorithm)
        narrowest = max(hashes // _MOST_PARTS, 1)
        parts, returned = [ALL_HASHES], set[Pair]()
        while parts:
            part = parts.pop()
            try:
                for record in self._compare(part):
                    if record.pair not in returned:
                        returned.add(record.pair)
                        yield record
            except (SlaveRefused, StreamCut) as error:
                width = min(part.end, hashes) - part.start
                too_large = isinstance(error, StreamCut) or error.answered == 413
                if not (too_large and self._info.ranges and width > narrowest):
                    raise
                middle = part.start + width // 2
                parts += [HashRange(middle, part.end), HashRange(part.start, middle)]

    def _compare(self, part: HashRange) -> Iterator[Record]:
        info, start, end, encoding = self._info, self._start, self._end, self._encoding
        query = {"start": str(max(0, start - info.span)), "end": str(end + info.span)}
        query |= format_hashes(part)
        with self._master.open(PAIRS_PATH, query, encoding.media_type) as pairs:
            self._check_horizon(pairs.headers.get(THROUGH_HEADER, ""))
            request = SyncRequest(
                start,
                end,
                info.span,
                self._algorithm,
                encoding.media_type,
                self._read_pairs(pairs),
                compare_only=True,
                hashes=part,
            )
            with self._client.exchange(request) as answer:
                if answer.through < end:
                    raise AnswerInvalid("the slave's horizon has moved back. Try again.")
                last = Pair(start, -1)
                for record in read_stream(encoding.read_records(), answer.chunks):
                    if not last < record.pair < (end, 0) or record.pair.hash not in part:
                        raise AnswerInvalid(
                            f"the slave returned {format_id(record.pair)}, which is out of order "
                            "or outside the range of the request"
                        )
                    last = record.pair
                    yield record

    def _check_horizon(self, header: str) -> None:
        try:
            through = parse_integer(header)
        except ValueError as error:
            raise AnswerInvalid(
                f"{self._master.url}: header {THROUGH_HEADER}: {error}{DOUBT}"
            ) from error
        if through < self._end:
            raise Unavailable("the master's horizon has moved back. Try again.")

    def _read_pairs(self, pairs: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := pairs.read1(_CHUNK_BYTES):
                yield chunk
        except (http.client.HTTPException, OSError) as error:
            raise Unavailable(f"{self._master.url}: the pairs were cut: {error}") from error


def _count_hashes(algorithm: str) -> int:
    """Return the number of hashes of an algorithm; its name may end with a fingerprint."""
    row = ALGORITHMS.get(algorithm.partition("-")[0])
    return MAX_INTEGER + 1 if row is None else 1 << row.bits
