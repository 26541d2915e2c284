"""Values of a request that the table of presets names, and templates made of them.

A value is named ``header:<name>``, ``query:<name>``, ``form:<name>`` or ``body:<JSON Pointer>``;
``body?:<JSON Pointer>`` is empty text where the body has no such member. A template is text with
values in braces, and with the names of :data:`SPECIAL`; ``{{`` stands for ``{``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from portable_core.errors import Unauthorized
from portable_core.payload_hash.pointers import Pointer, parse_pointer, read_member
from portable_core.sources.request import SourceRequest

#: Longest value that is read; a longer one is rejected unread.
MAX_CHARACTERS = 8192

#: What a signed template may name besides values.
SPECIAL = ("body", "timestamp", "url", "method", "form")

_NAME = re.compile(r"[!-~]{1,128}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_PARTS = re.compile(r"\{\{|\{([^{}]*)\}|[^{}]+|[{}]")


@dataclass(frozen=True, slots=True)
class Value:
    """The name of one value: its place, and its name in that place."""

    place: str
    name: str
    pointer: Pointer | None = None
    optional: bool = False

    def __str__(self) -> str:
        """Return the name for messages; a header is named as it is sent."""
        return self.name if self.place == "header" else f"{self.place}:{self.name}"

    def read_all(self, request: SourceRequest) -> list[str]:
        """Return every value of this name; an empty list if there is none."""
        if self.place == "header":
            return request.headers(self.name)
        if self.pointer is not None:
            text = _spell(read_member(request.document, self.pointer))
            return ([""] if self.optional else []) if text is None else [text]
        pairs = request.parameters if self.place == "query" else request.fields
        return [value for name, value in pairs if name == self.name]

    def read(self, request: SourceRequest) -> str:
        """Return the only value of this name. Raises ``Unauthorized`` with what is wrong."""
        values = self.read_all(request)
        if not values:
            raise Unauthorized(f"{self}: missing; webhooks of this source must be signed")
        if len(values) > 1:
            raise Unauthorized(f"{self}: occurs {len(values)} times")
        if len(values[0]) > MAX_CHARACTERS:
            raise Unauthorized(f"{self}: longer than {MAX_CHARACTERS} characters")
        return values[0]


def _spell(value: object) -> str | None:
    """Return a scalar of JSON as text; None for null, containers and what is absent."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def parse_value(text: str) -> Value:
    """Return the value that ``text`` names. Raises ``ValueError``."""
    place, colon, name = text.partition(":")
    if place in ("body", "body?") and colon:
        return Value("body", name, parse_pointer(name), place == "body?")
    pattern = {"header": _HEADER, "query": _NAME, "form": _NAME}.get(place)
    if pattern is None or not pattern.fullmatch(name):
        raise ValueError(
            "must be header:<name>, query:<name>, form:<name> or body:<JSON Pointer> "
            f"(got {text[:60]!r})"
        )
    return Value(place, name)


@dataclass(frozen=True, slots=True)
class Template:
    """Text (``str``), values, and special names as a tuple of one name, in order."""

    parts: tuple[str | Value | tuple[str], ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """The values in the template, each once."""
        return tuple(dict.fromkeys(p for p in self.parts if isinstance(p, Value)))

    @property
    def special(self) -> frozenset[str]:
        """The special names in the template."""
        return frozenset(p[0] for p in self.parts if isinstance(p, tuple))

    def fill(
        self, values: Mapping[Value, bytes], special: Mapping[str, Sequence[bytes]]
    ) -> list[bytes]:
        """Return the parts as bytes."""
        filled: list[bytes] = []
        for part in self.parts:
            if isinstance(part, str):
                filled.append(part.encode())
            elif isinstance(part, Value):
                filled.append(values[part])
            else:
                filled += special[part[0]]
        return filled


def parse_template(text: str, special: Collection[str] = SPECIAL) -> Template:
    """Return the template of ``text``. Raises ``ValueError``."""
    parts: list[str | Value | tuple[str]] = []
    for match in _PARTS.finditer(text):
        name = match[1]
        if name is None:
            if match[0] == "{":
                raise ValueError(f"has a brace without its other one (got {text[:60]!r})")
            parts.append("{" if match[0] == "{{" else match[0])
        elif name in special:
            parts.append((name,))
        else:
            try:
                parts.append(parse_value(name))
            except ValueError:
                known = ", ".join(special)
                raise ValueError(
                    f"{{{name[:60]}}} is not a value, and not one of {known or 'its names'}"
                ) from None
    return Template(tuple(parts))
