"""Times, sizes and errors in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from portable_core import errors

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

#: What to do about an error of a sync, by its class.
_ADVICE: Mapping[type[errors.WebhookSyncError], str] = {
    errors.SlaveUnreachable: ("Is it running, and may the master connect to it? See its own log."),
    errors.SlaveRefused: ("Its log tells why. A 401 or 403: compare SYNC_TOKENS on both sides."),
    errors.AnswerInvalid: (
        "Is the address in SLAVES that of a slave, of this version, and are SPAN_S, HASH and the "
        "clock set alike?"
    ),
    errors.SlaveError: "Look at the log of the master; it tells more.",
    errors.StreamCut: "The connection broke. The next sync goes on where this one stopped.",
    errors.MalformedStream: "Is it a slave of this version? Does a proxy change its answers?",
    errors.StreamTooLarge: "Is it a slave of this version? Its log and the master's tell more.",
    errors.UnsupportedEncoding: "Is it a slave of this version? Update both sides.",
    errors.Conflict: "Set the same SPAN_S, HASH and HASH_KEY on every node.",
    errors.LeaseHeld: "Wait for it to end; the page shows it then.",
    errors.LeaseLost: "Another instance of this master syncs. Nothing is lost; look again later.",
    errors.Stopping: "The master is being stopped. Press “Sync now” when it is back.",
    errors.StoreLocked: "Another process writes the master's store. Is an old one still running?",
    errors.StoreDamaged: "Look at the disk of the master; the log names the file.",
    errors.StoreFull: "Free some space on the disk of the master. The next sync goes on.",
    errors.StoreError: "Look at the disk of the master: is it full, or was something removed?",
    errors.RecordRefused: "The master's store cannot hold one of the records; its log names it.",
    errors.BatchTooLate: "The disk of the master is too slow, or hangs. The next sync goes on.",
    errors.BufferFull: (
        "The disk of the master is too slow for what comes in. The next sync goes on."
    ),
    errors.Unavailable: "Try again in a moment.",
    errors.WebhookSyncError: "The log of the master tells more.",
}
_ADVICE_BY_NAME = {kind.__name__: advice for kind, advice in _ADVICE.items()}


def format_time(milliseconds: int | None) -> str:
    """``2026-01-31 09:05:07 UTC``; a dash for None and for what no calendar holds."""
    if milliseconds is None:
        return "–"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def format_iso(milliseconds: int) -> str:
    """For the ``datetime`` of a ``<time>``."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_duration(milliseconds: float) -> str:
    """The largest unit and the one below it: ``3 min 20 s``."""
    if abs(milliseconds) < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = round(abs(milliseconds) / 1000)
    parts: list[str] = []
    for size, unit in _UNITS:
        if seconds >= size or parts:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    parts = [part for part in parts[:2] if not part.startswith("0 ")] or parts[:1]
    return ("−" if milliseconds < 0 else "") + " ".join(parts)


def format_size(size: int | None) -> str:
    """``1.5 MB``, in powers of 1000."""
    if size is None:
        return "–"
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def format_count(count: int | None) -> str:
    """Thousands parted by thin spaces."""
    return "–" if count is None else f"{count:,}".replace(",", "\u202f")


def advise(error_type: str) -> str:
    """Return what to do about an error of a sync, by the name of its class; empty if unknown."""
    return _ADVICE_BY_NAME.get(error_type, "")
