"""The OpenAPI 3.1 description of a node's HTTP surface: ``GET /openapi.json``.

Its parts are JSON files beside this one, edited manually. The console's pages are for people and
are not described.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response

from portable_core.ingest.receiver import ALGORITHM_NAMES
from portable_core.settings import Role

DESCRIPTION_PATH = "/openapi.json"

_SHARED = ("node", "schemas")
_PARTS: dict[Role, tuple[str, ...]] = {
    "slave": (*_SHARED, "slave"),
    "master": (*_SHARED, "master", "webhooks", "feed"),
}


def describe_surface(role: Role) -> dict[str, Any]:
    """Return the whole document of a role, as JSON-ready values."""
    document: dict[str, Any] = {}
    for part in _PARTS[role]:
        _merge(document, orjson.loads(Path(__file__).with_name(f"{part}.json").read_bytes()))
    document["components"]["schemas"]["Algorithm"] = {
        "description": "A hash algorithm; a keyed one with a fingerprint of its key.",
        "type": "string",
        "pattern": ALGORITHM_NAMES,
    }
    return document


def add_description(app: Flask, role: Role) -> None:
    """Add ``GET /openapi.json``, open to every client: it reveals only the role of this node."""
    body = orjson.dumps(describe_surface(role), option=orjson.OPT_APPEND_NEWLINE)

    @app.get(DESCRIPTION_PATH)
    def read_description() -> Response:
        return Response(body, content_type="application/json")


def _merge(document: dict[str, Any], part: dict[str, Any]) -> None:
    """Put the part's members into ``document``, objects of one name into one another."""
    for name, value in part.items():
        if isinstance(value, dict) and name in document:
            _merge(document[name], value)
        else:
            document[name] = value
