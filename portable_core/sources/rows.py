"""The columns that presets and ``SOURCES_FILE`` share: the closed grammar of a source.

Columns are read once into frozen values; :class:`SourceRow` is all that a node needs of a source
besides its secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol

import msgspec

from portable_core.documents import convert_document
from portable_core.payload_hash.identity import DEFAULT_RULE, IdentityRule, make_rule
from portable_core.sources.bodies import BodyKind
from portable_core.sources.handshakes import Handshake, HandshakeColumns
from portable_core.sources.hmac_signature import HmacColumns, HmacForm
from portable_core.sources.jwt_signature import JwtColumns
from portable_core.sources.limits import NO_LIMITS, SourceLimits
from portable_core.sources.public_key import PublicKeyColumns
from portable_core.sources.request import SourceRequest
from portable_core.sources.static_secret import TokenColumns
from portable_core.sources.values import Value, parse_value


class Scheme(Protocol):
    """One way to sign, with its secret. Its ``repr`` does not show the secret."""

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        ...

    def check(self, request: SourceRequest, now_ms: int) -> None:
        """Return if the signature is right. Raises ``Unauthorized``, and ``Unavailable`` if the
        sender's public keys are not there."""
        ...

    def describe(self) -> str:
        """Return the form in a few words, without the secret."""
        ...

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Return the headers with which a sender sends a request. Raises ``ValueError``."""
        ...

    def digest(self, parts: list[bytes]) -> bytes:
        """Return an HMAC with the secret. Raises ``ValueError`` where the secret is no key."""
        ...


class Form(Protocol):
    """A scheme without its secret."""

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        ...

    @property
    def secret_values(self) -> tuple[Value, ...]:
        """The values that are secrets by themselves and not kept."""
        ...

    def make(self, secret: str) -> Scheme:
        """Return the scheme with this secret. Raises ``ValueError`` with the end of a sentence."""
        ...

    def make_with_parameter(self, header: str) -> Form:
        """Return the same form with another header."""
        ...

    def describe(self) -> str:
        """Return the form in a few words."""
        ...


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    hmac: HmacColumns | None = None
    token: TokenColumns | None = None
    public_key: PublicKeyColumns | None = None
    jwt: JwtColumns | None = None


class _Identity(msgspec.Struct, forbid_unknown_fields=True):
    id: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class _Response(msgspec.Struct, forbid_unknown_fields=True):
    status: Literal[200, 201, 202, 204] = 200
    type: Literal["text/plain", "application/json", "application/xml", "text/xml", ""] = ""
    body: str = ""


class _Limits(msgspec.Struct, forbid_unknown_fields=True):
    webhooks_per_second: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    waiting_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    preset: str = ""
    signature: _Signature | None = None
    handshake: tuple[HandshakeColumns, ...] | None = None
    identity: _Identity | None = None
    body: BodyKind | None = None
    response: _Response | None = None
    secret_query: tuple[str, ...] | None = None
    compressed: bool | None = None
    limits: _Limits | None = None
    secrets: tuple[str, ...] = ()
    event: tuple[str, ...] | None = None
    id: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConstantResponse:
    """The response to every webhook of a source, once the webhook is stored."""

    status: int
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class SourceRow:
    """All that a table of TOML contains about one source.

    - ``rule``: what identifies its webhooks.
    - ``secret_parameters``, ``secret_headers``: those that are secrets, which are not kept; the
      headers in lower case.
    - ``form``: how it signs; None for a sender that does not.
    - ``handshakes``, ``body``, ``response``: the columns of these names.
    - ``compressed``: whether bodies may be compressed with gzip.
    - ``limits``: what may come and wait of its webhooks.
    - ``secrets``: references to its secrets, such as ``env:NAME``.
    - ``event``, ``id``: the values that name the event, of which the first that is present counts,
      and those that are the provider's ids. They serve searches and are not part of the identity.
    - ``given``: the names of the fields that the table sets.
    """

    rule: IdentityRule = DEFAULT_RULE
    secret_parameters: tuple[str, ...] = ()
    secret_headers: tuple[str, ...] = ()
    form: Form | None = field(default=None, compare=False)
    handshakes: tuple[Handshake, ...] = ()
    body: BodyKind = "object"
    response: ConstantResponse | None = None
    compressed: bool = False
    limits: SourceLimits = NO_LIMITS
    secrets: tuple[str, ...] = ()
    event: tuple[Value, ...] = ()
    id: tuple[Value, ...] = ()
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def sign_with(self, form: Form) -> SourceRow:
        """Return this row with another form, whose secret values are not kept."""
        values = form.secret_values
        queries = {v.name for v in values if v.place == "query"}
        headers = {v.name.lower() for v in values if v.place == "header"}
        return replace(
            self,
            form=form,
            secret_parameters=tuple(sorted(queries | set(self.secret_parameters))),
            secret_headers=tuple(sorted(headers | set(self.secret_headers))),
            given=self.given | {"form", "secret_parameters", "secret_headers"},
        )

    def merge(self, other: SourceRow) -> SourceRow:
        """Return one row for two presets of a source. Raises ``ValueError`` if they differ.

        They may differ in how they sign.
        """
        first, second = self._shape, other._shape
        if first != second and SourceRow()._shape not in (first, second):
            raise ValueError("treats webhooks in another way")
        base = self if second == SourceRow()._shape else other
        return replace(
            base,
            secret_parameters=_join(self.secret_parameters, other.secret_parameters),
            secret_headers=_join(self.secret_headers, other.secret_headers),
        )

    @property
    def _shape(self) -> object:
        return (self.rule, self.handshakes, self.body, self.response)

    def put_over(self, base: SourceRow) -> SourceRow:
        """Return ``base`` with the fields that this row sets. Raises ``ValueError``."""
        joined = replace(base, **{name: getattr(self, name) for name in self.given})
        return _fit_rule(joined)


def read_row(
    columns: Mapping[str, object], presets: Mapping[str, SourceRow] | None = None
) -> SourceRow:
    """Return the row of these columns; those that are absent come from the preset, if one is named.

    Raises ``ValueError`` with the column and what is wrong in it.
    """
    columns = columns if "handshake" not in columns else {**columns, **_list_handshakes(columns)}
    given = convert_document(columns, _Columns)
    base = SourceRow()
    if given.preset:
        known = presets or {}
        if given.preset not in known:
            raise ValueError(f"preset: must be one of {', '.join(known)} (got {given.preset!r})")
        every = frozenset(_FIELDS)
        base = replace(known[given.preset], given=every)
    set_: dict[str, Any] = {}
    if given.handshake is not None:
        set_["handshakes"] = tuple(map(_read_handshake, enumerate(given.handshake, 1)))
    if given.body is not None:
        set_["body"] = given.body
    if given.response is not None:
        response = given.response
        if response.status == 204 and (response.body or response.type):
            raise ValueError("response: 204 has no type and no body")
        set_["response"] = ConstantResponse(response.status, response.type, response.body.encode())
    if given.secret_query is not None:
        set_["secret_parameters"] = given.secret_query
    if given.identity is not None:
        try:
            set_["rule"] = make_rule(given.identity.id, given.identity.without)
        except ValueError as error:
            raise ValueError(f"identity: {error}") from None
    if given.compressed is not None:
        set_["compressed"] = given.compressed
    if given.limits is not None:
        set_["limits"] = SourceLimits(
            given.limits.webhooks_per_second or 0, given.limits.waiting_bytes or 0
        )
    if given.secrets:
        set_["secrets"] = tuple(map(_check_reference, enumerate(given.secrets, 1)))
    for column, names in (("event", given.event), ("id", given.id)):
        if names is not None:
            set_[column] = _read_values(column, names)
    row = replace(base, **set_, given=base.given | set_.keys())
    if given.signature is not None:
        row = row.sign_with(_read_signature(given.signature))
    row = _fit_rule(row)
    _check(row)
    return row


#: How the identity rule reads bodies of each kind.
_IDENTIFIED: Mapping[BodyKind, str] = {
    "object": "",
    "json": "json",
    "form": "bytes",
    "any": "bytes",
}

_FIELDS = (
    "rule",
    "secret_parameters",
    "secret_headers",
    "form",
    "handshakes",
    "body",
    "response",
    "event",
    "id",
)


def _join(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*first, *second}))


def _check_reference(numbered: tuple[int, str]) -> str:
    number, text = numbered
    kind, colon, rest = text.partition(":")
    if kind not in ("env", "file") or not colon or not rest:  # not quoted: it may be a secret
        raise ValueError(f"secrets: number {number} must be env:NAME or file:PATH")
    return text


def _read_values(column: str, names: tuple[str, ...]) -> tuple[Value, ...]:
    try:
        return tuple(map(parse_value, names))
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _list_handshakes(columns: Mapping[str, object]) -> dict[str, object]:
    """Return the column as a list; one handshake may be written as a table."""
    value = columns["handshake"]
    return {"handshake": [value] if isinstance(value, dict) else value}


def _read_signature(signature: _Signature) -> Form:
    given = {
        name: columns
        for name, columns in (
            ("hmac", signature.hmac),
            ("token", signature.token),
            ("public_key", signature.public_key),
            ("jwt", signature.jwt),
        )
        if columns is not None
    }
    if len(given) != 1:
        raise ValueError("signature: must be one of hmac, token, public_key, jwt")
    ((name, columns),) = given.items()
    try:
        return columns.compile()
    except ValueError as error:
        raise ValueError(f"signature.{name}.{error}") from None


def _read_handshake(numbered: tuple[int, HandshakeColumns]) -> Handshake:
    number, columns = numbered
    try:
        return columns.compile()
    except ValueError as error:
        raise ValueError(f"handshake: number {number}: {error}") from None


def _fit_rule(row: SourceRow) -> SourceRow:
    """Return the row with an identity rule that reads bodies of its kind."""
    body = _IDENTIFIED[row.body]
    if row.rule.body == body:
        return row
    try:
        return replace(row, rule=make_rule(row.rule.id, row.rule.without, body))
    except ValueError as error:
        raise ValueError(f"identity: {error}") from None


def _check(row: SourceRow) -> None:
    """Raise ``ValueError`` for columns that do not fit together."""
    for handshake in row.handshakes:
        if handshake.hmac_of is None or handshake.columns.signed:
            continue
        # A token, which is all that is signed, must never be a webhook or its signed content.
        form = row.form
        whole = isinstance(form, HmacForm) and form.covers_body
        if row.body != "object" or not whole:
            raise ValueError(
                'handshake: an unsigned one with an HMAC needs body = "object" and a signature '
                "over {body}; otherwise a caller could obtain the signature of a webhook"
            )
    unkept = set(row.rule.parameters) & set(row.secret_parameters)
    if unkept:
        raise ValueError(
            f"identity: reads the query parameter {min(unkept)!r}, which is a secret and not kept"
        )
