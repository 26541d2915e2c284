"""ID tokens of Google (OpenID Connect Core 1.0, section 2): verify them, and fetch this node's own.

Only imported if ``SYNC_AUTH`` contains ``oidc``. google-auth verifies signatures and speaks to the
metadata server. This module checks issuer, account and ``nbf``; :mod:`.key_set` has the keys.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

from google.auth import credentials, exceptions, jwt
from google.oauth2 import id_token

from portable_core.adapters.authentication.key_set import KeySet, make_request, shorten
from portable_core.errors import (
    CHALLENGE_AFTER_WRONG,
    Forbidden,
    SlaveError,
    Unauthorized,
)

#: The issuers of ID tokens of service accounts.
ISSUERS = ("https://accounts.google.com", "accounts.google.com")

#: The only algorithm of those tokens (RFC 7518, section 3.1).
ALGORITHM = "RS256"

#: Largest difference between this node's clock and the issuer's, in seconds.
CLOCK_SKEW_S = 10

#: Longest token; a longer one is rejected unread. Google's have about 1 KiB.
MAX_TOKEN_CHARACTERS = 8192

_REMOVED_SIGNATURE = ".SIGNATURE_REMOVED_BY_GOOGLE"
#: What google-auth raises without a token, and for an invalid file of credentials.
_NO_TOKEN = (exceptions.GoogleAuthError, ValueError, LookupError, AttributeError, OSError)

_OUT_OF_TIME = "has expired or is not valid yet; check this node's clock"


class IdTokenVerifier:
    """Verifies ID tokens: signature, times, one of ``audiences``, one of ``accounts``.

    ``accounts`` are e-mail addresses in lower case. ``now`` returns seconds since the Unix epoch.
    """

    def __init__(
        self,
        audiences: Collection[str],
        accounts: Collection[str],
        keys: KeySet,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._audiences = audiences
        self._accounts = accounts
        self._keys = keys
        self._now = now

    def verify(self, token: str) -> str:
        """Return the e-mail address of the token's account.

        Raises ``Unauthorized`` for an invalid token, ``Forbidden`` for an account without access,
        ``Unavailable`` if the keys cannot be fetched.
        """
        claims = self._check_signature(token)
        self._check_times(claims)
        if claims.get("iss") not in ISSUERS:
            raise _refuse("was not issued by Google")
        if claims.get("aud") not in self._audiences:
            raise _refuse(
                "is for another audience; compare OIDC_AUDIENCE with the audience of the callers"
            )
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            raise _refuse("has no verified e-mail address; request a token that includes it")
        if email.lower() not in self._accounts:
            raise Forbidden(f"the account {email[:200]!r} is not in this node's OIDC_ACCOUNTS")
        return email.lower()

    def _check_signature(self, token: str) -> Mapping[str, object]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _refuse(f"is longer than {MAX_TOKEN_CHARACTERS} characters")
        if token.endswith(_REMOVED_SIGNATURE):
            raise _refuse(
                "has no signature: Cloud Run removes it where it checks callers itself. Allow "
                "unauthenticated calls, which webhooks need; this node checks the others"
            )
        try:
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]  # not annotated
        except (exceptions.GoogleAuthError, ValueError, TypeError, RecursionError) as error:
            raise _refuse("is malformed") from error
        key_id = header.get("kid")
        # Only this algorithm: neither "none" nor a public key used as an HMAC secret.
        if header.get("alg") != ALGORITHM or not isinstance(key_id, str):
            raise _refuse(f"is not signed with {ALGORITHM} and a key ID")
        key = self._keys.find(key_id)
        if key is None:
            raise _refuse("is signed with a key that the issuer does not publish")
        try:
            claims: Mapping[str, object] = jwt.decode(  # type: ignore[no-untyped-call]  # likewise
                token, certs={key_id: key}, clock_skew_in_seconds=CLOCK_SKEW_S
            )
        except exceptions.InvalidValue as error:
            raise _refuse(_OUT_OF_TIME) from error
        except (exceptions.GoogleAuthError, ValueError, TypeError) as error:
            raise _refuse("has a wrong signature or lacks a claim") from error
        return claims

    def _check_times(self, claims: Mapping[str, object]) -> None:
        """Check ``exp``, ``iat`` and ``nbf`` (RFC 7519, section 4.1), which must be integers.

        google-auth ignores ``nbf``, and accepts other types that compare like a number.
        """
        now = self._now()
        times = []
        for name in ("iat", "nbf", "exp"):
            value = claims.get(name, 0)
            if type(value) is not int:  # not even a bool, which is an int
                raise _refuse("has times that are not whole seconds")
            times.append(value)
        issued, begins, ends = times
        if not max(issued, begins) - CLOCK_SKEW_S <= now <= ends + CLOCK_SKEW_S:
            raise _refuse(_OUT_OF_TIME)


class IdTokenSource:
    """This node's own ID token for one audience, reused until shortly before it expires.

    The token comes from the metadata server on Google Cloud, elsewhere from the service account's
    key in ``GOOGLE_APPLICATION_CREDENTIALS``. Messages call the node at ``audience`` ``name``.
    """

    def __init__(self, name: str, audience: str) -> None:
        self._name = name
        self._audience = audience
        self._lock = threading.Lock()
        self._credentials: credentials.Credentials | None = None

    def get(self) -> str:
        """Return the token. Raises ``SlaveError`` if none can be fetched."""
        with self._lock:
            try:
                return self._get()
            except _NO_TOKEN as error:
                raise SlaveError(
                    f"{self._name}: no ID token for {self._audience}: {shorten(error)}. On Google "
                    "Cloud the metadata server must be reachable; elsewhere set "
                    "GOOGLE_APPLICATION_CREDENTIALS"
                ) from error

    def _get(self) -> str:
        request = make_request()
        if self._credentials is None:
            self._credentials = id_token.fetch_id_token_credentials(  # type: ignore[no-untyped-call]
                self._audience, request
            )  # not annotated either
        if self._credentials.token_state is not credentials.TokenState.FRESH:
            try:
                self._credentials.refresh(request)
            except exceptions.GoogleAuthError:
                if self._credentials.token_state is credentials.TokenState.INVALID:
                    raise
        return str(self._credentials.token)


def _refuse(fault: str) -> Unauthorized:
    return Unauthorized(f"the ID token {fault}", CHALLENGE_AFTER_WRONG)
