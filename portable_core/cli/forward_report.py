"""What ``forward`` prints: progress in a terminal, JSON lines otherwise."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Protocol

import click
from rich.console import Console
from rich.progress import Progress, TextColumn

from portable_core.cli.output import printable
from portable_core.text import format_time
from portable_core.webhooks.forward import Counts, Event

#: JSON lines with the counts are printed that often, in seconds.
_LINE_S = 10.0


class Reporter(Protocol):
    """Prints events and counts, from any thread."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> None: ...
    def show_event(self, event: Event) -> None: ...
    def show_counts(self, counts: Counts) -> None: ...
    def warn(self, text: str) -> None: ...
    def end(self, counts: Counts, problem: str) -> None: ...


def make_reporter(as_json: bool) -> Reporter:
    """Return what prints for the place where standard error goes."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    return JsonLines() if as_json or not console.is_terminal else _Terminal(console)


def _describe_outcome(event: Event) -> str:
    outcome = event.outcome
    status = f"{outcome.status} " if outcome.status else ""
    return printable(f"{status}{outcome.reason}".strip())


class JsonLines:
    """One JSON object a line, on standard output; ``event`` names what it is.

    Failures have a line each, deliveries none: every ten seconds a line has the counts.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> object:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show_event(self, event: Event) -> None:
        """Print a failure."""
        decision = event.decision
        if decision.kind == "delivered":
            return
        webhook = event.attempt.item
        line: dict[str, object] = {
            "event": {"retry": "retry", "dead": "dead_letter", "stop": "stop"}[decision.kind],
            "id": webhook.id,
            "key": webhook.key,
            "source": webhook.source,
            "attempt": event.attempt.attempt,
            "status": event.outcome.status,
            "reason": event.outcome.reason,
            "seconds": round(event.seconds, 3),
        }
        if decision.kind == "retry":
            line["delay_s"] = round(decision.delay_s, 3)
        _print(line)

    def show_counts(self, counts: Counts) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_S:
            self._last = now
            _print({"event": "progress", **asdict(counts)})

    def warn(self, text: str) -> None:
        _print({"event": "warning", "detail": text})

    def end(self, counts: Counts, problem: str) -> None:
        """Print the last line."""
        _print({"event": "end", **asdict(counts), "problem": problem})


def _print(line: dict[str, object]) -> None:
    click.echo(json.dumps(line))


class _Terminal:
    """One line that changes, and a line for each dead letter and warning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), console=console, transient=True
        )
        self._task = self._progress.add_task("Waiting for the feed …", total=None)

    def __enter__(self) -> object:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show_event(self, event: Event) -> None:
        kind = event.decision.kind
        self._last = "" if kind == "delivered" else f"; last failure: {_describe_outcome(event)}"
        if kind in ("dead", "stop"):
            webhook = event.attempt.item
            state = "dead letter" if kind == "dead" else "stopped"
            self._console.print(
                f"{printable(webhook.id)}  {state} after {event.attempt.attempt} requests: "
                f"{_describe_outcome(event)}"
            )

    def show_counts(self, counts: Counts) -> None:
        self._progress.update(self._task, description=f"{_summarize(counts)}{self._last}")

    def warn(self, text: str) -> None:
        self._console.print(printable(text))

    def end(self, counts: Counts, problem: str) -> None:
        click.echo(f"{_summarize(counts)}.")
        if problem:
            click.echo(f"Stopped: {printable(problem)}.", err=True)


def _summarize(counts: Counts) -> str:
    upto = f", up to {format_time(counts.timestamp)}" if counts.timestamp else ""
    return (
        f"{counts.delivered} delivered{upto}; failed requests: {counts.failed}, dead letters: "
        f"{counts.dead}, skipped: {counts.skipped}, waiting: {counts.pending}"
    )
