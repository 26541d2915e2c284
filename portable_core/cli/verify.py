"""``webhook-sync verify``: the webhooks of a slave that the master lacks; changes nothing."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import click

from portable_core.cli.comparison import Comparison
from portable_core.cli.master_client import MasterClient, read_ca_file
from portable_core.cli.options import (
    NO_ANSWER,
    env_file_option,
    examples,
    master_options,
    range_options,
    read_env,
)
from portable_core.cli.output import drop_output, printable
from portable_core.errors import BadRequest, WebhookSyncError
from portable_core.ports import SlaveInfo
from portable_core.records import Record, format_id
from portable_core.sync.protocol import parse_stint
from portable_core.sync.resuming import find_loss_problems
from portable_core.sync.status import MasterStatusDocument, SlaveDocument
from portable_core.text import format_time
from portable_core.webhooks.names import find_event

_IDLE_S = 60.0


@click.command(
    "verify",
    short_help="Print the webhooks of a slave that the master lacks.",
    epilog=examples(
        "webhook-sync verify --slave slave-1",
        "webhook-sync verify --slave slave-1 --since 24h",
        "webhook-sync verify --slave-url https://slave-1.example",
        "webhook-sync verify --provider-log hub-log --env-file master.env",
    ),
)
@master_options
@click.option("--slave", metavar="NAME", help="Name of the slave, as in the master's SLAVES.")
@click.option(
    "--slave-url",
    metavar="URL",
    help="Address of the slave, if the master's SLAVES has another one or none.",
)
@click.option(
    "--provider-log",
    metavar="NAME",
    help="Compare this delivery log of PROVIDER_LOGS instead of a slave: on the master's machine, "
    "with its settings.",
)
@env_file_option
@click.option("--slave-token", help="Token of the slave, if it differs from the master's.")
@range_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one missing webhook per line.")
def verify_command(
    master: str,
    token: str | None,
    slave: str | None,
    slave_url: str | None,
    provider_log: str | None,
    env_file: Path | None,
    slave_token: str | None,
    since: int | None,
    until: int | None,
    as_json: bool,
) -> None:
    """Compare a slave with the master and print the webhooks that the master lacks.

    With --provider-log, a provider's delivery log is compared instead, with the store itself.

    Nothing is changed on either node. Without --since and --until, everything that a sync could
    have fetched by now is compared: up to one span before the horizon of the master, and not what
    the retention of the master has removed.

    Exit code 0 if nothing is missing, 1 if a webhook is missing or the slave has lost webhooks that
    no operator has acknowledged, 3 if the comparison could not be completed.
    """
    if slave is not None and "://" in slave and slave_url is None:
        click.echo(
            "Warning: --slave: an address is deprecated here. Use --slave-url for an address, "
            "--slave for a name.",
            err=True,
        )
        slave, slave_url = None, slave
    if [slave, slave_url, provider_log].count(None) != 2:
        raise click.UsageError(
            "name the slave with either --slave or --slave-url, or a log with --provider-log"
        )
    try:
        if provider_log is not None:
            missing = _verify_log(provider_log, env_file, since, until, as_json)
        else:
            client = MasterClient(master, token)
            missing = _verify(client, slave, slave_url, slave_token, since, until, as_json)
    except WebhookSyncError as error:
        raise _Incomplete(printable(str(error))) from error
    except KeyboardInterrupt as error:
        raise _Incomplete("stopped before the end of the comparison") from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has seen a missing webhook
            raise
        drop_output()
        raise _Incomplete(str(error)) from error
    sys.exit(1 if missing else 0)


class _Incomplete(click.ClickException):
    """The comparison was not completed; more may be missing than was printed."""

    exit_code = NO_ANSWER


def _verify(
    master: MasterClient,
    slave: str | None,
    slave_url: str | None,
    slave_token: str | None,
    since: int | None,
    until: int | None,
    as_json: bool,
) -> int:
    """Compare and print. Returns the number of missing webhooks and of losses."""
    from portable_core.adapters.http.client import HttpSlaveClient
    from portable_core.adapters.http.tls import make_tls

    before = master.read_as(MasterStatusDocument, "/status")
    if slave_url is None:
        assert slave is not None  # noqa: S101  # one of the two is given
        slave_url = _find_url(before, slave)
    known = _find_known(before, slave, slave_url)
    token = slave_token or master.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    missing = 0
    with HttpSlaveClient(
        slave or "",
        slave_url,
        credentials=lambda: headers,
        idle_s=_IDLE_S,
        tls=make_tls(read_ca_file()),
    ) as client:
        info = client.describe(stint=parse_stint(known.stint) if known.stint else None)
        status = master.read_as(MasterStatusDocument, "/status")
        window = _find_window(info, status.horizon, max(since or 0, status.floor), until)
        if window is not None:
            comparison = Comparison(master, client, info, status.store.hash, *window)
            for record in comparison.find_missing():
                missing += 1
                click.echo(_describe(record, as_json))
    problems = find_loss_problems(known, info)
    for problem in problems:
        click.echo(f"Not complete: {printable(problem)}", err=True)
    if not as_json:
        _summarize(window, missing)
    return missing + len(problems)


def _verify_log(
    name: str, env_file: Path | None, since: int | None, until: int | None, as_json: bool
) -> int:
    """Compare a delivery log with the store and print. Returns the number of missing webhooks."""
    from portable_core.cli.log_comparison import open_comparison, read_settings

    missing = 0
    with open_comparison(read_settings(read_env(env_file), name)) as comparison:
        info = comparison.info
        window = _find_window(info, info.now, since, until)
        for record in comparison.find_missing(*window) if window is not None else ():
            missing += 1
            click.echo(_describe(record, as_json))
    if not as_json:
        _summarize(window, missing)
    return missing


def _find_url(status: MasterStatusDocument, slave: str) -> str:
    """Return the address that the master has for the slave of this name."""
    if slave not in status.slaves:
        names = ", ".join(status.slaves) or "no slaves"
        raise BadRequest(f"--slave: the master has no slave named {slave!r}. It has: {names}.")
    url = status.slaves[slave].url
    if url is None:
        raise BadRequest(
            f"--slave: the master does not report the address of {slave!r}: its SLAVES lacks the "
            "name, or its release is older. Use --slave-url."
        )
    return url


def _find_known(status: MasterStatusDocument, slave: str | None, url: str) -> SlaveDocument:
    """Return the slave as the master knows it; an empty document if the master does not."""
    for name, document in status.slaves.items():
        if name == slave or (slave is None and document.url == url):
            return document
    return SlaveDocument(complete_until=0)


def _find_window(
    info: SlaveInfo, horizon: int, since: int | None, until: int | None
) -> tuple[int, int] | None:
    """Return the part of the range that can be compared; None if it is empty.

    ``horizon`` is the master's.
    """
    if info.first is None:
        return None
    start = max(info.first, since or 0)
    end = min(info.horizon, horizon - info.span, info.horizon if until is None else until)
    return (start, end) if start < end else None


def _describe(record: Record, as_json: bool) -> str:
    timestamp, hash_ = record.pair
    size, meta, event = len(record.payload), record.meta, find_event(record.meta)
    if as_json:
        return json.dumps(
            {
                "id": format_id(record.pair),
                "hash": hash_,
                "timestamp": timestamp,
                "key": meta.key or None,
                "source": meta.source,
                "event": event,
                "size": size,
            }
        )
    received = format_time(timestamp)
    source, event, key = (printable(text) or "–" for text in (meta.source, event, meta.key))
    return (
        f"missing: {format_id(record.pair)}  {received} UTC  {source}  {event}  {size} bytes  "
        f"key {key}"
    )


def _summarize(window: tuple[int, int] | None, missing: int) -> None:
    if window is None:
        click.echo("Nothing to compare: there are no webhooks in this time range.", err=True)
        return
    start, end = map(format_time, window)
    result = f"{missing} missing" if missing else "nothing is missing"
    click.echo(f"From {start} to {end} UTC: {result}.", err=True)
