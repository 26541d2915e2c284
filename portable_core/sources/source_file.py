"""The setting ``SOURCES_FILE``: a TOML file with a table for each source."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
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
    presets = {p.name: p.row for p in PRESETS.values() if not p.parameter}
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


def make_secret_reader(env: Mapping[str, str]) -> Callable[[str], str]:
    """Return what reads the secret of a reference: ``env:NAME`` or ``file:PATH``.

    A line break at the end of a file does not count. The reader raises ``ValueError``, which quotes
    no secret.
    """

    def read(reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env":
            secret = env.get(name, "").strip(" \t\r\n")
            if not secret:
                raise ValueError(f"names the variable {name[:60]!r}, which is not set")
        else:
            try:
                secret = Path(name).read_text("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise ValueError(f"names the file {name[:200]!r}, which is not UTF-8") from None
            except OSError as error:
                raise ValueError(f"names a file that cannot be read: {error}") from None
            if not secret:
                raise ValueError(f"names the file {name[:200]!r}, which is empty")
        pem = kind == "file" and secret.startswith("-----BEGIN ")  # which has several lines
        fault = "" if pem else find_control_character(secret)
        if fault:
            raise ValueError(f"contains {fault}")
        return secret

    return read


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
