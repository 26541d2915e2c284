"""The columns that presets and ``SOURCES_FILE`` share: how a source's webhooks are identified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from portable_core.documents import convert_document
from portable_core.payload_hash.identity import DEFAULT_RULE, IdentityRule, make_rule


class _Identity(msgspec.Struct, forbid_unknown_fields=True):
    id: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    preset: str = ""
    identity: _Identity | None = None
    secret_query: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """What a table of TOML says of one source.

    ``secret_parameters`` are query parameters that are secrets; they are not kept.
    """

    rule: IdentityRule = DEFAULT_RULE
    secret_parameters: tuple[str, ...] = ()


def read_row(
    columns: Mapping[str, object], presets: Mapping[str, SourceRow] | None = None
) -> SourceRow:
    """Return the row of these columns; those that are absent come from the preset, if one is named.

    Raises ``ValueError`` with the column and what is wrong in it.
    """
    given = convert_document(columns, _Columns)
    base = SourceRow()
    if given.preset:
        known = presets or {}
        if given.preset not in known:
            raise ValueError(f"preset: must be one of {', '.join(known)} (got {given.preset!r})")
        base = known[given.preset]
    rule = base.rule
    if given.identity is not None:
        try:
            rule = make_rule(given.identity.id, given.identity.without)
        except ValueError as error:
            raise ValueError(f"identity: {error}") from None
    secret = base.secret_parameters if given.secret_query is None else given.secret_query
    unkept = set(rule.parameters) & set(secret)
    if unkept:
        raise ValueError(
            f"identity: reads the query parameter {min(unkept)!r}, which is a secret and not kept"
        )
    return SourceRow(rule, secret)
