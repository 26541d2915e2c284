"""Text for the terminal: escaped, and dropped when the output is closed."""

from __future__ import annotations

import io
import sys


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with every non-printable character escaped, except the character ``keep``.

    The result is one line that a terminal shows without obeying it.
    """
    return "".join(
        character if character.isprintable() or character == keep else f"\\u{ord(character):04x}"
        for character in text
    )


def drop_output() -> None:
    """Discard what could not be written to standard output, so that exiting does not retry it."""
    sys.stdout = io.StringIO()
