"""The table of presets (``presets.toml``): what is known of providers, one row each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import msgspec

from portable_core.documents import convert_document
from portable_core.sources.rows import SourceRow, read_row
from portable_core.sources.values import Value


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the documentation says of a provider; empty for what is not verified.

    - ``title``: its name.
    - ``facts``: where the statements of the row come from.
    - ``vector``: where the test's signature comes from.
    - ``any_sender``: whether many senders use the preset, so that the rest depends on the sender.
    - ``event_source``, ``id_source``: where the columns ``event`` and ``id`` of the row come from:
      the provider's documentation, library or code.
    - ``setup``: what to enter where, and where the secret comes from.
    - ``addresses``: whether it can send to several addresses.
    - ``retries``: how often it sends again.
    - ``log``: whether its deliveries can be fetched afterwards.
    """

    title: str
    facts: str
    vector: str = ""
    any_sender: bool = False
    event_source: str = ""
    id_source: str = ""
    setup: str = ""
    addresses: str = ""
    retries: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """One row of the table. ``parameter`` is the name of what follows ``@``, if anything does."""

    name: str
    row: SourceRow
    page: Page
    parameter: str = ""

    @property
    def form(self) -> str:
        """The preset as ``SOURCES`` names it."""
        return f"{self.name}@{self.parameter}" if self.parameter else self.name


def read_presets(text: str) -> dict[str, Preset]:
    """Return the presets of a table by name. Raises ``ValueError`` with preset and column."""
    presets = {}
    for name, columns in tomllib.loads(text).items():
        try:
            if "page" not in columns:
                raise ValueError("page: missing")
            page = convert_document(columns.pop("page"), Page, "page")
            parameter = columns.pop("parameter", "")
            row = read_row(columns)
            _check_source("event", row.event, page.event_source)
            _check_source("id", row.id, page.id_source)
            presets[name] = Preset(name, row, page, parameter)
        except ValueError as error:
            raise ValueError(f"[{name}] {error}") from None
    return presets


#: What the source of a column is; each the provider's own.
_SOURCES = ("documentation", "library", "code")


def _check_source(column: str, values: tuple[Value, ...], source: str) -> None:
    """Raise ``ValueError`` for a column without a source, and a source without its column."""
    name = f"page.{column}_source"
    if values and not source:
        raise ValueError(f"{name}: missing. State where the column {column} comes from.")
    if source and not values:
        raise ValueError(f"{name}: there is no column {column}")
    kind, _, text = source.partition(": ")
    if source and (kind not in _SOURCES or not text):
        raise ValueError(f"{name}: must begin with one of {', '.join(_SOURCES)} (got {source!r})")


#: By name.
PRESETS: Mapping[str, Preset] = read_presets(
    files(__package__).joinpath("presets.toml").read_text("utf-8")
)
