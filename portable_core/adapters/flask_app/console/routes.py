"""The console's routes: the login, the first page, and its sync."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import msgspec
from flask import Flask, Response, render_template, request

from portable_core.adapters.flask_app.console.access import (
    Access,
    Visitor,
    add_headers,
    check_next,
    go_to,
)
from portable_core.adapters.flask_app.console.dead_letter_pages import DeadLetterPages
from portable_core.adapters.flask_app.console.guesses import Guesses
from portable_core.adapters.flask_app.console.jobs import Replays, SyncJob
from portable_core.adapters.flask_app.console.overview import read_overview
from portable_core.adapters.flask_app.console.pages import frame, make_blueprint
from portable_core.adapters.flask_app.console.public_path import PublicPath
from portable_core.adapters.flask_app.console.replay_pages import ReplayPages
from portable_core.adapters.flask_app.console.webhook_pages import WebhookPages
from portable_core.adapters.flask_app.feed_routes import add_feed_routes
from portable_core.adapters.flask_app.quarantine_routes import add_quarantine_routes
from portable_core.adapters.flask_app.sse import EVENT_STREAM
from portable_core.errors import NotFound
from portable_core.node import Node
from portable_core.ports import Clock
from portable_core.sync.master import Master
from portable_core.webhooks.delivery_request import Connect

logger = logging.getLogger(__name__)


def add_console(app: Flask, node: Node, master: Master, connect: Connect | None) -> None:
    """Add the console, if ``CONSOLE_TOKEN`` is set, and the feed in any case.

    ``connect`` opens connections to the targets of replays.
    """
    token = node.settings.console_token
    if not token:
        add_feed_routes(app, node, master, None)
        add_quarantine_routes(app, node, master, None)

        @app.get("/")
        def explain() -> Response:
            raise NotFound(
                "the console is off: set CONSOLE_TOKEN to at least 16 characters that only its "
                "operators know, and restart the master"
            )

        return
    access = Access(node)
    app.wsgi_app = PublicPath(app.wsgi_app, node.settings.public_url)  # type: ignore[method-assign]
    app.register_blueprint(
        make_blueprint(access, forwards=bool(node.settings.forward_url)), name="console"
    )
    app.after_request(_add_static_headers)
    replays = Replays()
    pages = WebhookPages(node, master, access)
    add_feed_routes(app, node, master, pages)
    add_quarantine_routes(app, node, master, pages)
    pages.add_routes(app)
    _add_login(app, access, node.receiver.clock)
    _add_overview(app, node, master, access)
    ReplayPages(node, access, replays, connect).add_routes(app)
    DeadLetterPages(node, access).add_routes(app)


def _add_static_headers(response: Response) -> Response:
    if (request.endpoint or "").startswith("console."):
        response.headers["Cache-Control"] = "no-cache"
        add_headers(response)
    return response


def is_from_another_site() -> bool:
    """Return whether a link of another site led here: the browser then sends no cookie yet."""
    return (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        and "again" not in request.args
    )


def _add_login(app: Flask, access: Access, clock: Clock) -> None:
    guesses = Guesses()

    def show_login(wrong: bool = False, wait_s: int = 0) -> Response:
        following = check_next(request.values.get("next", "/"))
        if is_from_another_site():
            return Response(render_template("arrival.html", next=following))
        if "again" in request.args and access.identify().logged_in:
            return go_to(following)
        page = render_template("login.html", wrong=wrong, wait_s=wait_s, next=following)
        response = Response(page, 429 if wait_s else 401 if wrong else 200)
        if wait_s:
            response.headers["Retry-After"] = str(wait_s)
        visitor = access.identify()
        if not visitor.logged_in:
            access.set_cookie(response, Visitor(visitor.csrf, False))
        return response

    def log_in() -> object:
        access.check_form()
        address = request.remote_addr or ""
        wait_s = guesses.begin(address, clock.monotonic())
        if wait_s:  # a right token is not accepted either: the response must not show it
            return show_login(wait_s=wait_s)
        if not access.check_token(request.form.get("token", "").strip()):
            logger.warning("a login to the console failed: wrong token, from %s", address)
            return show_login(wrong=True)
        guesses.end(address)
        response = go_to(check_next(request.form.get("next", "/")))
        access.log_in(response)
        return response

    def log_out() -> object:
        response = go_to("/login")
        access.log_out(response)
        return response

    def add(path: str, view: Callable[..., object], method: str, *, public: bool) -> None:
        framed = frame(access, view, public=public)
        app.add_url_rule(path, f"console_{view.__name__}", framed, methods=[method])

    add("/login", show_login, "GET", public=True)
    add("/login", log_in, "POST", public=True)
    add("/logout", log_out, "POST", public=False)


def _add_overview(app: Flask, node: Node, master: Master, access: Access) -> None:
    job = SyncJob(lambda progress: master.sync(None, progress))

    def show_overview() -> str:
        sync = job.state
        return render_template("overview.html", overview=read_overview(node, master), sync=sync)

    def show_live() -> str:
        """Return only the changing part of the first page, for its script."""
        return render_template(
            "overview_live.html", overview=read_overview(node, master), sync=job.state
        )

    def start_sync() -> object:
        job.start()
        return go_to("/")

    def follow_sync() -> Response:
        def events() -> Iterator[bytes]:
            for state in job.watch(lambda: node.stopping):
                yield b"data: %s\n\n" % msgspec.json.encode(state)

        return Response(events(), content_type=EVENT_STREAM)

    for path, view, method in (
        ("/", show_overview, "GET"),
        ("/console/live", show_live, "GET"),
        ("/console/sync", start_sync, "POST"),
        ("/console/events", follow_sync, "GET"),
    ):
        endpoint = f"console_{view.__name__}"
        app.add_url_rule(path, endpoint, frame(access, view), methods=[method])
