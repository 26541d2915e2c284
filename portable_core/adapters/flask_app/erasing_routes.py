"""Deleting webhooks: ``DELETE /webhooks/<id>`` of a master, ``POST /tombstones`` of a slave."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.archive_routes import read_body
from portable_core.adapters.flask_app.feed_routes import WEBHOOKS_PATH
from portable_core.errors import BadRequest
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.records import parse_id
from portable_core.sync.erasing import (
    MOST_AT_ONCE,
    ErasedDocument,
    TombstoneDocument,
    erase_on_slave,
)
from portable_core.sync.master import Master
from portable_core.sync.protocol import TOMBSTONES_PATH

#: The value of ``key`` for a webhook without one.
NO_KEY = "-"

_MAX_BODY_BYTES = 256 * MOST_AT_ONCE


def add_deletion_routes(app: Flask, node: Node, master: Master) -> None:
    """Add ``DELETE /webhooks/<id>``."""

    @app.delete(f"{WEBHOOKS_PATH}/<webhook>")
    def delete_webhook(webhook: str) -> Response:
        node.authenticate(request.headers.get("Authorization"))
        pair, key = parse_id(webhook), request.args.get("key")
        key = "" if key == NO_KEY else key
        return answer_json(master.erasing.delete(pair, key))


def add_tombstone_routes(app: Flask, node: Node, receiver: Receiver) -> None:
    """Add ``POST /tombstones``."""

    @app.post(TOMBSTONES_PATH)
    def erase() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        return answer_json(ErasedDocument(erase_on_slave(receiver, _read_tombstones())))


def _read_tombstones() -> list[TombstoneDocument]:
    body = read_body(_MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body, type=list[TombstoneDocument])
    except (ValueError, RecursionError) as error:
        raise BadRequest(f'the body must be [{{"hash": …, "timestamp": …}}]: {error}') from error
