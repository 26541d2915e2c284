"""The path under which a proxy serves the node: that of ``PUBLIC_URL``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class PublicPath:
    """Middleware that puts the path of ``public_url`` in front of the links of pages.

    Requests are the same with and without this path: some proxies remove it, some do not.
    """

    def __init__(self, app: WSGIApplication, public_url: str) -> None:
        self._app = app
        self._prefix = unquote(urlsplit(public_url).path.rstrip("/"), "latin-1")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._prefix:
            path = environ["PATH_INFO"]
            if path == self._prefix or path.startswith(f"{self._prefix}/"):
                environ["PATH_INFO"] = path[len(self._prefix) :] or "/"
            environ["SCRIPT_NAME"] = self._prefix
        return self._app(environ, start_response)
