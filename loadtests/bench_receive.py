"""``make bench-receive``: durable webhooks a second beside plain applications, in one run.

All servers are up at the same time, each pinned to one core, and the load generator to another.
Short loads on one server at a time follow each other in random order, so that a change of the
machine's speed meets all of them. The figures to compare are the ratios within one round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.bench_peers import COMPARED, EARLIER, OURS, PEERS, BenchPeer, Server, find_earlier
from loadtests.generator import Load

SENDERS = (1, 16, 64, 256, 1000)

#: Webhooks a second of open loads, and the connections that they may use.
_RATES = (500, 2000, 4000)
_OPEN_SENDERS = 256
_OPEN = (OURS, EARLIER, "Starlette + group commit", "FastAPI + aiosqlite")

#: Loads by server and by senders (or rate), one for each round.
Loads = dict[tuple[str, int], list[Load]]


def measure_closed(
    servers: Sequence[Server], rounds: int, seconds: float, senders: Sequence[int]
) -> Loads:
    """Measure every server with every number of senders, once a round."""
    loads: Loads = defaultdict(list)
    for number in range(rounds):
        for count in senders:
            fitting = [server for server in servers if count <= server.peer.most]
            for server in random.Random(number).sample(fitting, len(fitting)):
                loads[server.peer.name, count].append(server.load(count, seconds))
    return loads


def measure_open(servers: Sequence[Server], rounds: int, seconds: float) -> Loads:
    """Measure some servers at fixed rates."""
    loads: Loads = defaultdict(list)
    some = [server for server in servers if server.peer.name in _OPEN]
    for number in range(rounds):
        for rate in _RATES:
            for server in random.Random(number).sample(some, len(some)):
                loads[server.peer.name, rate].append(server.load(_OPEN_SENDERS, seconds, rate))
    return loads


def list_rows(loads: Loads) -> list[dict[str, object]]:
    """Return a row for each server and number of senders: all rates, and medians of the rest."""
    return [
        {
            "server": name,
            "senders": senders,
            "rates": [load.rate for load in some],
            "p50": statistics.median(load.p50 for load in some),
            "p99": statistics.median(load.p99 for load in some),
            "refused": sum(load.refused for load in some),
        }
        for (name, senders), some in loads.items()
    ]


def run(rounds: int, seconds: float, senders: Sequence[int] = (1, 64)) -> list[dict[str, object]]:
    """Measure every peer with these numbers of senders, for ``make bench``."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(peer)) for peer in PEERS]
        return list_rows(measure_closed(servers, rounds, seconds, senders))


def _print_closed(console: Console, loads: Loads) -> None:
    table = Table(title="Webhooks a second, one core for the server (median; spread of the rounds)")
    for column in ("server", "senders", "a second", "spread", "p50 ms", "p99 ms", "refused"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for (name, senders), some in sorted(loads.items(), key=lambda item: item[0][1]):
        rates = [load.rate for load in some]
        table.add_row(
            name,
            str(senders),
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            f"{statistics.median(load.p50 for load in some):.1f}",
            f"{statistics.median(load.p99 for load in some):.1f}",
            str(sum(load.refused for load in some)),
        )
    console.print(table)


def _print_ratios(console: Console, loads: Loads) -> None:
    counts = sorted({senders for _, senders in loads})
    table = Table(title="Ratios of rates within a round (median; spread of the rounds)")
    table.add_column("ours / peer")
    for count in counts:
        table.add_column(f"{count:,}", justify="right")
    for ours, peer in COMPARED:
        cells = [_describe_ratio(loads, (ours, count), (peer, count)) for count in counts]
        if any(cells):
            table.add_row(f"{ours} / {peer}", *cells)
    console.print(table)


def _describe_ratio(
    loads: Mapping[tuple[str, int], Sequence[Load]], ours: tuple[str, int], peer: tuple[str, int]
) -> str:
    if ours not in loads or peer not in loads:
        return ""
    ratios = sorted(a.rate / b.rate for a, b in zip(loads[ours], loads[peer], strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def _print_open(console: Console, loads: Loads) -> None:
    table = Table(
        title="Latency at a fixed rate, from when a webhook was due, in ms (median of the rounds)"
    )
    for column in ("server", "due a second", "done", "p50", "p90", "p99", "p99.9", "refused"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for (name, rate), some in sorted(loads.items(), key=lambda item: item[0][1]):
        quantiles = (
            [load.p50 for load in some],
            [load.p90 for load in some],
            [load.p99 for load in some],
            [load.p999 for load in some],
        )
        table.add_row(
            name,
            f"{rate:,}",
            f"{statistics.median(load.rate for load in some):,.0f}",
            *(f"{statistics.median(values):,.1f}" for values in quantiles),
            str(sum(load.refused for load in some)),
        )
    console.print(table)


def _choose(names: str, earlier: Path | None) -> list[BenchPeer]:
    peers = [*PEERS, *([find_earlier(earlier.resolve())] if earlier else [])]
    return [peer for peer in peers if any(name in peer.name for name in names.split("|"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="of each load")
    parser.add_argument("--senders", default=",".join(map(str, SENDERS)), help="numbers of senders")
    parser.add_argument("--only", default="", help="parts of servers' names, separated by |")
    parser.add_argument("--earlier", type=Path, help="a checkout of another version, with .venv")
    parser.add_argument("--open-rounds", type=int, default=3, help="of loads at fixed rates")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    senders = [int(count) for count in arguments.senders.split(",")]
    begun = time.monotonic()
    with ExitStack() as stack:
        peers = _choose(arguments.only, arguments.earlier)
        servers = [stack.enter_context(Server(peer)) for peer in peers]
        closed = measure_closed(servers, arguments.rounds, arguments.seconds, senders)
        opened = measure_open(servers, arguments.open_rounds, 3 * arguments.seconds)
    console = Console(width=160)
    _print_closed(console, closed)
    _print_ratios(console, closed)
    if opened:
        _print_open(console, opened)
    console.print(f"{time.monotonic() - begun:.0f} s")
    if arguments.json:
        document = {
            kind: [
                {"server": name, "load": load, "rounds": [asdict(each) for each in some]}
                for (name, load), some in loads.items()
            ]
            for kind, loads in (("closed", closed), ("open", opened))
        }
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
