"""The targets of functions-framework: ``slave`` and ``master``.

functions-framework loads this file, and serves with the container's event loop
(:mod:`portable_core.functions.worker`). Webhooks are received there; each target forwards every
other request to the role's Flask application, which routes and streams. The application is made
when this file is loaded, so that a wrong setting stops the start. It opens nothing before the first
request, which comes after the server's fork.

Load this module only as, or from, the source file of functions-framework: it prepares the process
for the target that ``FUNCTION_TARGET`` names.
"""

from __future__ import annotations

import os
from functools import cache, partial

import functions_framework
from flask import Flask, Request, current_app
from werkzeug import Response
from werkzeug.exceptions import HTTPException

from portable_core.adapters.flask_app.problems import answer_http_exception
from portable_core.functions.worker import use_edge
from portable_core.node import Node
from portable_core.wiring import build_app_or_exit, read_settings_or_exit, start_forked

#: The node of this process, once it is started.
_nodes: list[Node] = []


@cache
def application(role: str) -> Flask:
    return build_app_or_exit(read_settings_or_exit(role), _nodes.append)


def start_node(role: str) -> Node:
    """Start the node in the process that serves, and return it."""
    start_forked(application(role))
    return _nodes[-1]


@functions_framework.http
def slave(request: Request) -> Response:
    return Response.from_app(application("slave"), request.environ)


@functions_framework.http
def master(request: Request) -> Response:
    return Response.from_app(application("master"), request.environ)


if target := os.environ.get("FUNCTION_TARGET"):
    application(target)
    use_edge(partial(start_node, target))
    # functions-framework answers a few paths itself (/robots.txt, any with a line break).
    if current_app:
        current_app.register_error_handler(HTTPException, answer_http_exception)
