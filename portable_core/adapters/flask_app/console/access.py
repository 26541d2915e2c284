"""Access to the console: a login with ``CONSOLE_TOKEN``, kept in a signed cookie.

The cookie contains a random text that every form must carry (against cross-site requests), whether
the visitor is logged in, and its time. It is signed with a key derived from the token: another
token ends every login.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from flask import Response, g, redirect, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from portable_core.errors import Forbidden

COOKIE = "webhook-sync-console"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"

#: Duration of a login in seconds.
LOGIN_S = 12 * 3600

#: Every client may send a form to the login; a longer form is not read to its end.
MAX_FORM_BYTES = 64 * 1024

#: A page loads nothing from other hosts, runs no inline script, and may not be framed.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

View = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Visitor:
    """The visitor who sends the current request."""

    csrf: str
    logged_in: bool


class Access:
    """The logins of one console, without state: everything is in the cookie."""

    def __init__(self, token: str) -> None:
        self._token = token
        key = hmac.digest(token.encode(), b"webhook-sync console", sha256)
        self._serializer = URLSafeTimedSerializer(key.hex(), salt="login")

    def identify(self) -> Visitor:
        """Return the visitor of the request's cookie, or a new one without a valid cookie."""
        visitor: Visitor | None = g.get("visitor")
        if visitor is None:
            visitor = g.visitor = self._read(request.cookies.get(COOKIE, ""))
        return visitor

    def _read(self, cookie: str) -> Visitor:
        try:
            csrf, logged_in = self._serializer.loads(cookie, max_age=LOGIN_S)
        except (BadSignature, ValueError, TypeError):
            return Visitor(secrets.token_urlsafe(24), False)
        return Visitor(csrf, logged_in)

    def check_token(self, given: str) -> bool:
        """Return whether ``given`` is the console's token, in constant time."""
        known, other = (sha256(text.encode()).digest() for text in (self._token, given))
        return hmac.compare_digest(known, other)

    def set_cookie(self, response: Response, visitor: Visitor) -> None:
        """Set the visitor's cookie, which is only sent to this host and hidden from scripts."""
        secure = request.is_secure or request.headers.get("X-Forwarded-Proto", "") == "https"
        response.set_cookie(
            COOKIE,
            self._serializer.dumps([visitor.csrf, visitor.logged_in]),
            max_age=LOGIN_S,
            secure=secure,
            httponly=True,
            samesite="Strict",
        )

    def log_in(self, response: Response) -> None:
        """Log the visitor in, with another random text."""
        self.set_cookie(response, Visitor(secrets.token_urlsafe(24), True))

    def log_out(self, response: Response) -> None:
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")

    def check_form(self) -> None:
        """Raise ``Forbidden`` unless the request comes from a page of this console.

        Raises ``RequestEntityTooLarge`` for a form of more than :data:`MAX_FORM_BYTES`; a chunked
        form without files is cut there instead.
        """
        request.max_content_length = MAX_FORM_BYTES  # only for this request: others are streams
        given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site != "same-origin" or not hmac.compare_digest(
            given.encode(), self.identify().csrf.encode()
        ):
            raise Forbidden("the form has expired. Go back, reload the page and try again.")

    def require_login(self, view: View) -> View:
        """Return the view for logged-in visitors; redirect others to the login."""

        @wraps(view)
        def guarded(*args: object, **values: object) -> Any:
            if not self.identify().logged_in:
                back = request.full_path.rstrip("?") if request.method == "GET" else "/"
                return redirect(f"/login?next={quote(back)}", 303)
            if request.method == "POST":
                self.check_form()
            return view(*args, **values)

        return guarded


def add_headers(response: Response) -> Response:
    """Add the headers of every response of the console."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", POLICY)
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def check_next(path: str) -> str:
    """Return ``path`` if it is a path on this host, to open after the login; otherwise ``/``."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"
