"""The console's templates and filters, and the wrapper of every view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, render_template, request

from portable_core.adapters.flask_app.console import texts
from portable_core.adapters.flask_app.console.access import Access, View, add_headers
from portable_core.errors import Unavailable, WebhookSyncError
from portable_core.records import format_id
from portable_core.text import format_size, format_time


def make_blueprint(access: Access, *, forwards: bool) -> Blueprint:
    """Return the templates with their filters, and the files that pages load.

    With ``forwards``, pages have a link to the dead letters.
    """
    blueprint = Blueprint(
        "console",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/console/static",
    )
    filters: dict[str, Callable[..., str]] = {
        "time": partial(format_time, zone=" UTC"),
        "exact_time": texts.format_exact_time,
        "iso": texts.format_iso,
        "duration": texts.format_duration,
        "size": format_size,
        "count": texts.format_count,
        "id": format_id,
        "sentence": texts.format_sentence,
        "rule": texts.suggest_rule,
    }
    for name, function in filters.items():
        blueprint.add_app_template_filter(function, name)

    blueprint.add_app_template_global(add_filter)

    @blueprint.app_context_processor
    def provide() -> dict[str, object]:
        visitor = access.identify()
        return {
            "csrf": visitor.csrf,
            "logged_in": visitor.logged_in,
            "change_query": change_query,
            "forwards": forwards,
        }

    return blueprint


def change_query(**changes: str) -> str:
    """Return the query of this page with some values changed; empty ones are left out."""
    values = {**request.args.to_dict(), **changes}
    return urlencode({name: value for name, value in values.items() if value})


def add_filter(name: str, value: str) -> str:
    """Return a query of the list of webhooks: that of this page, if this is the list, with one
    more filter, from the newest webhook on.
    """
    if request.path.rstrip("/").endswith("/webhooks"):
        return change_query(**{name: value, "before": ""})
    return urlencode({name: value})


def frame(access: Access, view: View, *, public: bool = False) -> View:
    """Return ``view`` for a browser: behind the login, with errors as pages and all headers."""
    inner = view if public else access.require_login(view)

    @wraps(view)
    def framed(*args: object, **values: object) -> Any:
        try:
            response: Response = make_response(inner(*args, **values))
        except WebhookSyncError as error:
            response = make_response(render_template("error.html", error=error), error.status)
            if isinstance(error, Unavailable) and error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
        return add_headers(response)

    return framed
