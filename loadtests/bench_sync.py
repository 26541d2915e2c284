"""``make bench-sync``: how fast a slave is checked, the bytes on the wire, and the memory it takes.

A real slave, as its container runs it, on one core, and a real master in a process of its own on
another. The slave holds records of about 1 kB, 10 ms apart, so that one span holds 12,000 of them;
the master lacks one in a hundred. A size is measured in both encodings, each time with processes
that have just been started.

"Checked" are the slave's records: each was compared with the master's pairs, and is either
represented there or was sent. Others use the machine too, so that beside the seconds that passed
there are the processor's own: what one core to itself would make of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.bench_sync_nodes import (
    MISSING_EVERY,
    SPACING_MS,
    SPAN_MS,
    fill_master,
    fill_slave,
    read_cpu,
    read_most_mib,
    run_child,
    serving,
)
from loadtests.machine import describe_machine

SIZES = (10_000, 100_000, 1_000_000)

TARGET_RATE = 150_000
TARGET_FROM = 100_000
TARGET_GROWTH_MIB = 32


@dataclass(frozen=True, slots=True)
class SyncMeasurement:
    """One sync. Processor seconds and MiB (at most) by process; bytes as the report has them."""

    records: int
    media_type: str
    seconds: float
    slave_cpu: float
    master_cpu: float
    slave_mib: float
    master_mib: float
    bytes_sent: int
    bytes_received: int
    windows: int
    first_missing_ms: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def slave_rate(self) -> float:
        """Of the slave with a core to itself."""
        return self.records / self.slave_cpu


def measure(place: Path, count: int, media_type: str, begin: int) -> SyncMeasurement:
    end = begin + count * SPACING_MS
    master = place / f"master-{count}-{ENCODING_NAMES[media_type]}"
    fill_master(master, count, begin)
    with serving(place / f"slave-{count}") as slave:
        before = read_cpu(slave.pid)
        report = run_child("master", master, slave.url, media_type)
        slave_cpu = read_cpu(slave.pid) - before
        slave_mib = read_most_mib(slave.pid)
        assert not report["error"], report
        assert report["behind_ms"] == 0, report
        assert report["saved"] == count // MISSING_EVERY, report
        shutil.rmtree(master)
        fill_master(master, count, begin)
        first = run_child("first-missing", master, slave.url, media_type, begin, end)
    shutil.rmtree(master)
    return SyncMeasurement(
        records=count,
        media_type=media_type,
        seconds=report["seconds"],
        slave_cpu=slave_cpu,
        master_cpu=report["cpu"],
        slave_mib=slave_mib,
        master_mib=report["mib"],
        bytes_sent=report["bytes_sent"],
        bytes_received=report["bytes_received"],
        windows=report["windows"],
        first_missing_ms=first["first_ms"],
    )


# -- the table -------------------------------------------------------------------------------------

ENCODING_NAMES: Mapping[str, str] = {
    "application/json": "json",
    "application/vnd.msgpack": "msgpack",
}


def show(console: Console, results: list[SyncMeasurement]) -> None:
    table = Table(title="One sync, 1 % missing", title_justify="left")
    for column in (
        *("records", "encoding", "windows", "seconds", "checked/s", "slave CPU s", "checked/CPU s"),
        *("master CPU s", "MB sent", "MB received", "slave MiB", "master MiB", "first missing ms"),
    ):
        table.add_column(column, justify="left" if column == "encoding" else "right")
    for result in results:
        table.add_row(
            f"{result.records:,}",
            ENCODING_NAMES[result.media_type],
            str(result.windows),
            f"{result.seconds:.2f}",
            f"{result.rate:,.0f}",
            f"{result.slave_cpu:.2f}",
            f"{result.slave_rate:,.0f}",
            f"{result.master_cpu:.2f}",
            f"{result.bytes_sent / 1e6:.1f}",
            f"{result.bytes_received / 1e6:.1f}",
            f"{result.slave_mib:.0f}",
            f"{result.master_mib:.0f}",
            f"{result.first_missing_ms:.0f}",
        )
    console.print(table)


def judge(results: list[SyncMeasurement]) -> dict[str, bool]:
    """The targets that these results are enough to judge."""
    verdicts: dict[str, bool] = {}
    for media_type, name in ENCODING_NAMES.items():
        mine = [result for result in results if result.media_type == media_type]
        small, large = mine[0], mine[-1]
        if name == "msgpack":
            for result in mine:
                if result.records >= TARGET_FROM:
                    text = f"{name}, {result.records:,}: {TARGET_RATE:,} records a second or more"
                    verdicts[text] = result.slave_rate >= TARGET_RATE
        if small.records < large.records:
            growth = max(large.slave_mib - small.slave_mib, large.master_mib - small.master_mib)
            text = f"{name}: memory grows by {growth:.0f} MiB, less than {TARGET_GROWTH_MIB}"
            verdicts[text] = growth < TARGET_GROWTH_MIB
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a sync.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="RECORDS")
    parser.add_argument("--folder", help="where the stores go; a temporary folder by default")
    options = parser.parse_args()
    console = Console(width=160)
    console.print(describe_machine())
    results: list[SyncMeasurement] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        for count in sorted(options.sizes):
            begin = int(time.time() * 1000) - 2 * SPAN_MS - count * SPACING_MS
            fill_slave(place / f"slave-{count}", count, begin)
            for media_type, name in ENCODING_NAMES.items():
                console.print(f"· {count:,} records, {name}")
                results.append(measure(place, count, media_type, begin))
            shutil.rmtree(place / f"slave-{count}")
    show(console, results)
    verdicts = judge(results)
    for text, holds in verdicts.items():
        console.print(f"{'✓' if holds else '✗'} {text}", highlight=False)
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
