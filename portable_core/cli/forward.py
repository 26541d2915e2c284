"""``webhook-sync forward``: deliver a master's webhooks to an application as they arrive."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from portable_core.cli.forward_feed import Feed
from portable_core.cli.forward_report import Reporter, make_reporter
from portable_core.cli.master_client import MasterClient, read_ca_file
from portable_core.cli.options import NO_ANSWER, UNIT_SECONDS, examples, master_options
from portable_core.cli.output import printable
from portable_core.errors import SettingsError
from portable_core.sources.schemes import check_standard_secret
from portable_core.webhooks.delivery_policy import Policy, WhenGone
from portable_core.webhooks.forward import Forward, HttpTarget, Target
from portable_core.webhooks.replay_targets import check_target

_REPORT_S = 0.5
_LONG_S = 86_400.0  # in place of never


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions alone
    """A duration such as ``90s``, ``10m``, ``2h`` or ``3d``; ``never`` is None."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value is None or isinstance(value, float):
            return value
        if value == "never":
            return None
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value).strip())
        if match is None:
            self.fail(f"invalid duration {value!r}. Use 90s, 10m, 2h or 3d.", param, ctx)
        return float(int(match[1]) * UNIT_SECONDS[match[2]])


#: Options of every command that sends webhooks to a receiver.
secret_option = click.option(
    "--secret",
    envvar="FORWARD_SECRET",
    show_envvar=True,
    help="Secret whsec_…: sign the webhooks with it (Standard Webhooks).",
)
timeout_option = click.option(
    "--timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="Largest duration of a request or a command.",
)


@click.command(
    "forward",
    short_help="Deliver a master's webhooks to a URL as they arrive.",
    epilog=examples(
        "webhook-sync forward https://shop.example/webhooks --state shop.sqlite3",
        "webhook-sync forward http://localhost:3000/ --source github --concurrency 8",
        "webhook-sync forward --exec 'python3 handle.py' --once",
    ),
)
@click.argument("url", required=False, envvar="FORWARD_URL")
@master_options
@click.option(
    "--exec",
    "command",
    metavar="COMMAND",
    help="Run this command for each webhook instead: the payload is its standard input, "
    "WEBHOOK_ID, WEBHOOK_KEY and others are in its environment.",
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="forward.sqlite3",
    show_default=True,
    help="File with the position and the dead letters. One for each receiver.",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="Register the position under this name: the master then shows the lag.",
)
@click.option("--source", help='Only webhooks of this source; "-" for no source.')
@click.option("--event", help="Only webhooks of this event.")
@click.option(
    "--skip-repeats", is_flag=True, help="Leave out webhooks whose key came earlier in the feed."
)
@click.option(
    "--concurrency",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Requests at the same time, of different sources.",
)
@click.option("--unordered", is_flag=True, help="Do not keep the order of a source's webhooks.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Largest number of requests a second."
)
@secret_option
@click.option(
    "--retry-for",
    type=Duration(),
    default="3d",
    show_default=True,
    help="Retry a webhook for so long, then make it a dead letter; or never.",
)
@click.option(
    "--rejections",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Make a webhook a dead letter after so many responses 3xx or 4xx.",
)
@click.option(
    "--when-gone",
    type=click.Choice(["stop", "dead-letter"]),
    default="stop",
    show_default=True,
    help="What follows a response 410.",
)
@click.option(
    "--max-dead-letters",
    default=10_000,
    show_default=True,
    type=click.IntRange(0),
    help="Stop when there are more dead letters.",
)
@click.option(
    "--dead-letters-for",
    type=Duration(),
    default="never",
    show_default=True,
    help="Drop a dead letter so long after its last request; or never.",
)
@timeout_option
@click.option(
    "--grace",
    type=Duration(),
    default="10s",
    show_default=True,
    help="After a signal, wait so long for the requests in flight.",
)
@click.option("--once", is_flag=True, help="End at the end of the feed.")
@click.option(
    "--from-now", is_flag=True, help="With a new state file, leave out the webhooks until now."
)
@click.option(
    "--resume",
    is_flag=True,
    help="If the master does not know the position, continue where it proposes, with repeats.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, in a terminal too.")
@click.option("--until-eof", is_flag=True, hidden=True, help="Stop at the end of standard input.")
def forward_command(
    url: str | None,
    master: str,
    token: str | None,
    command: str | None,
    state_path: Path,
    consumer: str | None,
    source: str | None,
    event: str | None,
    skip_repeats: bool,
    concurrency: int,
    unordered: bool,
    rate: float | None,
    secret: str | None,
    retry_for: float | None,
    rejections: int,
    when_gone: Literal["stop", "dead-letter"],
    max_dead_letters: int,
    dead_letters_for: float | None,
    timeout: float | None,
    grace: float | None,
    once: bool,
    from_now: bool,
    resume: bool,
    as_json: bool,
    until_eof: bool,
) -> None:
    """Deliver each webhook of a master to URL at least once, as it arrives.

    Requests have the payload byte for byte, the kept headers and the query string. A webhook is
    delivered once the response is 2xx; the position is then saved durably. Failures are retried
    with exponential backoff; a webhook that fails for good becomes a dead letter (webhook-sync
    dead-letters). The order of each source is kept, unless --unordered is given.

    SIGTERM and Ctrl-C stop after the requests in flight. A process that is killed repeats at most
    those.

    Exit code 0 if it was stopped, or if --once is given and every webhook was delivered; 1 if it
    stopped by itself; 3 if the master rejects the token or the position, or with --once does not
    respond.
    """
    from portable_core.adapters.delivery_state import DeliveryFile

    policy = Policy(
        concurrency=concurrency,
        ordered=not unordered,
        rate=rate,
        retry_for_s=retry_for,
        rejections=rejections,
        when_gone=_name_gone(when_gone),
    )
    target = make_target(url, command, secret, timeout)
    feed = Feed(
        MasterClient(master, token),
        source,
        event,
        once=once,
        from_now=from_now,
        resume=resume,
        consumer=consumer or "",
    )
    state = DeliveryFile(state_path, exclusive=True, keep_s=dead_letters_for)
    reporter = make_reporter(as_json)
    forward = Forward(
        feed.read,
        target,
        state,
        policy,
        random.random,
        skip_repeats=skip_repeats,
        max_dead_letters=max_dead_letters,
        grace_s=_LONG_S if grace is None else grace,
        observe=reporter.show_event,
    )
    feed.attach(forward, reporter)
    if until_eof:
        threading.Thread(target=_stop_at_eof, args=(forward,), daemon=True).start()
    try:
        problem = _run(forward, reporter)
    finally:
        feed.close(forward.counts.position)
        state.close()
    reporter.end(forward.counts, problem)
    if forward.feed_failed:
        sys.exit(NO_ANSWER)
    sys.exit(1 if problem or (once and forward.counts.dead) else 0)


def _name_gone(text: str) -> WhenGone:
    return "stop" if text == "stop" else "dead-letter"


def make_target(
    url: str | None, command: str | None, secret: str | None, timeout: float | None
) -> Target:
    """Return the target that the options name. Raises ``SettingsError``, ``BadRequest``."""
    from portable_core.adapters.command_target import CommandTarget
    from portable_core.adapters.http.sender import connect
    from portable_core.adapters.http.tls import make_tls

    if bool(url) == bool(command):
        raise click.UsageError("name the receiver with either URL or --exec")
    timeout_s = _LONG_S if timeout is None else timeout
    if url:
        try:
            check_standard_secret(secret or "")
        except ValueError as error:
            raise SettingsError(f"--secret: {error}") from None
        tls = make_tls(read_ca_file())
        reach = partial(connect, tls=tls, total_s=timeout_s, idle_s=timeout_s)
        return HttpTarget(check_target(url, None), reach, secret or "")
    try:
        arguments = shlex.split(command or "")
    except ValueError as error:
        raise SettingsError(f"--exec: invalid command: {error}") from None
    if not arguments or shutil.which(arguments[0]) is None:
        raise SettingsError(f"--exec: no such command (got {printable(command or '')!r})")
    return CommandTarget(arguments, timeout_s)


def _stop_at_eof(forward: Forward) -> None:
    # Not sys.stdin, whose lock this thread would hold at the end of the interpreter.
    while os.read(0, 4096):
        pass
    forward.stop()


def _run(forward: Forward, reporter: Reporter) -> str:
    """Run until the end or a signal; a second signal ends the process at once."""

    def stop(number: int, frame: object) -> None:
        if forward.stopping:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        forward.stop()

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    ended = threading.Event()

    def show_counts() -> None:
        while not ended.wait(_REPORT_S):
            reporter.show_counts(forward.counts)

    shower = threading.Thread(target=show_counts, daemon=True)
    shower.start()
    try:
        with reporter:
            return forward.run()
    finally:
        ended.set()
        shower.join()
        for number, handler in earlier.items():
            signal.signal(number, handler)
