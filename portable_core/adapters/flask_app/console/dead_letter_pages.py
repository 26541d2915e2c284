"""The page of the dead letters of a master that forwards."""

from __future__ import annotations

from flask import Flask, render_template, request

from portable_core.adapters.flask_app.console.access import Access, go_to
from portable_core.adapters.flask_app.console.pages import frame
from portable_core.errors import BadRequest
from portable_core.node import Node

_PATH = "/dead-letters"
_SHOWN = 100


class DeadLetterPages:
    """The views. Without ``FORWARD_URL`` they only show that nothing is forwarded."""

    def __init__(self, node: Node, access: Access) -> None:
        self._node = node
        self._access = access

    def add_routes(self, app: Flask) -> None:
        for view, method in ((self._show, "GET"), (self._change, "POST")):
            framed = frame(self._access, view)
            app.add_url_rule(
                _PATH, f"console_dead_letters{view.__name__}", framed, methods=[method]
            )

    def _show(self) -> str:
        letters = self._node.dead_letters
        count, rows = (0, []) if letters is None else letters.list_rows(_SHOWN)
        url = self._node.settings.forward_url
        return render_template("dead_letters.html", count=count, rows=rows, url=url)

    def _change(self) -> object:
        """Retry or drop one; a form of an old page may name one that is gone."""
        action, letters = request.form.get("action", ""), self._node.dead_letters
        if action not in ("retry", "drop"):
            raise BadRequest(f"action: must be retry or drop (got {action[:40]!r})")
        if letters is not None:
            change = letters.retry if action == "retry" else letters.drop
            change(request.form.get("id", ""))
        return go_to(_PATH)
