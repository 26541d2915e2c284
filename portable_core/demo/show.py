"""What the demonstration prints: progress, two tables, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from portable_core.demo.check import Verdict, find_held
from portable_core.demo.cluster import Cluster
from portable_core.demo.traffic import Ledger
from portable_core.records import Record


class Progress:
    """A bar on a terminal; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
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

    def say(self, what: str) -> None:
        """One line that stays."""
        self._console.print(f"· {what}", highlight=False)

    def advance(self, done: int, total: int) -> None:
        """``done`` of ``total`` webhooks are on their way."""
        self._bar.update(self._task, completed=done, total=total)
        tenth = done * 10 // total
        if not self._console.is_terminal and tenth != self._tenth:
            self._tenth = tenth
            self.say(f"{done} of {total} webhooks sent")


def show_nodes(
    console: Console,
    ledger: Ledger,
    cluster: Cluster,
    before: Mapping[str, Sequence[Record]],
    after: Mapping[str, Sequence[Record]],
) -> None:
    """Per node: what it received and acknowledged, what it lacks of all that anybody acknowledged.

    The master's recovered are its records that came from slaves; a slave's, those it gave.
    """
    table = Table(title="Webhooks by node", title_justify="left")
    for column in ("node", "runs as", "received", "acknowledged"):
        table.add_column(column, justify="left" if column in ("node", "runs as") else "right")
    for column in ("missing before", "recovered", "missing after"):
        table.add_column(column, justify="right")
    origins = [record.recovery.slave for record in after[cluster.master.name] if record.recovery]
    for node in cluster.nodes:
        lacks = [
            len(ledger.kept_somewhere - find_held(ledger, records[node.name]).keys())
            for records in (before, after)
        ]
        recovered = len(origins) if node is cluster.master else -origins.count(node.name)
        table.add_row(
            node.name,
            node.kind,
            str(len(ledger.received[node.name])),
            str(len(ledger.acknowledged[node.name])),
            str(lacks[0]),
            str(recovered) if recovered >= 0 else f"gave {-recovered}",
            str(lacks[1]),
        )
    console.print(table)


def show_syncs(console: Console, reports: Sequence[Mapping[str, Any]]) -> None:
    """Per sync and slave: what went over the wire."""
    table = Table(title="Syncs", title_justify="left")
    table.add_column("slave")
    for column in ("pairs", "bytes sent", "bytes received", "records", "saved", "seconds"):
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


def show_verdict(console: Console, ledger: Ledger, verdict: Verdict) -> None:
    """One line that says whether the promises hold."""
    console.print(
        f"{len(ledger.kept_somewhere)} webhooks were acknowledged by at least one node; "
        f"the master lacks {verdict.missing} of them, holds {verdict.needless} needless copies "
        f"and {verdict.foreign} that nobody sent: "
        f"{'the promises hold' if verdict.holds else 'A PROMISE IS BROKEN'}.",
        highlight=False,
        soft_wrap=True,
    )
