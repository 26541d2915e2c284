"""Checks documents against the schemas that Google publishes of its APIs (discovery documents).

google-api-python-client ships them; their form is JSON Schema's draft 3 with formats of Google's.
A member that a schema does not name is a fault, so that a typo is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_DURATION = re.compile(r"[0-9]+(\.[0-9]+)?s")
_IN_TEXT = re.compile(r"\* `([^`]+)`: ([A-Za-z, ]+)")


class Api:
    """One version of one API: ``Api("run", "v1")``."""

    def __init__(self, name: str, version: str) -> None:
        documents = files("googleapiclient.discovery_cache") / "documents"
        self._schemas: dict[str, Any] = json.loads(
            (documents / f"{name}.{version}.json").read_text()
        )["schemas"]

    def find_faults(self, kind: str, value: object) -> list[str]:
        """What is wrong with ``value`` as a message of this kind: a path and a reason each."""
        return list(self._check({"$ref": kind}, value, kind))

    def _check(self, schema: dict[str, Any], value: object, path: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = {"type": "object", **self._schemas[schema["$ref"]]}
        kind = schema.get("type", "any")
        if kind == "any":
            return
        if not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
            yield f"{path}: {value!r} is not of type {kind}"
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._check(schema["items"], item, f"{path}[{index}]")
        elif isinstance(value, dict):
            yield from self._check_members(schema, value, path)
        elif schema.get("format") == "google-duration" and not _DURATION.fullmatch(str(value)):
            yield f"{path}: {value!r} is not a duration"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{path}: {value!r} is not one of {', '.join(schema['enum'])}"

    def _check_members(
        self, schema: dict[str, Any], value: dict[object, object], path: str
    ) -> Iterator[str]:
        members, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            expected = members.get(name, others)
            if expected is None:
                yield f"{path}.{name}: there is no such member"
            else:
                yield from self._check(expected, item, f"{path}.{name}")

    def read_annotations(self) -> dict[str, set[str]]:
        """The annotations that the description of ``ObjectMeta`` lists: of which resources."""
        text = self._schemas["ObjectMeta"]["properties"]["annotations"]["description"]
        return {
            name: {resource.strip() for resource in resources.split(",") if resource.strip()}
            for name, resources in _IN_TEXT.findall(text)
        }
