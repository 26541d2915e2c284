"""What to do about the error of a sync, in a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping

from portable_core import errors
from portable_core.sync.resuming import LOSSES_WARNING

#: What to do about an error of a sync, by its class.
_ADVICE: Mapping[type[errors.WebhookSyncError], str] = {
    errors.SlaveUnreachable: (
        "Check that the slave runs and that the master can connect to it. See the slave's log."
    ),
    errors.SlaveRefused: (
        "See the slave's log. After a 401 or 403, compare SYNC_TOKENS on both nodes."
    ),
    errors.LogUnreachable: (
        "Check that the master can connect to the provider's address. The next sync continues."
    ),
    errors.LogRefused: (
        "Check the token in PROVIDER_LOGS, its rights and the hook; after a rate limit the next "
        "syncs continue."
    ),
    errors.AnswerInvalid: (
        "Check that the address in SLAVES is that of a slave of this version, and that both nodes "
        "have the same SPAN_S, HASH and identity rules in SOURCES."
    ),
    errors.ClocksDiffer: "The next sync continues once the clocks or the timestamps are right.",
    errors.QuarantineFull: (
        "Look at what is set aside with “webhook-sync quarantine”, release or delete it, or raise "
        "QUARANTINE_BYTES on the master. The next sync continues."
    ),
    errors.SlaveError: "See the master's log.",
    errors.StreamCut: "The connection broke. The next sync continues where this one stopped.",
    errors.MalformedStream: (
        "Check that the slave has this version, and that no proxy changes its responses."
    ),
    errors.StreamTooLarge: "Check that the slave has this version. See the logs of both nodes.",
    errors.UnsupportedEncoding: "Update both nodes to the same version.",
    errors.Conflict: "Set the same SPAN_S, HASH and HASH_KEY on every node.",
    errors.LeaseHeld: "Wait for that sync to end; this page then shows its result.",
    errors.LeaseLost: (
        "Another instance of this master is syncing. Nothing is lost; reload the page later."
    ),
    errors.Stopping: "The master is being stopped. Press “Sync now” when it is back.",
    errors.StoreLocked: (
        "Another process writes the master's store. Check whether an old one is still running."
    ),
    errors.StoreDamaged: "Check the master's disk; the log names the file.",
    errors.StoreFull: "Free some space on the master's disk. The next sync continues.",
    errors.StoreError: "Check the master's disk: is it full, or was a file removed?",
    errors.RecordRefused: "The master's store cannot hold one of the records; its log names it.",
    errors.BatchTooLate: "The master's disk is too slow, or hangs. The next sync continues.",
    errors.BufferFull: (
        "The master's disk is too slow for the webhooks that arrive. The next sync continues."
    ),
    errors.Unavailable: "Retry in a moment.",
    errors.WebhookSyncError: "See the master's log.",
}
_ADVICE_BY_NAME = {kind.__name__: advice for kind, advice in _ADVICE.items()} | {
    LOSSES_WARNING: (
        "Ask the sender to repeat the webhooks of that time, then acknowledge the loss with "
        "“webhook-sync losses acknowledge”."
    )
}


def advise(error_type: str) -> str:
    """Return what to do about an error of a sync, by the name of its class; empty if unknown."""
    return _ADVICE_BY_NAME.get(error_type, "")
