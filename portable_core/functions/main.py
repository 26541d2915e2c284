"""The targets of functions-framework: ``slave`` and ``master``.

Each forwards the request to the role's Flask application, which routes and streams. The application
is made when this file is loaded, so that a wrong setting stops the start. It opens nothing before
the first request, which comes after the server's fork.

Load this module only as, or from, the source file of functions-framework: it prepares the process
for the target that ``FUNCTION_TARGET`` names.
"""

from __future__ import annotations

import os
from functools import cache

import functions_framework
from flask import Flask, Request, current_app
from werkzeug import Response
from werkzeug.exceptions import HTTPException

from portable_core.adapters.flask_app.problems import answer_http_exception
from portable_core.adapters.server.slow_senders import READERS_PER_THREAD, SlowSenders
from portable_core.adapters.server.stopping import watch_worker
from portable_core.settings import Settings
from portable_core.wiring import build_app_or_exit, read_settings_or_exit


@cache
def settings(role: str) -> Settings:
    return read_settings_or_exit(role)


@cache
def application(role: str) -> Flask:
    return build_app_or_exit(settings(role), lambda node: watch_worker(node.stop, node.close))


@functions_framework.http
def slave(request: Request) -> Response:
    return Response.from_app(application("slave"), request.environ)


@functions_framework.http
def master(request: Request) -> Response:
    return Response.from_app(application("master"), request.environ)


def prepare_server(role: str) -> None:
    """Protect the server against slow senders and forged paths.

    functions-framework reads ``THREADS`` after it has loaded this file; its own default is four per
    core. The worker that watches for slow senders is a fork of the process that loads this file.
    """
    threads = settings(role).threads
    # Otherwise gunicorn lets a peer on this machine set, with a header, where paths begin.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    os.environ["THREADS"] = str(threads * READERS_PER_THREAD)
    os.register_at_fork(after_in_child=SlowSenders(threads).watch)


if target := os.environ.get("FUNCTION_TARGET"):
    application(target)
    prepare_server(target)
    # functions-framework answers a few paths itself (/robots.txt, any with a line break).
    if current_app:
        current_app.register_error_handler(HTTPException, answer_http_exception)
