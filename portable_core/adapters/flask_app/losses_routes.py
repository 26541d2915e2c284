"""``/losses``: what slaves have lost, for operators."""

from __future__ import annotations

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.node import Node
from portable_core.sync.master import Master
from portable_core.sync.protocol import LOSSES_PATH


def add_losses_routes(app: Flask, node: Node, master: Master) -> None:
    """Add ``GET /losses`` and ``POST /losses/<slave>/<loss>/acknowledge``."""

    @app.get(LOSSES_PATH)
    def list_losses() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        return answer_json(master.losses.describe())

    @app.post(f"{LOSSES_PATH}/<slave>/<loss>/acknowledge")
    def acknowledge_loss(slave: str, loss: str) -> Response:
        node.authenticate(request.headers.get("Authorization"))
        master.losses.acknowledge(slave, loss)
        return answer_json(master.losses.describe())
