"""``/quarantine`` for programs: pages of items, one item, release and deletion."""

from __future__ import annotations

import base64
from typing import Any, Protocol

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.queries import read_limit
from portable_core.node import Node
from portable_core.records import format_id
from portable_core.sync.master import Master
from portable_core.sync.protocol import QUARANTINE_PATH
from portable_core.sync.quarantine import ItemDocument

_HTML = "text/html"
_JSON = "application/json"


class Page(Protocol):
    """The page for browsers, with a login of its own."""

    def knows_visitor(self) -> bool:
        """Return whether the request comes from a visitor who is logged in."""
        ...

    def show_quarantine(self) -> object: ...


def add_quarantine_routes(app: Flask, node: Node, master: Master, page: Page | None) -> None:
    """Add ``GET /quarantine``, and ``GET``, ``DELETE`` and release of ``/quarantine/<item>``."""
    quarantine = master.quarantine

    def authenticate() -> None:
        node.authenticate(request.headers.get("Authorization"))

    @app.get(QUARANTINE_PATH)
    def list_quarantine() -> Any:
        accepted = request.accept_mimetypes.best_match([_JSON, _HTML], _JSON)
        if page is not None and accepted == _HTML:
            return page.show_quarantine()
        if page is None or not page.knows_visitor():
            authenticate()
        before = request.args.get("before") or None
        return answer_json(quarantine.describe(before, read_limit(request.args)))

    @app.get(f"{QUARANTINE_PATH}/<item>")
    def show_quarantined(item: str) -> Response:
        authenticate()
        found = quarantine.find(item)
        record = found.record
        return answer_json(
            ItemDocument(
                found.id,
                found.slave,
                found.at,
                found.reason,
                format_id(record.pair),
                record.pair.timestamp,
                record.pair.hash,
                record.meta.to_mapping(),
                base64.b64encode(record.payload).decode(),
            )
        )

    @app.post(f"{QUARANTINE_PATH}/<item>/release")
    def release_quarantined(item: str) -> Response:
        authenticate()
        return answer_json(quarantine.release(item))

    @app.delete(f"{QUARANTINE_PATH}/<item>")
    def delete_quarantined(item: str) -> Response:
        authenticate()
        quarantine.delete(item)
        return answer_json(quarantine.describe(None, 1))
