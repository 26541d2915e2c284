"""Durations, counts and errors as text; times and sizes are in :mod:`portable_core.text`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from portable_core.text import format_time

#: Keys that TOML accepts without quotes.
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_sentence(text: str) -> str:
    """Return text with a capital letter at its beginning and a period at its end."""
    end = "" if text.endswith((".", "?", "!")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def format_iso(milliseconds: int) -> str:
    """Return the ``datetime`` of a ``<time>``; empty beyond the calendar."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_exact_time(milliseconds: int) -> str:
    """Return ``2026-01-31 09:05:07.123 UTC``; milliseconds beyond the calendar."""
    text = format_time(milliseconds)
    return text if text.endswith("ms") else f"{text}.{milliseconds % 1000:03} UTC"


def format_duration(milliseconds: float) -> str:
    """Return the largest unit and the one below it: ``3 min 20 s``."""
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


def format_count(count: int | None) -> str:
    """Return the number with thin spaces between thousands."""
    return "–" if count is None else f"{count:,}".replace(",", "\u202f")


def suggest_rule(source: str, members: Sequence[str]) -> str:
    """Return the lines of ``SOURCES_FILE`` with a rule that leaves out these members."""
    name = json.dumps(source, ensure_ascii=False)
    pointers = ", ".join(json.dumps(member, ensure_ascii=False) for member in members)
    return f"[{source if _BARE.fullmatch(source) else name}]\nidentity.without = [{pointers}]"
