"""``/trigger-sync`` and ``/records``: what a scheduler and a stopping slave ask of the master."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.request_stream import check_identity, read_chunks
from portable_core.adapters.flask_app.sse import EVENT_STREAM, stream_sync
from portable_core.errors import BadRequest
from portable_core.node import Node
from portable_core.records import Record
from portable_core.settings import is_node_name
from portable_core.sync.master import Master
from portable_core.sync.protocol import QUERY_SLAVE, RECORDS_PATH
from portable_core.wire.negotiation import choose_encoding, read_batches


def add_master_routes(app: Flask, node: Node, master: Master) -> None:
    """Add ``POST /trigger-sync`` and ``POST /records``."""

    @app.post("/trigger-sync")
    def trigger() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        only = request.args.get(QUERY_SLAVE)
        if EVENT_STREAM in request.accept_mimetypes.values():
            events = stream_sync(lambda progress: master.sync(only, progress))
            headers = {"Cache-Control": "no-cache"}
            return Response(events, 200, headers, content_type=EVENT_STREAM)
        report = master.sync(only)
        return answer_json(report.to_json(), 200 if report.ok else 502)

    @app.post(RECORDS_PATH)
    def accept() -> Response:
        slave = request.args.get(QUERY_SLAVE, "unnamed")
        if not is_node_name(slave):
            raise BadRequest(f"{QUERY_SLAVE}: {slave[:80]!r} cannot be a node's name")
        node.check_slave(request.headers.get("Authorization"), slave)
        check_identity(request)
        reader = choose_encoding(request.headers.get("Content-Type")).read_records()

        def records() -> Iterator[Record]:
            for batch in read_batches(reader, read_chunks(request)):
                yield from batch

        return answer_json(master.accept(slave, records()))
