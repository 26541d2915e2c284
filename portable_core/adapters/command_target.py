"""Deliver webhooks to a command: the payload on standard input, the rest in the environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from portable_core.webhooks.delivery_request import Outcome, quote_query
from portable_core.webhooks.delivery_values import Attempt
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import Send

#: Exit codes of sysexits.h: the webhook is invalid, so that a retry is likely to fail.
_REJECTED = (os.EX_DATAERR, os.EX_NOINPUT)

_STDERR = 2


@dataclass(frozen=True, slots=True)
class CommandTarget:
    """Runs ``arguments`` for each attempt, without a shell.

    Exit code 0 is a delivery; 65 (EX_DATAERR) and 66 (EX_NOINPUT) reject the webhook, as a response
    4xx; any other code, a signal or a timeout is temporary. Its standard output goes to standard
    error.
    """

    arguments: Sequence[str]
    timeout_s: float = 60.0

    @contextmanager
    def __call__(self) -> Iterator[Send]:
        """See ``Target``."""
        yield self.run

    def run(self, attempt: Attempt[Webhook]) -> Outcome:
        """Run the command once."""
        try:
            process = subprocess.Popen(  # noqa: S603  # the operator's command
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=_STDERR,
                env={**os.environ, **make_environment(attempt)},
                start_new_session=True,  # Ctrl-C ends this process alone
            )
        except (OSError, ValueError) as error:
            return Outcome(0, f"cannot be run: {error}"[:200])
        try:
            process.communicate(attempt.item.payload, self.timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Outcome(0, f"no end within {self.timeout_s:g} s")
        code = process.returncode
        if code == 0:
            return Outcome(200, "exit code 0")
        if code < 0:
            return Outcome(0, f"ended by signal {-code}")
        return Outcome(422 if code in _REJECTED else 0, f"exit code {code}")


def make_environment(attempt: Attempt[Webhook]) -> dict[str, str]:
    """Return the variables that describe a webhook to the command."""
    webhook = attempt.item
    variables = {
        "ID": webhook.id,
        "KEY": webhook.key,
        "SOURCE": webhook.source,
        "EVENT": webhook.event,
        "TIMESTAMP": str(webhook.timestamp),
        "REPEAT": str(int(webhook.repeat)),
        "QUERY": quote_query(webhook.query),
        "VIA": webhook.via,
        "HEADERS": json.dumps(dict(webhook.headers)),
        "ATTEMPT": str(attempt.attempt),
    }
    return {f"WEBHOOK_{name}": text.replace("\0", "") for name, text in variables.items()}
