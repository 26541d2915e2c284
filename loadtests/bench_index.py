"""``make bench-index``: what the index for searches costs a master that receives.

Two masters are up at the same time, pinned to the same core, one without the thread that indexes.
In each round both get a load with the same number of senders, one after the other, and the order
alternates; the other master is stopped meanwhile, because its thread would continue. The figure is
the ratio of their rates within a round.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from contextlib import ExitStack

from loadtests.bench_peers import BenchPeer, Server
from loadtests.generator import Load

_MASTER = ("serve", "--role", "master", "--host", "127.0.0.1")
_STORED = {"SYNC_TOKENS": "bench", "STORE": "sqlite:{folder}/store", "SLAVES": ""}

INDEXED = BenchPeer("with", (sys.executable, "-m", "portable_core", *_MASTER), _STORED)
UNINDEXED = BenchPeer(
    "without", (sys.executable, "-m", "loadtests.peers.unindexed_node", *_MASTER), _STORED
)


def measure(senders: int, rounds: int, seconds: float) -> list[tuple[Load, Load]]:
    """Return the loads of each round: with the index, and without it."""
    loads: list[tuple[Load, Load]] = []
    with ExitStack() as stack:
        indexed, plain = (stack.enter_context(Server(peer)) for peer in (INDEXED, UNINDEXED))
        for number in range(rounds + 1):
            order = (indexed, plain) if number % 2 else (plain, indexed)
            by_server = {
                server: _load_alone(server, other, senders, seconds)
                for server, other in zip(order, order[::-1], strict=True)
            }
            loads.append((by_server[indexed], by_server[plain]))
    return loads[1:]  # the first round warms both up


def _load_alone(server: Server, other: Server, senders: int, seconds: float) -> Load:
    os.kill(other.pid, signal.SIGSTOP)
    try:
        return server.load(senders, seconds)
    finally:
        os.kill(other.pid, signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2, help="of each load")
    parser.add_argument("--senders", default="1,64,256", help="numbers of senders")
    arguments = parser.parse_args()
    begun = time.monotonic()
    for senders in map(int, arguments.senders.split(",")):
        loads = measure(senders, arguments.rounds, arguments.seconds)
        ratios = sorted(indexed.rate / plain.rate for indexed, plain in loads)
        rates = [statistics.median(load.rate for load in some) for some in zip(*loads, strict=True)]
        print(
            f"{senders} senders: {rates[0]:,.0f} a second with the index, {rates[1]:,.0f} without; "
            f"with / without {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
