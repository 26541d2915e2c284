"""What makes two deliveries the same webhook: identity documents, and the rules that make them.

The **identity document** of a webhook is a byte string; two deliveries are the same webhook if and
only if their documents are equal. The hash and the key are computed from it. By default it holds
the source, the event headers (:data:`EVENT_HEADERS`) and the value of the body. A source may have
a rule of its own (:class:`IdentityRule`):

- ``id``: some values identify a webhook, and nothing else does: headers, query parameters, members
  of the body. A delivery that lacks one of them gets the default identity.
- ``without``: the default identity, less some members of the body.
- ``body``: the body is not always a JSON object. ``json``: any JSON value, which counts by its
  value; ``bytes``: any bytes, which count byte for byte.

A payload with the content coding gzip counts by what it unpacks to. A UTF-8 byte order mark before
a JSON value does not count. The encoding is injective: different sources, values or bodies never
share a document.

- The default identity of a body that is a JSON object, with an empty source and no event header,
  is the canonical JSON of the body. It starts with ``{``.
- Every other document is a sequence of netstrings (``<length>:<bytes>,``, the length in decimal
  digits, in bytes), and so starts with a digit: the kind (``json``, ``bytes`` or ``id``); the
  source in UTF-8; for each value its name and its bytes, in the order of the names; and, for the
  kind ``json``, the canonical JSON of the body, for the kind ``bytes``, the body.

A value's name is ``header:<name in lower case>``, ``query:<name>``, ``form:<name>`` or
``body:<JSON Pointer>``. Its bytes are, for headers, query parameters and fields of a form, the
UTF-8 of the text whose characters are the bytes received (ISO 8859-1); for members of the body
their canonical JSON.

``docs/identity.md`` has examples; ``tests/vectors/hash/identity.json`` has vectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from portable_core.errors import MalformedPayload
from portable_core.payload_hash.canonical import (
    canonicalize,
    canonicalize_parts,
    canonicalize_value,
    read_values,
)
from portable_core.payload_hash.coding import is_gzip, unpack
from portable_core.payload_hash.pointers import Pointer, parse_pointer

#: Headers that name the event or its origin where providers put them only there, in order. They
#: are part of every default identity and always kept. A later list needs a later ``VERSION``.
EVENT_HEADERS = (
    "ce-id",
    "ce-source",
    "ce-type",
    "sentry-hook-resource",
    "x-event-key",
    "x-forgejo-event",
    "x-gitea-event",
    "x-github-event",
    "x-gitlab-event",
    "x-gitlab-instance",
    "x-goog-resource-id",
    "x-goog-resource-state",
    "x-shopify-shop-domain",
    "x-shopify-topic",
    "x-wc-webhook-source",
    "x-wc-webhook-topic",
)

#: The version of the default identity: the encoding and the list of event headers.
VERSION = 1

#: The most characters of a rule's text, and the most values or members that it names.
MAX_RULE_CHARACTERS = 2048
MAX_NAMED = 16

#: Hexadecimal digits of a key.
KEY_DIGITS = 32

_EVENT_HEADERS = frozenset(EVENT_HEADERS)

#: Members that identify nothing.
_EMPTY = (b"null", b'""')

_SELECTOR = re.compile(r"(header|query|form):([!-~]{1,128})")

_BODIES = ("", "json", "bytes")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")


class Parts(NamedTuple):
    """What of a delivery an identity may be made from: only what is kept with the payload.

    Header names are lower case; header values and the query string have a character a byte.
    """

    source: str
    headers: Mapping[str, str]
    query: str
    payload: bytes


@dataclass(frozen=True)
class IdentityRule:
    """How a source's webhooks are identified. The default has none of the members.

    ``id`` holds the names of values in order, ``without`` the pointers in order; never both.
    ``body`` is empty for bodies that are JSON objects.
    """

    id: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    body: str = ""

    @cached_property
    def text(self) -> str:
        """The rule in one line: its version, stored with each record. The default is empty."""
        members = (("body", self.body), ("id", self.id), ("without", self.without))
        rule = {name: value for name, value in members if value}
        return msgspec.json.encode(rule).decode() if rule else ""

    @cached_property
    def headers(self) -> tuple[str, ...]:
        """The headers that the rule reads, apart from :data:`EVENT_HEADERS`."""
        return tuple(n.removeprefix("header:") for n in self.id if n.startswith("header:"))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The query parameters that the rule reads."""
        return tuple(n.removeprefix("query:") for n in self.id if n.startswith("query:"))

    @cached_property
    def selected(self) -> tuple[Pointer, ...]:
        """The members of the body that ``id`` names."""
        return tuple(parse_pointer(n[len("body:") :]) for n in self.id if n.startswith("body:"))

    @cached_property
    def removed(self) -> tuple[Pointer, ...]:
        """The members of the body that ``without`` names."""
        return tuple(map(parse_pointer, self.without))


DEFAULT_RULE = IdentityRule()


def make_rule(id: Iterable[str] = (), without: Iterable[str] = (), body: str = "") -> IdentityRule:
    """Return the rule of these values or members. Raises ``ValueError`` with what is wrong.

    ``id`` holds names such as ``header:X-Request-Id``, ``query:id``, ``body:/event/id``;
    ``without`` holds JSON Pointers. Their order does not matter. ``body`` is empty for bodies that
    are JSON objects, or ``json`` or ``bytes``.
    """
    rule = IdentityRule(
        tuple(sorted({_check_name(name) for name in id})),
        tuple(sorted({parse_pointer(text).text for text in without})),
        body,
    )
    if body not in _BODIES:
        raise ValueError(f"body: must be one of json, bytes (got {body[:60]!r})")
    if rule.without and body == "bytes":
        raise ValueError("without needs a body that is JSON")
    if rule.id and rule.without:
        raise ValueError("a rule has id or without, not both")
    if len(rule.id) + len(rule.without) > MAX_NAMED or len(rule.text) > MAX_RULE_CHARACTERS:
        raise ValueError(
            f"a rule names at most {MAX_NAMED} values or members, in at most "
            f"{MAX_RULE_CHARACTERS} characters"
        )
    return rule


class _RuleText(msgspec.Struct, forbid_unknown_fields=True):
    id: list[str] = []
    without: list[str] = []
    body: str = ""


@lru_cache(maxsize=256)
def parse_rule(text: str) -> IdentityRule:
    """Return the rule whose :attr:`IdentityRule.text` is ``text``. Raises ``ValueError``."""
    if not text:
        return DEFAULT_RULE
    if len(text) > MAX_RULE_CHARACTERS:
        raise ValueError(f"an identity rule has at most {MAX_RULE_CHARACTERS} characters")
    parsed = msgspec.json.decode(text, type=_RuleText)  # its errors are ValueErrors
    rule = make_rule(parsed.id, parsed.without, parsed.body)
    if rule.text != text:
        raise ValueError("an identity rule is not in its canonical form")
    return rule


def identify(rule: IdentityRule, parts: Parts) -> bytes:
    """Return the identity document of a delivery under ``rule``.

    Raises :class:`.MalformedPayload` as :func:`.canonicalize` does.
    """
    if is_gzip(parts.headers.get("content-encoding", "")):
        parts = parts._replace(payload=unpack(parts.payload))
    if parts.payload.startswith(_BYTE_ORDER_MARK) and rule.body != "bytes":
        parts = parts._replace(payload=parts.payload[len(_BYTE_ORDER_MARK) :])
    if rule.body:
        return _identify_any(rule, parts)
    if rule.id:
        return _identify_by_values(rule, parts)
    if rule.without:
        body, _ = canonicalize_parts(parts.payload, (), rule.removed)
    else:
        body = canonicalize(parts.payload)
    return _encode_default(parts, body)


def compute_key(document: bytes) -> str:
    """Return the key: the first 128 bits of BLAKE2b (RFC 7693) of an identity document, in
    hexadecimal digits."""
    return blake2b(document).hexdigest()[:KEY_DIGITS]


def encode_document(
    kind: str, source: str, values: Iterable[tuple[str, bytes]], body: bytes | None
) -> bytes:
    """Return the document of these parts; ``values`` are in the order of their names."""
    fields = [kind.encode(), _encode_text(source)]
    for name, value in values:
        fields += (name.encode(), value)
    if body is not None:
        fields.append(body)
    return b"".join([b"%d:%b," % (len(field), field) for field in fields])


def _encode_default(parts: Parts, body: bytes) -> bytes:
    values = _list_events(parts)
    if not parts.source and not values:
        return body
    return encode_document("json", parts.source, values, body)


def _list_events(parts: Parts) -> list[tuple[str, bytes]]:
    """Return the event headers that are present, in order."""
    headers = parts.headers
    if _EVENT_HEADERS.isdisjoint(headers):
        return []
    names = sorted(_EVENT_HEADERS.intersection(headers))
    return [(f"header:{n}", _encode_text(headers[n])) for n in names if headers[n]]


def _identify_any(rule: IdentityRule, parts: Parts) -> bytes:
    """Return the document under a rule whose body is not always a JSON object."""
    if rule.id:
        values = _find_values(rule, parts, read_values(parts.payload, rule.selected))
        if values is not None:
            return encode_document("id", parts.source, values, None)
    if not parts.payload:
        raise MalformedPayload("the payload is empty", 0)
    body = canonicalize_value(parts.payload, rule.removed) if rule.body == "json" else None
    if body is not None and body.startswith(b"{"):
        return _encode_default(parts, body)
    events = _list_events(parts)
    if body is None:
        return encode_document("bytes", parts.source, events, parts.payload)
    return encode_document("json", parts.source, events, body)


def _identify_by_values(rule: IdentityRule, parts: Parts) -> bytes:
    body, members = canonicalize_parts(parts.payload, rule.selected, ())
    values = _find_values(rule, parts, members)
    if values is None:
        return _encode_default(parts, body)
    return encode_document("id", parts.source, values, None)


def _find_values(
    rule: IdentityRule, parts: Parts, members: list[bytes | None]
) -> list[tuple[str, bytes]] | None:
    """Return the values that the rule names; None if the delivery lacks one of them."""
    found = iter(members)
    query = _read_query(parts.query) if rule.parameters else {}
    form: dict[str, str] | None = None
    values: list[tuple[str, bytes]] = []
    for name in rule.id:
        place, _, rest = name.partition(":")
        if place == "body":
            value = next(found)
            if value is None or value in _EMPTY:
                return None
        else:
            if place == "form" and form is None:
                form = _read_query(parts.payload.decode("latin-1"))
            given = {"header": parts.headers, "query": query, "form": form or {}}[place]
            text = given.get(rest)
            if not text:
                return None
            value = _encode_text(text)
        values.append((name, value))
    return values


def _read_query(query: str) -> dict[str, str]:
    """Return the parameters that occur exactly once."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1", max_num_fields=1000)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = "" if name in found else value
    return found


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _check_name(name: str) -> str:
    if name.startswith("body:"):
        return f"body:{parse_pointer(name.removeprefix('body:')).text}"
    match = _SELECTOR.fullmatch(name)
    if match is None:
        raise ValueError(
            "a value is header:<name>, query:<name>, form:<name> or body:<JSON Pointer> "
            f"(got {name[:60]!r})"
        )
    if match[1] == "header":
        name = name.lower()
        if not _HEADER_NAME.fullmatch(name.removeprefix("header:")):
            raise ValueError(f"{name[:60]!r} does not name a header")
    return name
