"""``/archive`` and ``/import``: removing archived records from a master, and bringing them back."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.queries import parse_bounded
from portable_core.adapters.flask_app.request_stream import read_chunks
from portable_core.errors import AnswerInvalid, BadRequest, PayloadTooLarge
from portable_core.node import Node
from portable_core.sync.archiving import ArchivedStretch
from portable_core.sync.master import Master
from portable_core.webhooks.archived import MAX_IMPORT_BYTES, decode_archived

ARCHIVE_PATH = "/archive"
IMPORT_PATH = "/import"

_MAX_REQUEST_BYTES = 4096


def add_archive_routes(app: Flask, node: Node, master: Master) -> None:
    """Add ``GET`` and ``POST /archive``, and ``POST /import``."""

    def authenticate() -> None:
        node.authenticate(request.headers.get("Authorization"))

    @app.get(ARCHIVE_PATH)
    def plan_archive() -> Response:
        authenticate()
        before = parse_bounded("before", request.args.get("before", ""))
        return answer_json(master.archiving.plan(before))

    @app.post(ARCHIVE_PATH)
    def remove_archived() -> Response:
        authenticate()
        try:
            stretch = msgspec.json.decode(read_body(_MAX_REQUEST_BYTES), type=ArchivedStretch)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body must be a stretch of an archive: {error}") from error
        return answer_json(master.archiving.remove(stretch))

    @app.post(IMPORT_PATH)
    def import_archived() -> Response:
        authenticate()
        lines = filter(None, read_body(MAX_IMPORT_BYTES).split(b"\n"))
        try:
            records = [decode_archived(line) for line in lines]
        except AnswerInvalid as error:
            raise BadRequest(str(error)) from error
        return answer_json(master.archiving.bring_back(records))


def read_body(most: int) -> bytes:
    """Return the whole body. Raises ``PayloadTooLarge`` for more than so many bytes."""
    parts, size = [], 0
    for part in read_chunks(request):  # one read may return less than the whole body
        parts.append(part)
        size += len(part)
        if size > most:
            raise PayloadTooLarge(f"the body is larger than {most} bytes")
    return b"".join(parts)
