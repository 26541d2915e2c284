"""``webhook-sync verify``: what a slave has that the master lacks, changing nothing on either."""

from __future__ import annotations

import errno
import http.client
import json
import sys
from collections.abc import Iterator

import click

from portable_core.cli.answers import DOUBT, drop_output, get, printable
from portable_core.cli.master_client import (
    MasterClient,
    format_moment,
    master_options,
    range_options,
)
from portable_core.errors import AnswerInvalid, Unavailable, WebhookSyncError
from portable_core.ports import SlaveClient, SyncRequest
from portable_core.records import Pair, Record, format_id
from portable_core.sync.protocol import PAIRS_PATH, THROUGH_HEADER, parse_integer
from portable_core.wire.negotiation import ENCODINGS, Encoding, read_stream

_CHUNK_BYTES = 64 * 1024
_IDLE_S = 60.0


@click.command("verify")
@master_options
@click.option("--slave", required=True, help="Address of the slave.")
@click.option("--slave-token", help="The slave's token, where it is not the master's.")
@range_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one missing webhook a line.")
def verify_command(
    master: str,
    token: str | None,
    slave: str,
    slave_token: str | None,
    since: int | None,
    until: int | None,
    as_json: bool,
) -> None:
    """Compare a slave with a master and print what the master lacks of it.

    Nothing is changed. Without a range everything is compared that the slave has and that a sync
    could have brought by now: up to one span before the master's present.

    Exits 0 if nothing is missing, 1 if something is, 3 if that could not be found out.
    """
    try:
        missing = _verify(MasterClient(master, token), slave, slave_token, since, until, as_json)
    except WebhookSyncError as error:
        raise _Undecided(printable(str(error))) from error
    except KeyboardInterrupt as error:
        raise _Undecided("it was stopped before its end") from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads it has seen that something is missing
            raise
        drop_output()
        raise _Undecided(str(error)) from error
    sys.exit(1 if missing else 0)


class _Undecided(click.ClickException):
    """The comparison did not come to its end; what was printed so far may not be all."""

    exit_code = 3


def _verify(
    asked: MasterClient,
    slave: str,
    slave_token: str | None,
    since: int | None,
    until: int | None,
    as_json: bool,
) -> int:
    """Compare and print. Returns how many are missing."""
    from portable_core.adapters.http.client import HttpSlaveClient

    credentials = slave_token or asked.token
    headers = {"Authorization": f"Bearer {credentials}"} if credentials else {}
    missing = 0
    with HttpSlaveClient("", slave, credentials=lambda: headers, idle_s=_IDLE_S) as client:
        window = _find_window(asked, client, since, until)
        if window is not None:
            for record in compare(asked, client, *window):
                missing += 1
                click.echo(_describe(record, as_json))
    if not as_json:
        _summarize(window, missing)
    return missing


def _find_window(
    master: MasterClient, client: SlaveClient, since: int | None, until: int | None
) -> tuple[int, int] | None:
    """What can be compared of the range; None if there is nothing."""
    info = client.describe()
    if info.first is None:
        return None
    horizon = get(master.read_json("/status"), "horizon", int)
    start = max(info.first, since or 0)
    end = min(info.horizon, horizon - info.span, info.horizon if until is None else until)
    return (start, end) if start < end else None


def compare(master: MasterClient, client: SlaveClient, start: int, end: int) -> Iterator[Record]:
    """The slave's records of ``[start, end)`` that the master does not represent, in order.

    The slave does the comparison, as in a sync, but does not advance its retention.
    """
    info = client.describe()
    encoding: Encoding = next(
        (known for name, known in ENCODINGS.items() if name in info.encodings),
        ENCODINGS["application/json"],
    )
    algorithm = get(get(master.read_json("/status"), "store", dict), "hash", str)
    query = {"start": str(max(0, start - info.span)), "end": str(end + info.span)}
    with master.open(PAIRS_PATH, query, encoding.media_type) as pairs:
        try:
            through = parse_integer(pairs.headers.get(THROUGH_HEADER, ""))
        except ValueError as error:
            raise AnswerInvalid(f"{master.url}: header {THROUGH_HEADER}: {error}{DOUBT}") from error
        if through < end:
            raise Unavailable("the master's horizon has moved back; try again")

        def chunks() -> Iterator[bytes]:
            try:
                while chunk := pairs.read1(_CHUNK_BYTES):
                    yield chunk
            except (http.client.HTTPException, OSError) as error:
                raise Unavailable(f"{master.url}: the pairs were cut: {error}") from error

        request = SyncRequest(
            start, end, info.span, algorithm, encoding.media_type, chunks(), compare_only=True
        )
        with client.exchange(request) as answer:
            if answer.through < end:
                raise AnswerInvalid("the slave's horizon has moved back; try again")
            last = Pair(start, -1)
            for record in read_stream(encoding.read_records(), answer.chunks):
                if not last < record.pair < (end, 0):
                    raise AnswerInvalid(
                        f"the slave answered {format_id(record.pair)}, which is out of order, or "
                        "outside of what was asked for"
                    )
                last = record.pair
                yield record


def _describe(record: Record, as_json: bool) -> str:
    timestamp, hash_ = record.pair
    size, source = len(record.payload), record.meta.source
    if as_json:
        return json.dumps(
            {
                "id": format_id(record.pair),
                "hash": hash_,
                "timestamp": timestamp,
                "source": source,
                "size": size,
            }
        )
    received = format_moment(timestamp)
    told = printable(source) or "–"
    return f"missing: {format_id(record.pair)}  {received} UTC  {told}  {size} bytes"


def _summarize(window: tuple[int, int] | None, missing: int) -> None:
    if window is None:
        click.echo("Nothing to compare: the slave has no webhooks in that time.", err=True)
        return
    start, end = map(format_moment, window)
    told = "nothing is missing" if not missing else f"{missing} missing"
    click.echo(f"From {start} to {end} UTC: {told}.", err=True)
