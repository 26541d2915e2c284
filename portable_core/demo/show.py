"""The output of the demonstration: progress, two tables, and the result of the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from portable_core.demo.check import CheckResult, count_copies
from portable_core.demo.cluster import Cluster
from portable_core.demo.traffic import Deliveries
from portable_core.records import Record


class DemoProgress:
    """A progress bar on a terminal; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("webhooks", total=None)
        self._tenth = -1

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def log(self, text: str) -> None:
        """Print a line that stays above the bar."""
        self._console.print(f"· {text}", highlight=False)

    def advance(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` webhooks were sent."""
        self._bar.update(self._task, completed=done, total=total)
        tenth = done * 10 // total
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            self.log(f"{done} of {total} webhooks sent")


def show_nodes(
    console: Console,
    deliveries: Deliveries,
    cluster: Cluster,
    before: Mapping[str, Sequence[Record]],
    after: Mapping[str, Sequence[Record]],
) -> None:
    """Print, for each node, the webhooks it received, acknowledged, lacks and recovered.

    A node lacks a webhook that another node has acknowledged. A slave's line shows how many of its
    records the master recovered.
    """
    table = Table(title="Webhooks by node", title_justify="left")
    for column in ("node", "runs as", "received", "acknowledged"):
        table.add_column(column, justify="left" if column in ("node", "runs as") else "right")
    for column in ("missing before", "recovered", "missing after"):
        table.add_column(column, justify="right")
    origins = [record.recovery.slave for record in after[cluster.master.name] if record.recovery]
    for node in cluster.nodes:
        lacks = [
            len(
                deliveries.acknowledged_somewhere
                - count_copies(deliveries, records[node.name]).keys()
            )
            for records in (before, after)
        ]
        recovered = len(origins) if node is cluster.master else -origins.count(node.name)
        table.add_row(
            node.name,
            node.kind,
            str(len(deliveries.received[node.name])),
            str(len(deliveries.acknowledged[node.name])),
            str(lacks[0]),
            str(recovered) if recovered >= 0 else f"{-recovered} by master",
            str(lacks[1]),
        )
    console.print(table)


def show_syncs(console: Console, reports: Sequence[Mapping[str, Any]]) -> None:
    """Print, for each sync and slave, what was sent and received."""
    table = Table(title="Syncs", title_justify="left")
    table.add_column("slave")
    for column in ("pairs", "bytes sent", "bytes received", "records", "recovered", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("error")
    for report in reports:
        for slave in report["slaves"]:
            table.add_row(
                slave["slave"],
                *(str(slave[name]) for name in ("pairs_sent", "bytes_sent", "bytes_received")),
                *(str(slave[name]) for name in ("records_received", "saved")),
                f"{slave['seconds']:.3f}",
                slave["error"],
            )
    console.print(table)


def show_log(console: Console, result: CheckResult, sent: int, requests: Sequence[int]) -> None:
    """Print one line: what the master has from the provider's delivery log.

    ``requests``: those of the syncs that fetched the webhooks, and of the one after them.
    """
    console.print(
        f"{sent} webhooks were sent while no node ran; the master has {sent - result.unlogged} of "
        f"them from the provider's delivery log, by {requests[0]} requests. The next sync made "
        f"{requests[1]}.",
        highlight=False,
        soft_wrap=True,
    )


def show_check(console: Console, deliveries: Deliveries, result: CheckResult) -> None:
    """Print one line: whether the promises hold."""
    console.print(
        f"{len(deliveries.acknowledged_somewhere)} webhooks were acknowledged by at least one "
        f"node; the master lacks {result.missing} of them and has {result.needless} needless "
        f"copies and {result.foreign} webhooks that were never sent: "
        f"{'the promises hold' if result.ok else 'A PROMISE IS BROKEN'}.",
        highlight=False,
        soft_wrap=True,
    )
