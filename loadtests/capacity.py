"""``make cost``: instances, dollars a month and the first bottleneck, from 10 to 100,000 a second.

A model, not a measurement. Its inputs:

- the processor's time a webhook, and a pair of a sync: from ``reports/bench.json`` where ``make
  bench`` has written it (one core divided by the rate at 64 senders; the processor's time of both
  sides), else :data:`DEFAULT_RATE` and :data:`PAIRS_PER_S`;
- operations of Firestore: b commits are b writes, as the tests count them; a sync reads the
  segments of its window and a span on either side (see ``docs/firestore.md``);
- bytes that Firestore stores for a webhook, measured by the size of its batch;
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
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from portable_core.adapters.firestore.segments import SEGMENT_RECORDS, VALUES_BYTES
from portable_core.store_kinds import STORE_KINDS

RATES = (10, 100, 1_000, 10_000, 100_000)

#: Durable webhooks a second of one core, where no benchmark says better.
DEFAULT_RATE = 1_500.0

#: Pairs a second that a sync reads, compares and writes with one core, likewise.
PAIRS_PER_S = 100_000.0

#: The share of a core, and of an instance's requests, that receiving may use; the rest is for syncs
#: and bursts.
HEADROOM = 0.5

MONTH_S = 30 * 86_400
SPAN_S = 120.0
SYNC_EVERY_S = 300.0
NODES = 3

#: Of a commit to Firestore, and the most commits that a database's growing index takes.
COMMIT_S = 0.05
SEQUENTIAL_WRITES_PER_S = 500.0

#: The default of ``LINGER_MS`` on Firestore.
LINGER_S = STORE_KINDS["firestore"].default_linger_ms / 1000

#: An instance that receives reads a mark so often: a quarter of the default ``COMMIT_TIMEOUT_S``.
MARK_EVERY_S = 2.5

#: What a network disk of a small machine writes; the log, the file and its index are written.
DISK_BYTES_PER_S = 50e6
WRITTEN_TIMES = 2.5

#: Requests that one instance has at the same time, and its memory: ``containerConcurrency`` and the
#: limit in ``containers/*/service.yaml``. Webhooks wait on the event loop, without a thread.
CONCURRENCY = 1000
MEMORY_GIB = 1.0

#: Senders of one instance that may wait at once.
WAITING_SENDERS = CONCURRENCY * HEADROOM

#: Bytes of a payload, and of a response to a sender with the headers that the platform adds.
RECORD_BYTES = 3_200
RESPONSE_BYTES = 400

#: Bytes of a pair in a request of a sync, and that Firestore stores for a webhook of
#: :data:`RECORD_BYTES`, by the number of webhooks in a batch: measured on GitHub's payloads of 2 to
#: 4 kB with other numbers and ids in each, indexes and names included.
PAIR_BYTES = 14
STORED_BYTES = ((1, 1160), (5, 530), (20, 260), (75, 175), (100, 145), (500, 125))

RETENTION_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Estimate:
    """``instances`` of all nodes together; dollars are a month's; ``used``: share of each limit.

    ``database``: dollars of Firestore or of disks, storage included.
    """

    layout: str
    rate: int
    instances: int
    machines: float
    database: float
    traffic: float
    used: dict[str, float]

    @property
    def dollars(self) -> float:
        return self.machines + self.database + self.traffic

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
    return Estimate(
        "sqlite",
        rate,
        shards * NODES,
        shards * NODES * machine["dollars per month"],
        disk_gb * machine["disk dollars per GB month"],
        _price_traffic(rate, prices),
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
    linger_s: float = LINGER_S,
    *,
    copies: bool = False,
) -> Estimate:
    """Cloud Run services on Firestore; instances share a node's database.

    ``copies``: with ``FIRESTORE_DATA=1``.
    """
    instances = count_instances(rate, per_core, linger_s)
    commits = count_commits(rate, instances, linger_s)
    run = prices["cloud run"]
    second = run["dollars per vCPU second"] + MEMORY_GIB * run["dollars per GiB second"]
    nodes = [count_master(rate, instances, linger_s, copies=copies)]
    nodes += [count_slave(rate, instances, linger_s, copies=copies)] * (NODES - 1)
    return Estimate(
        "firestore",
        rate,
        instances * NODES,
        NODES * instances * second * MONTH_S,
        sum(node.price(prices) for node in nodes),
        _price_traffic(rate, prices),
        {
            "a core's time for webhooks": rate / instances / per_core,
            "waiting senders": _count_waiting(rate, linger_s) / instances / CONCURRENCY,
            "the master's time for syncs": rate * _compared() / pairs_per_s,
            "commits on segments.key": commits / SEQUENTIAL_WRITES_PER_S,
        },
    )


def _price_traffic(rate: float, prices: dict[str, Any]) -> float:
    """Dollars a month: responses to senders leave the cloud, pairs of syncs a region."""
    network = prices["network"]
    out = rate * RESPONSE_BYTES * NODES * network["dollars per GB to senders"]
    pairs = rate * _compared() * PAIR_BYTES * network["dollars per GB between regions"]
    return float((out + pairs) * MONTH_S / 1e9)


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
    full = max(rate / SEGMENT_RECORDS, rate * RECORD_BYTES / VALUES_BYTES)
    return max(instances / cycle, full)


def _count_waiting(rate: float, linger_s: float) -> float:
    """The most senders that wait for their commit at once."""
    return rate * (linger_s + COMMIT_S)


def count_instances(rate: float, per_core: float, linger_s: float) -> int:
    """Instances of a node that shares a database, by their cores and by waiting senders."""
    return max(
        1,
        math.ceil(rate / (per_core * HEADROOM)),
        math.ceil(_count_waiting(rate, linger_s) / WAITING_SENDERS),
    )


def measure_stored(batch: float) -> float:
    """Return the bytes that Firestore stores for a webhook of a batch of this size."""
    sizes = [(math.log(size), stored) for size, stored in STORED_BYTES]
    at = min(max(math.log(batch), sizes[0][0]), sizes[-1][0])
    for (low, first), (high, second) in pairwise(sizes):
        if at <= high:
            return first + (second - first) * (at - low) / (high - low)
    return sizes[-1][1]


@dataclass(frozen=True, slots=True)
class Documents:
    """What a node on Firestore is billed for in a month."""

    writes: float
    reads: float
    deletes: float = 0.0
    stored_gib: float = 0.0

    def price(self, prices: dict[str, Any]) -> float:
        """Dollars a month."""
        firestore = prices["firestore"]
        return float(
            self.writes / firestore["writes per dollar"]
            + self.reads / firestore["reads per dollar"]
            + self.deletes / firestore["deletes per dollar"]
            + self.stored_gib * firestore["storage dollars per GiB month"]
        )


def count_master(
    rate: float, instances: int, linger_s: float, *, copies: bool = False
) -> Documents:
    """It reads its segments, with a span on either side of each window, for every slave.

    A TTL policy deletes what was written, without reads.
    """
    return _count(rate, instances, linger_s, _compared(), copies)


def count_slave(rate: float, instances: int, linger_s: float, *, copies: bool = False) -> Documents:
    """It reads its segments for the sync and for retention, which deletes all that was written."""
    return _count(rate, instances, linger_s, 2, copies)


def _count(
    rate: float, instances: int, linger_s: float, reads_again: float, copies: bool
) -> Documents:
    commits = count_commits(rate, instances, linger_s)
    written = (commits + (rate if copies else 0)) * MONTH_S
    stored = measure_stored(rate / commits) + (2 * RECORD_BYTES if copies else 0)
    return Documents(
        written,
        (commits * reads_again + instances / MARK_EVERY_S) * MONTH_S,
        written,
        rate * RETENTION_S * stored / 2**30,
    )


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
    parser.add_argument("--linger-s", type=float, default=LINGER_S, help="LINGER_MS on Firestore")
    parser.add_argument("--copies", action="store_true", help="with FIRESTORE_DATA=1")
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
        f"everything, payloads of {RECORD_BYTES:,} bytes,\n"
        "a sync every 5 minutes, records kept for 7 days on each node. Dollars a month:"
    )
    table = Table()
    for column in COLUMNS:
        table.add_column(
            column, justify="left" if column in COLUMNS[:1] + COLUMNS[-1:] else "right"
        )
    for rate in RATES:
        for each in (
            estimate_sqlite(rate, per_core, prices, pairs),
            estimate_firestore(
                rate, per_core, prices, pairs, options.linger_s, copies=options.copies
            ),
        ):
            table.add_row(*format_row(each))
    Console(width=124).print(table)
    print("Above 100 %: one node cannot do it; divide senders among several masters and slaves.")


COLUMNS = ("layout", "webhooks/s", "instances", "machines", "database", "traffic", "all", "limit")


def format_row(each: Estimate) -> tuple[str, ...]:
    """Return the cells of :data:`COLUMNS`."""
    dollars = (each.machines, each.database, each.traffic, each.dollars)
    return (
        each.layout,
        f"{each.rate:,}",
        f"{each.instances:,}",
        *(f"{value:,.0f}" for value in dollars),
        each.bottleneck,
    )


if __name__ == "__main__":
    main()
