"""``/slaves``: the slaves that a master knows, for operators."""

from __future__ import annotations

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.node import Node
from portable_core.sync.master import Master
from portable_core.sync.protocol import SLAVES_PATH
from portable_core.sync.slaves import SlavesDocument
from portable_core.sync.status import describe_slaves


def add_slaves_routes(app: Flask, node: Node, master: Master) -> None:
    """Add ``GET /slaves`` and ``DELETE /slaves/<slave>``."""
    urls = {slave.name: slave.url for slave in node.settings.slaves}
    logs = {name: log.label for name, log in node.settings.provider_logs.logs.items()}

    def answer() -> Response:
        return answer_json(SlavesDocument(describe_slaves(master.slave_states(), urls, logs)))

    @app.get(SLAVES_PATH)
    def list_slaves() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        return answer()

    @app.delete(f"{SLAVES_PATH}/<slave>")
    def forget_slave(slave: str) -> Response:
        node.authenticate(request.headers.get("Authorization"))
        master.slaves.forget(slave)
        return answer()
