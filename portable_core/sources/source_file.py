"""The setting ``SOURCES_FILE``: a TOML file with a table for each source."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from portable_core.settings_text import find_control_character
from portable_core.sources.presets import PRESETS
from portable_core.sources.rows import SourceRow, read_row
from portable_core.sources.signatures import is_source_name


def read_sources_file(path: str) -> Mapping[str, SourceRow]:
    """Return the rows of a file by the name of the source; no rows for an empty path.

    Raises ``ValueError`` with the file, the source and the column at fault.
    """
    if not path:
        return {}
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    presets = {name: SourceRow(p.rule, p.secret_parameters) for name, p in PRESETS.items()}
    rows = {}
    for name, columns in tables.items():
        if name and not is_source_name(name):
            raise ValueError(
                f"{path}: [{name[:40]}] is not the name of a source: 1 to 64 letters, digits, "
                "dots, dashes or underscores, and not - alone"
            )
        if not isinstance(columns, dict):
            raise ValueError(f"{path}: {name[:40]} must be a table, as in [{name[:40]}]")
        for fault in filter(None, map(find_control_character, _list_texts(columns))):
            raise ValueError(f"{path}: [{name}] contains {fault}")
        try:
            rows[name] = read_row(columns, presets)
        except ValueError as error:
            raise ValueError(f"{path}: [{name}] {error}") from None
    return rows


def _list_texts(value: object) -> Iterator[str]:
    """Return every text in a value of TOML, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _list_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _list_texts(item)
