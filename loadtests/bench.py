"""``make bench``: hash, receive and sync beside their peers, in one report.

Every round measures each contender once, so that whatever else the machine does hits all alike; a
ratio is taken within a round, and the report gives the median of the rounds' ratios with their
spread. Figures of different runs, or machines, are not to be compared; ratios are.

Peers: of the hash, ``orjson.loads`` (the parser alone) and what one would write first (``json``,
sorted keys, CRC32C); of receiving, plain applications and the servers storing nothing; of a sync,
what one would write first as well (all ids as one JSON text, and the difference of two sets).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import bench_receive, bench_sync
from loadtests.bench_hash import CONTENDERS, make_sets, race
from loadtests.bench_sync_nodes import SPACING_MS, fill_slave
from loadtests.machine import describe_machine
from loadtests.plots import plot_peers
from portable_core.adapters.sqlite.reader import TABLE
from portable_core.records import parse_sort_key

_ROOT = Path(__file__).parents[1]
_HASH_SETS = ("real payloads, compact as on the wire", "150 B", "100 kB")
_SYNC_RECORDS = 100_000
_SYNC_TYPE = "application/vnd.msgpack"

Rounds = dict[str, list[float]]


def bench_hash(rounds: int, seconds: float) -> dict[str, Rounds]:
    """By payload set: MB a second of each contender, by round."""
    sets = make_sets()
    results: dict[str, Rounds] = {name: defaultdict(list) for name in _HASH_SETS}
    for _ in range(rounds):
        for name in _HASH_SETS:
            size = sum(map(len, sets[name]))
            for contender, taken in race(CONTENDERS, sets[name], seconds).items():
                results[name][contender].append(size / taken / 1e6)
    return results


def bench_sync_peers(rounds: int) -> Rounds:
    """Records checked by a second of all processors' time: a whole sync, and the plain way."""
    results: Rounds = defaultdict(list)
    place = Path(tempfile.mkdtemp(prefix="bench-sync-", dir=_ROOT))
    begin = time.time_ns() // 1_000_000 - _SYNC_RECORDS * SPACING_MS - 600_000
    try:
        slave = place / f"slave-{_SYNC_RECORDS}"
        fill_slave(slave, _SYNC_RECORDS, begin)
        for _ in range(rounds):
            result = bench_sync.measure(place, _SYNC_RECORDS, _SYNC_TYPE, begin)
            results["a sync"].append(_SYNC_RECORDS / (result.slave_cpu + result.master_cpu))
            results["ids as JSON, sets"].append(_SYNC_RECORDS / _compare_plainly(slave))
            results["bytes a record on the wire"].append(
                (result.bytes_sent + result.bytes_received) / _SYNC_RECORDS
            )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return results


def _compare_plainly(folder: Path) -> float:
    """Processor seconds of reading all ids on both sides, as JSON, and a difference of sets."""
    begun = time.process_time()
    texts = []
    for _ in ("slave", "master"):
        pairs: list[tuple[int, int]] = []
        for file in sorted(folder.glob("[0-9]*.sqlite3")):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                query = f'SELECT key FROM "{TABLE}"'
                for row in connection.execute(query):
                    timestamp, hash_ = parse_sort_key(_read_key(row[0]))
                    pairs.append((timestamp, hash_))
        texts.append(json.dumps(pairs))
    theirs, ours = ({tuple(pair) for pair in json.loads(text)} for text in texts)
    if theirs - ours:
        raise RuntimeError("the same file differs from itself")
    return time.process_time() - begun


def _read_key(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key


def compare(rounds: Mapping[str, Sequence[float]], ours: str, peer: str) -> list[float]:
    """The ratio of ours to a peer, round by round."""
    return [a / b for a, b in zip(rounds[ours], rounds[peer], strict=True)]


def describe_spread(values: Sequence[float]) -> str:
    """Median, least and most; large figures without decimals."""
    form = ",.0f" if median(values) >= 100 else ".2f"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _list_receive(rows: list[dict[str, Any]], senders: int) -> Rounds:
    return {row["server"]: row["rates"] for row in rows if row["senders"] == senders}


def _list_ratios(
    hashes: Mapping[str, Rounds], receive: Rounds, sync: Rounds
) -> list[tuple[str, list[float]]]:
    ratios = []
    for name, rounds in hashes.items():
        ratios.append((f"hash / orjson.loads alone, {name}", compare(rounds, "hash", "loads")))
        ratios.append((f"hash / json, sorted, {name}", compare(rounds, "hash", "json")))
    container = "slave, container"
    for ours, peer in (
        (container, "slave, container, nothing stored"),
        (container, "FastAPI + aiosqlite"),
        (container, "Flask + sqlitedict"),
        ("slave, gunicorn threads", "nothing stored (gunicorn threads)"),
        ("slave, function", "nothing stored (function)"),
    ):
        ratios.append((f"{ours} / {peer}, 64 senders", compare(receive, ours, peer)))
    ratios.append(("sync / ids as JSON, sets", compare(sync, "a sync", "ids as JSON, sets")))
    return ratios


def _write(
    out: Path,
    rounds: int,
    hashes: Mapping[str, Rounds],
    rows: list[dict[str, Any]],
    sync: Rounds,
) -> str:
    machine = describe_machine()
    receive = _list_receive(rows, 64)
    ratios = _list_ratios(hashes, receive, sync)
    document = {
        "machine": machine,
        "rounds": rounds,
        "ratios": dict(ratios),
        "hash MB/s": hashes,
        "receive": rows,
        "sync": sync,
    }
    (out / "bench.json").write_text(json.dumps(document, indent=1))
    plot_peers(hashes[_HASH_SETS[0]], f"Hash: {_HASH_SETS[0]}", "MB/s", out / "bench-hash.png")
    plot_peers(
        receive, "Receiving, 64 senders, one core", "durable webhooks/s", out / "bench-receive.png"
    )
    peers = {name: values for name, values in sync.items() if not name.startswith("bytes")}
    title = f"Sync of {_SYNC_RECORDS:,} records"
    plot_peers(peers, title, "records by a second of all processors", out / "bench-sync.png")
    lines = ["# Benchmarks", "", *(f"- {key}: {value}" for key, value in machine.items())]
    lines += ["", f"## Ratios within a round: median of {rounds} rounds (spread)", ""]
    lines += ["Speed by speed: above 1 is faster than the peer.", ""]
    lines += ["| ours / peer | ratio |", "| --- | ---: |"]
    lines += [f"| {name} | {describe_spread(values)} |" for name, values in ratios]
    lines += ["", "## Hash, MB a second", "", "| payloads | contender | median (spread) |"]
    lines += ["| --- | --- | ---: |"]
    lines += [
        f"| {name} | {contender} | {describe_spread(values)} |"
        for name, by in hashes.items()
        for contender, values in by.items()
    ]
    lines += ["", "![hash](bench-hash.png)", "", "## Receiving, one core", ""]
    lines += ["| server | senders | a second, median (spread) | p50 ms | p99 ms | refused |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row['server']} | {row['senders']} | {describe_spread(row['rates'])} | "
        f"{row['p50']:.1f} | {row['p99']:.1f} | {row['refused']:.0f} |"
        for row in rows
    ]
    lines += ["", "![receive](bench-receive.png)", "", f"## {title}", ""]
    lines += ["1 % missing, MessagePack; records by a second of all processors' time.", ""]
    lines += ["| | median (spread) |", "| --- | ---: |"]
    lines += [f"| {name} | {describe_spread(values)} |" for name, values in sync.items()]
    lines += ["", "![sync](bench-sync.png)"]
    text = "\n".join([*lines, ""])
    (out / "bench.md").write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load while receiving")
    parser.add_argument("--out", type=Path, default=_ROOT / "reports")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    hashes = bench_hash(options.rounds, 0.5)
    sync = bench_sync_peers(options.rounds)
    rows = bench_receive.run(options.rounds, options.seconds)
    print(_write(options.out, options.rounds, hashes, rows, sync))
    print(f"report: {options.out / 'bench.md'}")


if __name__ == "__main__":
    main()
