"""``python -m loadtests.simulation``: many histories, their totals, and the first violation."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter

import click

from loadtests.simulation.history import run_history
from loadtests.simulation.oracle import Violation

_PROGRESS_S = 10.0

#: The totals that always appear, in this order; the rest follows, the most frequent first.
_FIRST = ("acknowledged", "syncs", "fetched", "in the middle", "faults", "cuts", "crashes")


@click.command()
@click.option("--histories", default=5000, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=1, show_default=True, help="The first history's; then upwards.")
def main(histories: int, seed: int) -> None:
    """Run simulated histories of a master and its slaves, and judge each.

    Exits 0 if no promise was broken, 1 after the first history that broke one.
    """
    # A node's warnings about its simulated accidents are what should be there.
    logging.disable(logging.CRITICAL)
    counts: Counter[str] = Counter()
    started = shown = time.monotonic()
    for done, current in enumerate(range(seed, seed + histories)):
        try:
            counts += run_history(current).counts
        except Violation as violation:
            _print_totals(done + 1, counts, 1)
            click.echo(f"seed {current}: {violation}", err=True)
            click.echo(
                f"repeat with: python -m loadtests.simulation --histories 1 --seed {current}",
                err=True,
            )
            sys.exit(1)
        if time.monotonic() - shown >= _PROGRESS_S:
            shown = time.monotonic()
            click.echo(f"{done + 1} of {histories} histories", err=True)
    _print_totals(histories, counts, 0)
    click.echo(f"{'seconds':<24}{time.monotonic() - started:>12.1f}")


def _print_totals(histories: int, counts: Counter[str], violations: int) -> None:
    click.echo(f"{'histories tried':<24}{histories:>12,}")
    rest = [name for name, _ in counts.most_common() if name not in _FIRST]
    for name in (*_FIRST, *rest):
        click.echo(f"{name:<24}{counts[name]:>12,}")
    click.echo(f"{'violations':<24}{violations:>12,}")


if __name__ == "__main__":
    main()
