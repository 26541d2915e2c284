"""``webhook-sync doctor``: examine a node's settings, machine and slaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec

from portable_core.cli.options import env_file_option, examples, read_env
from portable_core.cli.output import printable

_MARKS = {"ok": "ok     ", "warning": "WARNING", "fault": "FAULT  "}


@click.command(
    "doctor",
    short_help="Examine a node: settings, store, disk, limits, slaves, clocks.",
    epilog=examples(
        "webhook-sync doctor --role slave --env-file slave.env",
        "webhook-sync doctor --role master --env-file master.env",
        "webhook-sync doctor --role master --json | jq .level",
    ),
)
@click.option(
    "--role", type=click.Choice(["slave", "master"]), required=True, help="Role of the node."
)
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one finding per line.")
def doctor_command(role: str, env_file: Path | None, as_json: bool) -> None:
    """Examine whether a node would start with these settings, and whether a sync would work.

    The store, the disk and the limit of open files are examined, and for a master each slave:
    whether it responds to the token, agrees about span, hash and identity rules, and has the same
    time. Nothing is changed; a running node is not disturbed.

    Exit code 0 without a fault, 1 with one. Warnings do not count.
    """
    from portable_core.doctor import examine
    from portable_core.wiring import check_role

    faults = 0
    for finding in examine(check_role(role), read_env(env_file)):
        faults += finding.level == "fault"
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(finding)))
        else:
            click.echo(f"{_MARKS[finding.level]}  {finding.subject}: {printable(finding.text)}")
    sys.exit(1 if faults else 0)
