"""The setting ``SOURCES_FILE``: a TOML file with a table for each source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

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
        tables = tomllib.loads(Path(path).expanduser().read_text("utf-8"))
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
        try:
            rows[name] = read_row(columns, presets)
        except ValueError as error:
            raise ValueError(f"{path}: [{name}] {error}") from None
    return rows
