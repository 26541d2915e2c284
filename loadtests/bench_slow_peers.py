"""``make bench-slow-peers``: what 10,000 connections that never end cost 64 honest senders.

The rate of the honest senders is measured alone, beside the slow peers, and alone again, in short
loads; the ratio is that of the medians. The server has one core; the peers share the other one with
the senders.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.bench_peers import PEERS, Server
from loadtests.slow_peers import KINDS

_SENDERS = 64
_ROOT = Path(__file__).parents[1]


def _read_memory(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process in MiB: now, and the most since the last reset."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {words[0]: int(words[1]) / 1024 for words in lines if words[-1] == "kB"}
    return sizes["VmRSS:"], sizes["VmHWM:"]


def _measure(server: Server, rounds: int, seconds: float) -> list[float]:
    """Return the rates of some loads; one without a single response counts as 0."""
    rates: list[float] = []
    for _ in range(rounds):
        try:
            rates.append(server.load(_SENDERS, seconds).rate)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            rates.append(0.0)
    return rates


def _measure_kind(
    kind: str, count: int, rounds: int, seconds: float, buffer_bytes: int
) -> tuple[str, ...]:
    peer = PEERS[0]
    env = {
        **peer.env,
        "MAX_CONNECTIONS": str(count + 1000),
        "BUFFER_BYTES": str(buffer_bytes),
    }
    with Server(replace(peer, env=env)) as server:
        server.load(_SENDERS, seconds)
        alone = _measure(server, rounds, seconds)
        before, _ = _read_memory(server.pid)
        peers = subprocess.Popen(
            [
                *("taskset", "-c", "1", sys.executable, "-m", "loadtests.slow_peers"),
                *(str(server.port), kind, str(count)),
            ],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert peers.stdout is not None
        opened = peers.stdout.readline().strip()
        beside = _measure(server, rounds, seconds)
        now, peak = _read_memory(server.pid)
        ended = peers.communicate("")[0].strip()
        alone += _measure(server, rounds, seconds)
    ratio = statistics.median(beside) / statistics.median(alone)
    return (
        kind,
        f"{statistics.median(alone):,.0f}",
        f"{statistics.median(beside):,.0f}",
        f"{ratio:.2f}",
        f"{before:.0f}",
        f"{now:.0f}",
        f"{peak:.0f}",
        f"{opened}, {ended}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument(
        "--buffer", type=int, default=128 * 2**20, help="BUFFER_BYTES; bodies in files: 8 times"
    )
    parser.add_argument("--only", default="", help="parts of kinds, separated by |")
    given = parser.parse_args()
    table = Table(title=f"{_SENDERS} honest senders beside {given.peers:,} slow peers")
    for column in ("peers", "alone", "beside", "ratio", "MiB before", "with", "peak", ""):
        table.add_column(column, justify="left" if column in ("peers", "") else "right")
    for kind in KINDS:
        if any(part in kind for part in given.only.split("|")):
            row = _measure_kind(kind, given.peers, given.rounds, given.seconds, given.buffer)
            table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
