"""Texts of settings: characters that no setting may contain, and the home directory in paths."""

from __future__ import annotations

import unicodedata


def find_control_character(text: str) -> str:
    """Return which control character a text contains, and where; empty for none.

    Line and paragraph separators of Unicode count. The text itself may be a secret: it is not
    quoted.
    """
    for position, character in enumerate(text, 1):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            kind = "line break" if character in "\r\n" else "control character"
            return f"a {kind} (U+{ord(character):04X}, character {position})"
    return ""


def expand_home(text: str, before: str, home: str) -> str:
    """Return ``text`` with the home directory in place of ``~`` behind the text ``before``.

    Raise ``ValueError`` where that directory is unknown or another user's.
    """
    path = text.removeprefix(before)
    if not text.startswith(before) or not path.startswith("~"):
        return text
    if path != "~" and not path.startswith("~/"):
        raise ValueError(
            f"a path must not begin with the home directory of another user (got {path!r}). Write "
            f"it in full; write ./{path} for a name that begins with ~."
        )
    if not home.startswith("/"):
        raise ValueError(
            f"~ stands for no directory, because HOME is not an absolute path (got {path!r}). "
            "Write the path in full."
        )
    return before + (home.rstrip("/") + path[1:] or "/")
