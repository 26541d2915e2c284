"""Authentication between nodes: bearer tokens, ID tokens of Google, or both.

A caller sends ``Authorization: Bearer <token>`` (RFC 6750, section 2.1). As ``SYNC_AUTH`` requires,
a token is valid if it is one of ``SYNC_TOKENS``, or an OIDC ID token of one of ``OIDC_ACCOUNTS``
for one of ``OIDC_AUDIENCE``. Google's libraries are imported only for ``oidc``.
"""

from __future__ import annotations

import hmac
import os
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import NewType

from portable_core.errors import CHALLENGE_AFTER_WRONG, Unauthorized
from portable_core.settings import Settings

#: An authenticated caller, for logs: ``token``, ``slave <name>``, an account's e-mail, ``anyone``.
Principal = NewType("Principal", str)

#: Returns the account of an ID token. Raises ``Unauthorized``, ``Forbidden``, or ``Unavailable`` if
#: the keys are missing.
Verify = Callable[[str], str]

#: Returns the headers that authenticate this node, for one request.
Credentials = Callable[[], Mapping[str, str]]

_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)


class Guard:
    """Authenticates callers by their ``Authorization`` header. Safe to use from several threads.

    ``warning`` is for the log at start; None if there is none. ``everyone`` admits every caller.
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        verify_id_token: Verify | None = None,
        slave_tokens: Mapping[str, str] | None = None,
        *,
        warning: str | None = None,
        everyone: bool = False,
    ) -> None:
        self.warning = warning
        self._everyone = everyone
        self._tokens = _Tokens(tokens)
        self._slaves = {name: _Tokens([token]) for name, token in (slave_tokens or {}).items()}
        self._verify_id_token = verify_id_token

    def check(self, authorization: str | None) -> Principal:
        """Return the caller.

        Raises ``Unauthorized`` for missing or wrong credentials, ``Forbidden`` for an account
        without access, ``Unavailable`` if the keys of ID tokens cannot be fetched.
        """
        return self._check(authorization, None)

    def check_slave(self, authorization: str | None, slave: str) -> Principal:
        """Return the caller of a hand-over of this slave's records; raises as :meth:`check` does.

        The slave's own token of ``SLAVE_TOKENS`` is valid here too, and nowhere else.
        """
        return self._check(authorization, slave)

    def _check(self, authorization: str | None, slave: str | None) -> Principal:
        if self._everyone:
            return Principal("anyone")
        if authorization is None:
            raise Unauthorized("the credentials are missing; send Authorization: Bearer <token>")
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Unauthorized("the credentials must have the form Authorization: Bearer <token>")
        token = match[1]
        if self._tokens.contain(token):
            return Principal("token")
        if slave in self._slaves and self._slaves[slave].contain(token):
            return Principal(f"slave {slave}")
        # An ID token is three parts with a dot in between (RFC 7515, section 7.1).
        if self._verify_id_token is not None and token.count(".") == 2:
            return Principal(self._verify_id_token(token))
        raise Unauthorized("the token is not a token of this node", CHALLENGE_AFTER_WRONG)


class _Tokens:
    """A set of secrets whose membership test takes the same time for every text.

    All keyed digests are compared: the time shows neither a token's length nor its first different
    character, and the random key keeps a caller from choosing a text by its digest.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._key = os.urandom(32)
        self._digests = [self._digest(token) for token in tokens]

    def contain(self, text: str) -> bool:
        digest = self._digest(text)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), sha256)


def build_guard(settings: Settings, tls: ssl.SSLContext | None = None) -> Guard:
    """Return the guard of a node with these settings. Keys are fetched when first needed."""
    kinds = settings.sync_auth
    if "none" in kinds:
        return Guard(
            everyone=True,
            warning=(
                "SYNC_AUTH=none: every client that can reach this node can read all webhooks. "
                "Use it only where no other client can reach the node."
            ),
        )
    verify: Verify | None = None
    if "oidc" in kinds:
        from portable_core.adapters.authentication.key_set import KeySet
        from portable_core.adapters.authentication.oidc import IdTokenVerifier

        keys = KeySet(settings.oidc_certs_url, tls=tls)
        verify = IdTokenVerifier(settings.oidc_audience, settings.oidc_accounts, keys).verify
    with_tokens = "token" in kinds
    return Guard(
        settings.sync_tokens if with_tokens else (),
        verify,
        settings.slave_tokens if with_tokens else {},
    )


def build_credentials(settings: Settings, name: str, url: str) -> Credentials:
    """Return this node's credentials for the node called ``name`` at ``url``.

    With ``token`` in ``SYNC_AUTH``: the slave's own token of ``SLAVE_TOKENS``, else the first one
    of ``SYNC_TOKENS``. With ``oidc`` alone: an ID token for the audience ``url``, fetched when
    needed and reused until shortly before it expires; calling the credentials raises ``SlaveError``
    if no token can be fetched.
    """
    if "token" in settings.sync_auth:
        token = settings.slave_tokens.get(name, settings.sync_tokens[0])
        headers = {"Authorization": f"Bearer {token}"}
        return lambda: headers
    if "oidc" in settings.sync_auth:
        from portable_core.adapters.authentication.oidc import IdTokenSource

        source = IdTokenSource(name, url)
        return lambda: {"Authorization": f"Bearer {source.get()}"}
    return dict
