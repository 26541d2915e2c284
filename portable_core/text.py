"""Times and sizes as text for people, and times as people write them.

The console and the commands use these functions, so that both show and accept the same forms.
"""

from __future__ import annotations

from datetime import UTC, datetime

from portable_core.records import MAX_INTEGER
from portable_core.sync.protocol import parse_integer

#: Numbers that are rejected as times in milliseconds: seconds of the years 1973 to 5138, which as
#: milliseconds are times of the years 1970 to 1973.
_PROBABLY_SECONDS = range(100_000_000, 100_000_000_000)


def format_time(milliseconds: int | None, zone: str = "") -> str:
    """Return ``2026-01-31 09:05:07`` in UTC, and ``zone`` after it.

    A dash for None; milliseconds for a time after the year 9999.
    """
    if milliseconds is None:
        return "–"
    try:
        time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return f"{time:%Y-%m-%d %H:%M:%S}{zone}"


def parse_time(text: str, most: int = MAX_INTEGER) -> int:
    """Return the milliseconds of ``2026-01-31T09:05`` (ISO 8601), or of milliseconds in digits.

    A time without a zone is in UTC; a time before the Unix epoch counts as the epoch. Raises
    ``ValueError``, for more than ``most`` too.
    """
    if text.isascii() and text.isdecimal():
        milliseconds = parse_integer(text, most=most)
        if milliseconds in _PROBABLY_SECONDS:
            raise ValueError(
                f"must be a time in milliseconds; {text} is probably in seconds. Append 000, or "
                "write a time such as 2026-01-31T09:05 (UTC)"
            )
        return milliseconds
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"must be a time such as 2026-01-31T09:05 (UTC) or milliseconds (got {text[:40]!r})"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return max(0, round(time.timestamp() * 1000))


def format_size(count: int | None) -> str:
    """Return a size with its unit, in powers of 1000: ``950 B``, ``12.3 kB``; a dash for None."""
    if count is None:
        return "–"
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
