"""A webhook as text to copy: the line of the feed, and a command that sends the webhook again."""

from __future__ import annotations

import base64
import shlex

from portable_core.records import Record

#: Larger payloads are not shown to copy.
MAX_COPIED_BYTES = 64 * 1024

_START = "URL=http://127.0.0.1:9000/\n"

#: Headers that the program which sends the request makes itself.
_OWN = frozenset({"content-length", "host", "connection", "transfer-encoding", "expect"})


def format_curl(record: Record) -> str:
    """Return commands of a POSIX shell that send the webhook to ``$URL``, the payload byte for
    byte, with the headers that were kept.
    """
    meta, payload = record.meta, record.payload
    query = shlex.quote(f"?{meta.query}") if meta.query else ""
    lines = [f'curl --globoff "$URL"{query}']
    headers = {name: value for name, value in meta.headers.items() if name not in _OWN}
    if "content-type" not in headers:
        lines.append("  -H content-type:")  # without a value, curl sends no header of this name
    for name, value in headers.items():
        # curl sends an empty header for a name with a semicolon.
        lines.append(f"  -H {shlex.quote(f'{name}: {value}' if value else f'{name};')}")
    if _is_text(payload):
        return _START + " \\\n".join([*lines, f"  --data-binary {shlex.quote(payload.decode())}"])
    encoded = base64.b64encode(payload).decode()
    lines[0] = f"printf %s {encoded} | base64 -d | {lines[0]}"
    return _START + " \\\n".join([*lines, "  --data-binary @-"])


def _is_text(payload: bytes) -> bool:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return False
    # curl would read a file for a leading @; a page shows no other control character.
    return not text.startswith("@") and all(c in "\t\n" or c.isprintable() for c in text)
