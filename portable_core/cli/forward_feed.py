"""The feed of ``forward``, and the position that the master shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from portable_core.adapters.http.tls import make_tls
from portable_core.cli.forward_report import Reporter
from portable_core.cli.master_client import MasterClient, read_ca_file
from portable_core.client.connection import FeedConnection
from portable_core.client.consumer import ConsumerPosition
from portable_core.client.following import read_on
from portable_core.client.master import FeedRejected, FeedUnavailable, Master
from portable_core.errors import WebhookSyncError
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import Forward

_WAIT_S = 20.0

#: The position is registered at most that often, in seconds.
_REGISTER_S = 5.0
_TIMEOUT_S = 3.0


class Feed:
    """The feed of a master, read until the run stops.

    With ``consumer``, the durable position is registered under that name. The position that counts
    is the one in the state file: a failure to register it is reported, and changes nothing else.
    """

    def __init__(
        self,
        master: MasterClient,
        source: str | None,
        event: str | None,
        *,
        once: bool,
        from_now: bool,
        resume: bool,
        consumer: str,
    ) -> None:
        tls = make_tls(read_ca_file())
        self._once, self._from_now, self._resume = once, from_now, resume
        self._ended = threading.Event()
        self._connection = FeedConnection(
            Master(master.url, master.token, tls),
            source="" if source == "-" else source,
            event=event,
            wait_s=0.0 if once else _WAIT_S,
        )
        self._registered: str | None = None
        self._consumer = (
            ConsumerPosition(master.url, consumer, master.token, timeout_s=_TIMEOUT_S, tls=tls)
            if consumer
            else None
        )
        self._registering = threading.Thread(target=self._register_always, daemon=True)

    def attach(self, forward: Forward, reporter: Reporter) -> None:
        self._forward, self._reporter = forward, reporter
        if self._consumer is not None:
            self._registering.start()

    def read(self, position: str | None) -> Iterator[Webhook | str]:
        """Yield what follows a position; None is the beginning of a new state."""
        try:
            yield from read_on(
                self._connection,
                "now" if position is None and self._from_now else position,
                stopped=lambda: self._forward.stopping,
                once=self._once,
                resume=self._resume,
                sleep=self._ended.wait,
                report=self._reporter.warn,
            )
        except FeedRejected as error:
            if error.resume:
                hint = "--resume continues there, with repeats."
                raise FeedRejected(f"{error} {hint}", error.answered, error.resume) from error
            raise

    def _register_always(self) -> None:
        while not self._ended.wait(_REGISTER_S):
            self._register(self._forward.counts.position)

    def _register(self, position: str | None) -> None:
        if self._consumer is None or position is None or position == self._registered:
            return
        try:
            self._consumer.try_to_save(position)
            self._registered = position
        except FeedUnavailable:
            pass  # the feed reports the same
        except WebhookSyncError as error:
            self._registered = position
            self._reporter.warn(f"--consumer: {error}")

    def close(self, position: str | None) -> None:
        """End the requests in progress, and register the last position."""
        self._ended.set()
        self._connection.close()
        if self._consumer is not None:
            self._registering.join()
            self._register(position)
