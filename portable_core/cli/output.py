"""Text for the terminal: escaped, formatted, and dropped when the output is closed."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with every non-printable character escaped, except the character ``keep``.

    The result is one line that a terminal shows without obeying it.
    """
    return "".join(
        character if character.isprintable() or character == keep else f"\\u{ord(character):04x}"
        for character in text
    )


def format_moment(milliseconds: int | None) -> str:
    """Return a time in UTC, to the second; in milliseconds if it lies after the year 9999."""
    if milliseconds is None:
        return "–"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def format_bytes(count: int) -> str:
    """Return a size with its unit: ``950 B``, ``12.3 kB``, ``1.0 MB``."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def drop_output() -> None:
    """Discard what could not be written to standard output, so that exiting does not retry it."""
    sys.stdout = io.StringIO()
