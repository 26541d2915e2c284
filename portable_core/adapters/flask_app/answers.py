"""JSON answers."""

from __future__ import annotations

import orjson
from flask import Response


def answer_json(document: object, status: int = 200) -> Response:
    """A JSON answer that ends with a line break, so that a terminal shows it well."""
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, content_type="application/json")
