"""``make cost``: instances, dollars a month and the first bottleneck, from 10 to 100,000 a second.

A model, not a measurement. Its inputs:

- the processor's time a webhook, and a pair of a sync: from ``reports/bench.json`` where ``make
  bench`` has written it (one core divided by the rate at 64 senders; the processor's time of both
  sides), else :data:`DEFAULT_RATE` and :data:`PAIRS_PER_S`;
- operations of Firestore: b commits are b writes, as the tests count them; a sync reads the
  segments of its window and a span on either side (see ``docs/firestore.md``);
- prices: ``prices.json``, with its date.

Layouts: one master and two slaves that all receive everything. ``sqlite``: each node is a machine
with a disk, one process a core; what one process cannot take is divided by source or by sender into
more nodes. ``firestore``: each node is a Cloud Run service with as many instances as it needs.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from portable_core.adapters.firestore.batches import COMMIT_WRITES

RATES = (10, 100, 1_000, 10_000, 100_000)

#: Durable webhooks a second of one core, where no benchmark says better.
DEFAULT_RATE = 1_500.0

#: Pairs a second that a sync reads, compares and writes with one core, likewise.
PAIRS_PER_S = 100_000.0

#: The share of a core that receiving may use; the rest is for syncs and bursts.
HEADROOM = 0.5

MONTH_S = 30 * 86_400
SPAN_S = 120.0
SYNC_EVERY_S = 300.0
NODES = 3

#: Of a commit to Firestore, and the most commits that a database's growing index takes.
COMMIT_S = 0.05
SEQUENTIAL_WRITES_PER_S = 500.0

#: An instance that receives reads a mark so often: a quarter of the default ``COMMIT_TIMEOUT_S``.
MARK_EVERY_S = 2.5

#: What a network disk of a small machine writes; the log, the file and its index are written.
DISK_BYTES_PER_S = 50e6
WRITTEN_TIMES = 2.5

#: Requests that one instance has at the same time, each on a thread of its own, and its memory:
#: ``containerConcurrency`` and the limit in ``containers/*/service.yaml``.
CONCURRENCY = 32
MEMORY_GIB = 1.0

#: Senders of one instance that may wait at once; the rest is for syncs and bursts.
WAITING_SENDERS = CONCURRENCY * HEADROOM

RECORD_BYTES = 2_000
RETENTION_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Estimate:
    """``instances`` of all nodes together; ``dollars`` a month; ``used``: share of each limit."""

    layout: str
    rate: int
    instances: int
    dollars: float
    used: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """What is nearest to its limit: the first thing to give way when more comes."""
        name = max(self.used, key=self.used.__getitem__)
        return f"{name} ({self.used[name]:.0%})"


def estimate_sqlite(
    rate: int, per_core: float, prices: dict[str, Any], pairs_per_s: float = PAIRS_PER_S
) -> Estimate:
    """Machines with disks, one process each on what the machine sustains of a core."""
    machine = prices["virtual machine"]
    per_core, pairs_per_s = per_core * machine["vCPU"], pairs_per_s * machine["vCPU"]
    shards = max(1, math.ceil(rate / (per_core * HEADROOM)))
    share = rate / shards
    disk_gb = rate * RETENTION_S * RECORD_BYTES / 1e9 * NODES
    dollars = shards * NODES * machine["dollars per month"]
    dollars += disk_gb * machine["disk dollars per GB month"]
    return Estimate(
        "sqlite",
        rate,
        shards * NODES,
        dollars,
        {
            "a core's time for webhooks": share / per_core,
            "a core's time for syncs": share * _compared() / pairs_per_s,
            "bytes to the disk": share * RECORD_BYTES * WRITTEN_TIMES / DISK_BYTES_PER_S,
        },
    )


def estimate_firestore(
    rate: int,
    per_core: float,
    prices: dict[str, Any],
    pairs_per_s: float = PAIRS_PER_S,
    linger_s: float = 1.0,
) -> Estimate:
    """Cloud Run services on Firestore; instances share a node's database."""
    instances = count_instances(rate, per_core, linger_s)
    commits = count_commits(rate, instances, linger_s)
    run = prices["cloud run"]
    second = run["dollars per vCPU second"] + MEMORY_GIB * run["dollars per GiB second"]
    nodes = [count_master(rate, instances, linger_s)]
    nodes += [count_slave(rate, instances, linger_s)] * (NODES - 1)
    dollars = sum(node.price(prices) for node in nodes) + NODES * instances * second * MONTH_S
    return Estimate(
        "firestore",
        rate,
        instances * NODES,
        dollars,
        {
            "a core's time for webhooks": rate / instances / per_core,
            "threads for waiting senders": _count_waiting(rate, linger_s)
            / instances
            / WAITING_SENDERS
            * HEADROOM,
            "the master's time for syncs": rate * _compared() / pairs_per_s,
            "commits on segments.key": commits / SEQUENTIAL_WRITES_PER_S,
        },
    )


def count_commits(rate: float, instances: int, linger_s: float) -> float:
    """Commits a second of all instances, for each of them of n webhooks a second
    b = 1 / (max(linger, commit) + e^(-n · commit) / n).

    A cycle is a linger or a commit, whichever is longer: a webhook that arrives during a commit has
    lingered meanwhile. If none arrives (probability e^(-n · commit)), the next arrives 1/n later.
    The linger ends early if none arrives for a quarter of it, as in the buffer.
    """
    each = rate / instances
    quarter = linger_s / 4
    company = 1 - math.exp(-each * quarter)
    linger = quarter * (1 + company + company**2 + company**3)
    cycle = max(linger, COMMIT_S) + math.exp(-each * COMMIT_S) / each
    return max(instances / cycle, rate / COMMIT_WRITES)


def _count_waiting(rate: float, linger_s: float) -> float:
    """Senders that wait for their commit at once, each on a thread of its own."""
    return rate * (linger_s + COMMIT_S)


def count_instances(rate: float, per_core: float, linger_s: float) -> int:
    """Instances of a node that shares a database, by their cores and by their threads."""
    return max(
        1,
        math.ceil(rate / (per_core * HEADROOM)),
        math.ceil(_count_waiting(rate, linger_s) / WAITING_SENDERS),
    )


@dataclass(frozen=True, slots=True)
class Documents:
    """What a node on Firestore is billed for in a month."""

    writes: float
    reads: float
    deletes: float = 0.0

    def price(self, prices: dict[str, Any]) -> float:
        """Dollars a month."""
        firestore = prices["firestore"]
        return float(
            self.writes / firestore["writes per dollar"]
            + self.reads / firestore["reads per dollar"]
            + self.deletes / firestore["deletes per dollar"]
        )


def count_master(rate: float, instances: int, linger_s: float) -> Documents:
    """It reads its segments, with a span on either side of each window, for every slave."""
    commits = count_commits(rate, instances, linger_s)
    reads = commits * _compared() + instances / MARK_EVERY_S
    return Documents(commits * MONTH_S, reads * MONTH_S)


def count_slave(rate: float, instances: int, linger_s: float) -> Documents:
    """It reads its segments for the sync and for retention, which deletes all that was written."""
    commits = count_commits(rate, instances, linger_s)
    written = commits * MONTH_S
    return Documents(written, (2 * commits + instances / MARK_EVERY_S) * MONTH_S, written)


def _read_again() -> float:
    """How often a segment is read: the window, and a span on either side."""
    return (SYNC_EVERY_S + 2 * SPAN_S) / SYNC_EVERY_S


def _compared() -> float:
    """Pairs that the master sends in syncs for each webhook: to each slave, spans included."""
    return (NODES - 1) * _read_again()


def read_figures(report: Path) -> tuple[float, float, str]:
    """Webhooks a second of one core, pairs of a sync likewise, and where the figures are from."""
    if report.exists():
        document = json.loads(report.read_text())
        rates = [
            row["rates"]
            for row in document["receive"]
            if row["server"] == "slave, container" and row["senders"] == 64
        ]
        date = document["machine"]["date"]
        return median(rates[0]), median(document["sync"]["a sync"]), f"measured on {date[:10]}"
    return DEFAULT_RATE, PAIRS_PER_S, "assumed; make bench measures it"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--per-core", type=float, help="webhooks a second of one core")
    parser.add_argument("--report", type=Path, default=Path("reports/bench.json"))
    parser.add_argument("--prices", type=Path, default=Path(__file__).with_name("prices.json"))
    parser.add_argument("--linger-s", type=float, default=1.0, help="LINGER_MS on Firestore")
    options = parser.parse_args()
    prices = json.loads(options.prices.read_text())
    per_core, pairs, source = read_figures(options.report)
    if options.per_core:
        per_core, source = options.per_core, "given"
    print(
        f"One core: {1e6 / per_core:,.0f} µs a webhook, {1e6 / pairs:.1f} µs a pair of a sync "
        f"({source}); {HEADROOM:.0%} of it is used.\n"
        f"Firestore: b commits are b writes; a sync reads their segments "
        f"{_read_again():.1f} times; LINGER_MS={options.linger_s * 1000:.0f}.\n"
        f"Prices of {prices['date']}. One master and {NODES - 1} slaves that all receive "
        "everything, a sync every 5 minutes."
    )
    table = Table()
    for column in ("layout", "webhooks/s", "instances", "dollars a month", "first bottleneck"):
        table.add_column(column, justify="left" if column[:2] in ("la", "fi") else "right")
    for rate in RATES:
        for each in (
            estimate_sqlite(rate, per_core, prices, pairs),
            estimate_firestore(rate, per_core, prices, pairs, options.linger_s),
        ):
            table.add_row(
                *(each.layout, f"{rate:,}", f"{each.instances:,}", f"{each.dollars:,.0f}"),
                each.bottleneck,
            )
    Console(width=110).print(table)
    print("Above 100 %: one node cannot do it; divide senders among several masters and slaves.")


if __name__ == "__main__":
    main()
