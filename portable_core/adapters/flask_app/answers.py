"""JSON responses."""

from __future__ import annotations

import orjson
from flask import Response


def answer_json(document: object, status: int = 200) -> Response:
    """Return a JSON response that ends with a line break, for terminals."""
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, content_type="application/json")
