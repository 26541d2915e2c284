"""Access to the console: a login with ``CONSOLE_TOKEN``, kept in a signed cookie.

The cookie contains a random text that every form must carry (against cross-site requests), and its
time. It is signed with a key derived from the token: another token ends every login. A visitor who
is not logged in has a cookie of its own, so that it never replaces a login: a browser sends neither
with a link from another site. Logging out ends the login on the server, in a mark of the store.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Response, g, redirect, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from portable_core.errors import Forbidden, StoreError
from portable_core.node import Node

logger = logging.getLogger(__name__)

COOKIE = "webhook-sync-console"

#: The mark of a login that was ended by logging out: its value is the time of its end in seconds.
_ENDED_MARK = "console-logout-"
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
    """The logins of one console. The cookies have everything but the logins that were ended."""

    def __init__(self, node: Node) -> None:
        settings = node.settings
        self._receiver = node.receiver
        self._token = settings.console_token
        self._store_name = f"{settings.store.kind.name}:{settings.store.path}"
        self._public = urlsplit(settings.public_url)
        self._behind_platform = bool(settings.service)
        self._key = hmac.digest(self._token.encode(), b"webhook-sync console", sha256)
        self._logins = URLSafeTimedSerializer(self._key.hex(), salt="login")
        self._forms = URLSafeTimedSerializer(self._key.hex(), salt="form")
        self._ended: set[str] = set()

    def identify(self) -> Visitor:
        """Return the visitor of the request's cookies, or a new one without a valid cookie."""
        visitor: Visitor | None = g.get("visitor")
        if visitor is None:
            visitor = g.visitor = self._identify()
        return visitor

    def _identify(self) -> Visitor:
        csrf = _read(self._logins, request.cookies.get(self._name(logged_in=True), ""))
        if csrf and not self._is_ended(csrf):
            return Visitor(csrf, True)
        csrf = _read(self._forms, request.cookies.get(self._name(logged_in=False), ""))
        return Visitor(csrf or secrets.token_urlsafe(24), False)

    def _name(self, *, logged_in: bool) -> str:
        """Return the name of a cookie. Browsers send the cookies of all ports of a host together,
        so it differs between the masters of one host: by token, store, port and path.
        """
        parts = (self._store_name, request.host.rpartition(":")[2], request.script_root)
        mark = hmac.digest(self._key, "\n".join(parts).encode(), sha256).hex()[:12]
        return f"{COOKIE}-{mark}" if logged_in else f"{COOKIE}-form-{mark}"

    def check_token(self, given: str) -> bool:
        """Return whether ``given`` is the console's token, in constant time."""
        known, other = (sha256(text.encode()).digest() for text in (self._token, given))
        return hmac.compare_digest(known, other)

    def set_cookie(self, response: Response, visitor: Visitor) -> None:
        """Set the visitor's cookie, which is only sent to this host and hidden from scripts."""
        serializer = self._logins if visitor.logged_in else self._forms
        response.set_cookie(
            self._name(logged_in=visitor.logged_in),
            serializer.dumps(visitor.csrf),
            max_age=LOGIN_S,
            path=request.script_root or "/",
            secure=self._is_secure(),
            httponly=True,
            samesite="Strict",
        )

    def _is_secure(self) -> bool:
        """Return whether the browser uses HTTPS: by trusted proxies, platform, or ``PUBLIC_URL``.

        A header of anyone else does not count: a browser drops a ``Secure`` cookie over HTTP.
        """
        if request.is_secure:
            return True
        if self._behind_platform and request.headers.get("X-Forwarded-Proto", "") == "https":
            return True
        return self._public.scheme == "https" and self._public.netloc == request.host

    def log_in(self, response: Response) -> None:
        """Log the visitor in, with another random text."""
        self.set_cookie(response, Visitor(secrets.token_urlsafe(24), True))
        self._delete_cookie(response, logged_in=False)

    def log_out(self, response: Response) -> None:
        """End the login on the server, for every copy of its cookie."""
        name = _name_mark(self.identify().csrf)
        self._ended.add(name)
        store, now = self._receiver.store, self._receiver.clock.now() // 1000
        try:
            store.set_mark(name, now + LOGIN_S)
            for known, end in store.marks(_ENDED_MARK).items():
                if end < now:
                    store.set_mark(known, 0)
        except StoreError as error:
            logger.warning("a logout is not stored, and counts until the next start: %s", error)
        self._delete_cookie(response, logged_in=True)

    def _delete_cookie(self, response: Response, *, logged_in: bool) -> None:
        name, path = self._name(logged_in=logged_in), request.script_root or "/"
        response.delete_cookie(name, path=path, httponly=True, samesite="Strict")

    def _is_ended(self, csrf: str) -> bool:
        """Return whether the login was ended; without a store there is nothing to show anyway."""
        name = _name_mark(csrf)
        if name in self._ended:
            return True
        try:
            self._receiver.open()
            return self._receiver.store.mark(name) > 0
        except StoreError:
            return False

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
                return go_to(f"/login?next={quote(back)}")
            if request.method == "POST":
                self.check_form()
            return view(*args, **values)

        return guarded


def _read(serializer: URLSafeTimedSerializer, cookie: str) -> str:
    """Return the random text of a cookie; empty for an invalid or expired one."""
    try:
        csrf = serializer.loads(cookie, max_age=LOGIN_S)
    except (BadSignature, ValueError):
        return ""
    return csrf if isinstance(csrf, str) else ""


def _name_mark(csrf: str) -> str:
    return _ENDED_MARK + sha256(csrf.encode()).hexdigest()[:32]


def go_to(path: str) -> Response:
    """Return a redirect to a page of the console, below the path prefix that a proxy removes."""
    response: Any = redirect(request.script_root + path, 303)
    return response  # type: ignore[no-any-return]  # Flask's is a Response of werkzeug


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
