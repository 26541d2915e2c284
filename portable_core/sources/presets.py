"""The table of presets (``presets.toml``): what is known of providers, one row each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from portable_core.payload_hash.identity import IdentityRule
from portable_core.sources.rows import read_row


@dataclass(frozen=True, slots=True)
class Preset:
    """One row. ``signature`` is a scheme without its secret, ``facts`` the source of the row."""

    name: str
    signature: str
    rule: IdentityRule
    secret_parameters: tuple[str, ...]
    facts: str


def _read_presets() -> dict[str, Preset]:
    text = files(__package__).joinpath("presets.toml").read_text("utf-8")
    presets = {}
    for name, columns in tomllib.loads(text).items():
        signature, facts = columns.pop("signature"), columns.pop("facts")
        row = read_row(columns)
        presets[name] = Preset(name, signature, row.rule, row.secret_parameters, facts)
    return presets


#: By name.
PRESETS: Mapping[str, Preset] = _read_presets()
