"""``webhook-sync repair``: give records right timestamps if theirs are ahead of the clock."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from portable_core.cli.options import examples
from portable_core.errors import SettingsError
from portable_core.settings import Settings
from portable_core.text import format_time

if TYPE_CHECKING:
    from portable_core.sync.repair import RepairReport


@click.command(
    "repair",
    short_help="Give records right timestamps if theirs are ahead of the clock.",
    epilog=examples(
        "STORE=sqlite:./data webhook-sync repair --role slave --dry-run",
        "STORE=sqlite:./data webhook-sync repair --role slave",
        "webhook-sync repair --role master --offset 3600",
    ),
)
@click.option(
    "--role", type=click.Choice(["slave", "master"]), required=True, help="Role of the node."
)
@click.option(
    "--offset",
    metavar="SECONDS",
    type=click.FloatRange(min=0.001),
    help="How far the clock was ahead. Without it, the newest record gets the time of the repair "
    "and the others keep their distances to it.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def repair_command(role: str, offset: float | None, dry_run: bool, as_json: bool) -> None:
    """Give records right timestamps if theirs are ahead of the clock by a quarter of the span.

    Use it when a node reports that the timestamps of its store are ahead, which a clock that was
    ahead leaves behind. Stop the node first, and check that the clock of this machine is right. The
    settings are those of the node, from the environment. An interrupted repair is completed by
    the next one. Afterwards every master compares the store from its first record.
    """
    from portable_core.extras import check_extras
    from portable_core.ingest.receiver import name_algorithm
    from portable_core.sync.repair import Repair
    from portable_core.wiring import build_store, check_role

    settings = Settings.from_env(check_role(role), os.environ)
    check_extras(settings)
    _check_place(settings)
    now = time.time_ns() // 1_000_000
    with closing(build_store(settings)) as store:
        store.open(name_algorithm(settings))
        offset_ms = round((offset or 0) * 1000)
        repair = Repair(store, now, settings.span_ms, offset_ms, _show_progress)
        report = repair.run(dry_run=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(report, now)


def _check_place(settings: Settings) -> None:
    kind, path = settings.store.kind.name, settings.store.path
    if not settings.store.kind.outlives_process:
        raise SettingsError(f"STORE: {kind}: ends with its process. Restart the node instead.")
    if kind == "sqlite" and not Path(path).is_dir():
        raise SettingsError(f"STORE: there is no store in {path}. Name the folder of the node.")
    if kind == "firestore":
        click.echo("No instance may write to the database until the repair has ended.", err=True)


def _show_progress(step: str, records: int) -> None:
    click.echo(f"{records} records {step}", err=True)


def _show(report: RepairReport, now: int) -> None:
    click.echo(f"clock: {format_time(now, ' UTC')}")
    click.echo(f"records: {report.records}, of which {report.ahead} are ahead of the clock")
    if report.continued:
        click.echo("An interrupted repair was continued.")
    if report.ahead:
        click.echo(f"from: {_show_range(report.first, report.last)}")
        click.echo(f"to:   {_show_range(report.new_first, report.new_last)}")
    if report.marks_ahead:
        click.echo("The horizon is ahead of the clock as well.")
    if report.dry_run:
        click.echo("Dry run: nothing was changed.")
    elif report.records_after is None:
        click.echo("Nothing to repair.")
    else:
        click.echo(f"moved: {report.moved}; records now: {report.records_after}")
        if report.copies:
            click.echo(f"copies: {report.copies} of them repeat the key of another record there")
        if report.slaves_reset:
            click.echo(f"slaves: {report.slaves_reset}, to be compared from the first record")


def _show_range(first: int | None, last: int | None) -> str:
    return f"{format_time(first)} – {format_time(last, ' UTC')}"
