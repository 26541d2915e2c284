"""A dashboard against Grafana's schema, which its Foundation SDK publishes as Python types.

The types read any document: they drop members that they do not know, and check no value. So a
document is read and written again, which shows the former, and the values are compared with the
annotations of the types.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

register_default_plugins()
_UNITS = {value for value in vars(units).values() if isinstance(value, str)}
_SCALARS: dict[Any, type | tuple[type, ...]] = {
    str: str,
    bool: bool,
    int: int,
    float: (int, float),
}


def list_faults(document: dict[str, Any]) -> list[str]:
    """Return what Grafana does not know, or what has a value that it does not allow."""
    dashboard = Dashboard.from_json(document)
    written = json.loads(JSONEncoder().encode(dashboard))
    faults = [*_find_unknown(document, written, ""), *_find_invalid(dashboard, Dashboard, "")]
    for panel in dashboard.panels or ():
        if isinstance(panel, Panel):
            # Options of a type without a schema stay a plain dictionary.
            if not hasattr(panel.options, "to_json"):
                faults.append(f"panel {panel.id_val}: {panel.type_val!r} is not a type of panel")
            defaults = panel.field_config.defaults if panel.field_config else None
            if defaults is not None and defaults.unit not in {None, *_UNITS}:
                faults.append(f"panel {panel.id_val}: {defaults.unit!r} is not a unit")
    return faults


def _find_unknown(document: Any, written: Any, path: str) -> Iterator[str]:
    if isinstance(document, dict) and isinstance(written, dict):
        for name, value in document.items():
            if name in written:
                yield from _find_unknown(value, written[name], f"{path}/{name}")
            else:
                yield f"{path}/{name}: unknown"
    elif isinstance(document, list) and isinstance(written, list):
        for index, pair in enumerate(zip(document, written, strict=True)):
            yield from _find_unknown(*pair, f"{path}/{index}")
    elif document != written:
        yield f"{path}: {document!r} is read as {written!r}"


def _find_invalid(value: Any, hint: Any, path: str) -> Iterator[str]:
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and hasattr(hint, "from_json"):
        value = hint.from_json(value)  # the types leave some members as they are
    if kind in (typing.Union, types.UnionType):
        found = [list(_find_invalid(value, each, path)) for each in _narrow(value, arguments)]
        yield from min(found, key=len)
    elif kind is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_invalid(item, arguments[0], f"{path}/{index}")
    elif kind is dict and isinstance(value, dict):
        for name, item in value.items():
            yield from _find_invalid(item, arguments[1], f"{path}/{name}")
    elif hasattr(value, "to_json"):
        for name, each in typing.get_type_hints(type(value)).items():
            yield from _find_invalid(getattr(value, name), each, f"{path}/{name}")
    elif not _allows(hint, value):
        yield f"{path}: {value!r} is not a {getattr(hint, '__name__', hint)}"


def _narrow(value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the members of a union without None, unless the value is None."""
    return tuple(each for each in hints if (each is types.NoneType) == (value is None)) or hints


def _allows(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    if hint in _SCALARS:
        is_bool = isinstance(value, bool)
        return isinstance(value, _SCALARS[hint]) and is_bool == (hint is bool)
    return hint in (object, Any) or (hint is types.NoneType and value is None)
