"""A payload as text for people: search in its values, preview, indented form.

JSON is well-formed (a receiver has checked it), so a regular expression finds its tokens: no value
is built, no depth and no number is too large, and the text shows the bytes as they were received,
escapes and repeated keys included. Forms, XML and other payloads are shown and searched as text,
and those with gzip unpacked.
"""

from __future__ import annotations

import json
import re

from portable_core.payload_hash.coding import unpack_for_people

#: Strings with their closing quote, and tokens that are neither strings nor punctuation.
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*+")(\s*+:)?|([^\s",:\[\]{}]++)', re.DOTALL)
_PART = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},:]|[^\s",:\[\]{}]++', re.DOTALL)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INDENT = "  "
_PREVIEW_BYTES = 600
_PREVIEW_CHARACTERS = 160


def contains_value(payload: bytes, wanted: str) -> bool:
    """Return whether a string contains ``wanted``, or another value is spelled like it.

    Keys are not searched. Case counts. The whole text of a payload that is not JSON is searched.
    """
    payload = unpack_for_people(payload)
    text = payload.decode("utf-8", "replace")
    if not is_structured(payload):
        return wanted in text
    # Without escapes, a match has the same spelling in the text itself.
    if "\\" not in text and wanted not in text:
        return False
    for match in _TOKEN.finditer(text):
        string, key, bare = match.groups()
        if bare is not None:
            if bare == wanted:
                return True
        elif key is None and wanted in _read_string(string):
            return True
    return False


def _read_string(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token


def is_structured(payload: bytes) -> bool:
    """Return whether a payload is a JSON object or array: anything else is text or bytes."""
    return payload.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] in (b"{", b"[")


def preview(payload: bytes) -> str:
    """Return the start of the payload on one line."""
    payload = unpack_for_people(payload)
    text = " ".join(payload[:_PREVIEW_BYTES].decode("utf-8", "replace").split())
    return text if len(text) <= _PREVIEW_CHARACTERS else text[:_PREVIEW_CHARACTERS] + "…"


def indent(payload: bytes, limit: int) -> tuple[str, bool]:
    """Return the first ``limit`` characters of the indented payload, and whether it is complete.

    The tokens are those that were received, in their order; only the white space is new. Levels
    below the 40th are not indented further, so that the size of the text is linear in the bytes.
    """
    payload = unpack_for_people(payload)
    text = payload.decode("utf-8", "replace")
    if not is_structured(payload):
        return text[:limit], len(text) <= limit
    parts: list[str] = []
    length, depth, opened = 0, 0, False
    for match in _PART.finditer(text):
        part = match[0]
        lead = ""
        if part in ("]", "}"):
            depth -= 1
            lead = "" if opened else _break(depth)
        elif opened or (parts and parts[-1].endswith(",")):
            lead = _break(depth)
        opened = part in ("[", "{")
        depth += opened
        parts.append(lead + (": " if part == ":" else part))
        length += len(parts[-1])
        if length > limit:
            return "".join(parts)[:limit], False
    return "".join(parts), True


def _break(depth: int) -> str:
    return "\n" + _INDENT * min(depth, 40)
