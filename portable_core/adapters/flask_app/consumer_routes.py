"""``/consumers``: the registered consumers of the arrival feed."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.request_stream import read_chunks
from portable_core.documents import convert_document
from portable_core.errors import BadRequest
from portable_core.node import Node
from portable_core.webhooks.consumers import Consumers, ConsumersDocument, PositionDocument

CONSUMERS_PATH = "/consumers"

_MAX_BODY_BYTES = 16_384


def add_consumer_routes(app: Flask, node: Node, consumers: Consumers) -> None:
    """Add ``GET /consumers``, and ``GET``, ``PUT`` and ``DELETE /consumers/<consumer>``."""

    def authenticate() -> None:
        node.authenticate(request.headers.get("Authorization"))

    @app.get(CONSUMERS_PATH)
    def list_consumers() -> Response:
        authenticate()
        return answer_json(ConsumersDocument(consumers.describe()))

    @app.get(f"{CONSUMERS_PATH}/<consumer>")
    def read_consumer(consumer: str) -> Response:
        authenticate()
        return answer_json(consumers.describe_one(consumer))

    @app.put(f"{CONSUMERS_PATH}/<consumer>")
    def save_consumer(consumer: str) -> Response:
        authenticate()
        return answer_json(consumers.save(consumer, _read_position()))

    @app.delete(f"{CONSUMERS_PATH}/<consumer>")
    def delete_consumer(consumer: str) -> Response:
        authenticate()
        consumers.delete(consumer)
        return answer_json(ConsumersDocument(consumers.describe()))


def _read_position() -> str:
    body = b""
    for chunk in read_chunks(request):
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise BadRequest(f"the body is larger than {_MAX_BODY_BYTES} bytes")
    try:
        return convert_document(msgspec.json.decode(body), PositionDocument).position
    except (ValueError, RecursionError) as error:
        raise BadRequest(f'the body must be {{"position": …}}: {error}') from error
