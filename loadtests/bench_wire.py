"""How fast the streams of a sync are written and read, beside the bare parsers.

    python loadtests/bench_wire.py

One process, one core, seconds of the processor, the best of a few runs. The last column is the time
in parts of what the bare parser needs that makes objects of the same bytes, without any check:
msgpack's ``Unpacker``, ijson.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import ijson
import msgpack

from portable_core.records import Meta, Pair, Record
from portable_core.wire.negotiation import ENCODINGS, Reader, read_batches

PAIRS = 500_000
RECORDS = 20_000
LARGE = 8 * 2**20
CHUNK = 64 * 1024
RUNS = 3


def measure(work: Callable[[], object]) -> float:
    """Seconds of the processor that ``work`` takes, at best."""
    best = float("inf")
    for _ in range(RUNS):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def drain(chunks: Iterable[object]) -> None:
    for _ in chunks:
        pass


def split(data: bytes, size: int = CHUNK) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def parse(media_type: str, chunks: list[bytes], path: str) -> None:
    """Make objects of the stream with the parser alone."""
    if media_type == "application/json":
        values = ijson.sendable_list()
        parser = ijson.items_coro(values, path)
        for chunk in chunks:
            parser.send(chunk)
            values.clear()
        return
    unpacker = msgpack.Unpacker()
    for chunk in chunks:
        unpacker.feed(chunk)
        drain(unpacker)


def read_whole(make_reader: Callable[[], Reader[Any]], chunks: Iterable[bytes]) -> None:
    drain(read_batches(make_reader(), chunks))


def make_payload(source: random.Random) -> bytes:
    """Some 950 bytes of the kind that forges send."""
    author = {"name": "Ada Example", "email": "ada@example.com"}
    commits = [
        {
            "id": f"{source.getrandbits(160):040x}",
            "message": "Keep the order of events when two of them share a moment",
            "author": author,
            "added": ["docs/order.md"],
            "removed": [],
            "modified": ["src/events.py", "tests/test_events.py"],
        }
        for _ in range(2)
    ]
    owner = {"login": "ada", "id": source.getrandbits(31), "url": "https://api.example.com/u/ada"}
    event = {
        "ref": "refs/heads/main",
        "before": f"{source.getrandbits(160):040x}",
        "forced": False,
        "repository": {"id": source.getrandbits(31), "private": True, "owner": owner},
        "commits": commits,
        "note": "x" * 120,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def show(what: str, count: int, unit: str, seconds: float, size: float, bare: float | None) -> None:
    ratio = "" if bare is None else f"{seconds / bare:9.2f} ×"
    print(f"{what:34}{count / seconds / 1e6:8.3f} million {unit}/s{size:9.1f} bytes{ratio}")


def bench_stream(
    media_type: str,
    noun: str,
    count: int,
    encode: Callable[[], Iterable[bytes]],
    make_reader: Callable[[], Reader[Any]],
) -> None:
    data = b"".join(encode())
    chunks, size = split(data), len(data) / count
    show(f"write {noun}, {media_type}", count, noun, measure(lambda: drain(encode())), size, None)
    seconds = measure(partial(read_whole, make_reader, chunks))
    bare = measure(lambda: parse(media_type.partition(" ")[0], chunks, "item"))
    show(f"read {noun}, {media_type}", count, noun, seconds, size, bare)


def main() -> None:
    source = random.Random(1)
    pairs = [Pair(1_700_000_000_000 + 10 * i, source.getrandbits(32)) for i in range(PAIRS)]
    meta = Meta("forge", {"content-type": "application/json", "x-event": "push"})
    records = [Record(pair, make_payload(source), meta) for pair in pairs[:RECORDS]]
    gc.freeze()  # what the benchmark keeps for itself is not for the readers to collect
    print(f"{'':34}{'':24}{'on the wire':>17}{'÷ bare parser':>16}")
    for name, encoding in ENCODINGS.items():
        bench_stream(
            name, "pairs", PAIRS, partial(encoding.encode_pairs, pairs), encoding.read_pairs
        )
    for name, encoding in ENCODINGS.items():
        bench_stream(
            name,
            "records",
            RECORDS,
            partial(encoding.encode_records, records),
            encoding.read_records,
        )
    print(f"\nOne record of {LARGE // 2**20} MiB as base64, in small chunks against large ones:")
    json_encoding = ENCODINGS["application/json"]
    data = b"".join(json_encoding.encode_records([Record(Pair(1, 2), b"\xff" * LARGE)]))
    for size in (4096, CHUNK):
        chunks = split(data, size)
        ours = measure(partial(read_whole, json_encoding.read_records, chunks))
        bare = measure(partial(parse, "application/json", chunks, "item"))
        print(f"  chunks of {size:6}: {ours:6.3f} s, ijson {bare:6.3f} s")


if __name__ == "__main__":
    main()
