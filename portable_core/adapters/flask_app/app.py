"""The endpoints that both roles have: webhooks, health, status, the description of them all."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.archive_routes import add_archive_routes
from portable_core.adapters.flask_app.arrival_routes import add_arrival_routes
from portable_core.adapters.flask_app.console import add_console
from portable_core.adapters.flask_app.consumer_routes import add_consumer_routes
from portable_core.adapters.flask_app.erasing_routes import (
    add_deletion_routes,
    add_tombstone_routes,
)
from portable_core.adapters.flask_app.losses_routes import add_losses_routes
from portable_core.adapters.flask_app.master_routes import add_master_routes
from portable_core.adapters.flask_app.openapi import add_description
from portable_core.adapters.flask_app.problems import add_problem_handlers
from portable_core.adapters.flask_app.slave_routes import add_slave_routes
from portable_core.adapters.flask_app.slaves_routes import add_slaves_routes
from portable_core.adapters.flask_app.webhooks import WebhookMiddleware
from portable_core.errors import NotFound
from portable_core.ingest.admission import WEBHOOK_PATH
from portable_core.node import Node
from portable_core.sync.status import (
    HealthDocument,
    describe_retention,
    describe_slaves,
    describe_status,
)
from portable_core.webhooks.delivery_request import Connect

#: The body of ``GET /metrics`` and its media type, for the value of ``Accept``.
Expose = Callable[[str], tuple[bytes, str]]


def create_app(
    node: Node,
    started: Callable[[], None] = lambda: None,
    expose: Expose | None = None,
    connect: Connect | None = None,
) -> Flask:
    """Return the WSGI application of one node. ``started`` is called before every request.

    ``/metrics`` exists only with ``expose``; a master's console sends webhooks again only with
    ``connect``.
    """
    app = Flask("webhook-sync", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.before_request(started)
    add_problem_handlers(app)
    _add_webhook_routes(app, WebhookMiddleware(app.wsgi_app, node, started))
    app.before_request(lambda: node.observer.begin_request(request.headers.get))
    if expose is not None:
        _add_metrics(app, node, expose)
    _add_status_routes(app, node)
    add_description(app, node.settings.role)
    if node.slave is not None:
        add_slave_routes(app, node, node.slave)
        add_tombstone_routes(app, node, node.receiver)
    if node.feed is not None and node.consumers is not None:
        add_arrival_routes(app, node, node.feed, node.consumers)
        add_consumer_routes(app, node, node.consumers)
    if node.master is not None:
        add_master_routes(app, node, node.master)
        add_losses_routes(app, node, node.master)
        add_deletion_routes(app, node, node.master)
        add_slaves_routes(app, node, node.master)
        add_archive_routes(app, node, node.master)
        add_console(app, node, node.master, connect)
    return app


def _add_metrics(app: Flask, node: Node, expose: Expose) -> None:
    @app.get("/metrics")
    def metrics() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        body, content_type = expose(request.headers.get("Accept", ""))
        return Response(body, 200, content_type=content_type)


def _add_webhook_routes(app: Flask, middleware: WebhookMiddleware) -> None:
    """Put the middleware in front of the application; routing needs its paths for other methods."""

    def reject(source: str = "") -> Response:
        raise NotFound(f"POST {WEBHOOK_PATH}/<source> accepts webhooks; a source is one short name")

    app.add_url_rule(WEBHOOK_PATH, view_func=reject, methods=["POST"])
    app.add_url_rule(f"{WEBHOOK_PATH}/<source>", view_func=reject, methods=["POST"])
    app.wsgi_app = middleware  # type: ignore[method-assign]  # Flask's documented way to add middleware


def _add_status_routes(app: Flask, node: Node) -> None:
    @app.get("/health")
    def health() -> Response:
        node.receiver.check()
        warnings = node.receiver.clock_warnings()
        return answer_json(HealthDocument(node.settings.role, warnings=warnings))

    @app.get("/status")
    def status() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        view = node.look()
        limit = node.settings.retention_bytes
        urls = {slave.name: slave.url for slave in node.settings.slaves}
        logs = {name: log.label for name, log in node.settings.provider_logs.logs.items()}
        return answer_json(
            describe_status(
                node.settings.role,
                view.require_status(),
                None
                if view.slaves is None
                else describe_slaves({**view.slaves, **view.gone}, urls, logs),
                None if node.slave is None else view.masters,
                None if node.consumers is None else view.consumers,
                conditions=node.find_conditions(view),
                retention=None
                if node.master is None
                else describe_retention(view.require_status(), view.floor, limit),
            )
        )
