"""A deliberately broken build, for the harness's own proof: webhooks are acknowledged before they
are committed. Python imports this at start where this folder is on ``PYTHONPATH``; the product has
no such switch."""

from __future__ import annotations

import threading
from contextlib import suppress

from portable_core.errors import WebhookSyncError
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta, Pair

_DELAY_S = 1.0


def _receive(self: Receiver, payload: bytes, meta: Meta) -> Pair:
    hash_, meta = self.identifier.identify(payload, meta)
    pair = self.open().add(hash_, payload, meta)
    timer = threading.Timer(_DELAY_S, _flush, (self,))
    timer.daemon = True
    timer.start()
    return pair


def _flush(receiver: Receiver) -> None:
    with suppress(WebhookSyncError):  # what an acknowledged webhook is lost by
        receiver.flush()


Receiver.receive = _receive  # type: ignore[method-assign]  # the fault that is to be found
