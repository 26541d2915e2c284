"""JSON responses."""

from __future__ import annotations

import msgspec
from flask import Response


def answer_json(document: object, status: int = 200) -> Response:
    """Return a JSON response that ends with a line break, for terminals.

    ``document`` is a struct or JSON-ready values.
    """
    body = msgspec.json.encode(document) + b"\n"
    return Response(body, status, content_type="application/json")
