"""Who may call a node, and how a node shows who it is: bearer tokens, ID tokens of Google, or both.

A caller sends ``Authorization: Bearer <token>`` (RFC 6750, section 2.1). A token is admitted if it
is one of ``SYNC_TOKENS``, or an OIDC ID token for one of ``OIDC_AUDIENCE`` of one of
``OIDC_ACCOUNTS``, as ``SYNC_AUTH`` says. Nothing of Google is imported unless ``oidc`` is set.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import NewType

from portable_core.errors import CHALLENGE_AFTER_WRONG, Unauthorized
from portable_core.settings import Settings

#: Who was let in, for logs: ``token``, ``slave <name>``, a service account's e-mail, ``anybody``.
Principal = NewType("Principal", str)

#: Says whose ID token it is. Raises ``Unauthorized``, ``Forbidden``, or ``Unavailable`` if it
#: cannot tell now.
Verify = Callable[[str], str]

#: The headers that show who this node is, made anew for each request.
Credentials = Callable[[], Mapping[str, str]]

_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)


class Guard:
    """Lets callers in by their ``Authorization`` header. Safe to use from several threads.

    ``warning`` is what to log at start, None if there is nothing to warn of.
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        verify_id_token: Verify | None = None,
        slave_tokens: Mapping[str, str] | None = None,
        *,
        warning: str | None = None,
        everybody: bool = False,
    ) -> None:
        self.warning = warning
        self._everybody = everybody
        self._tokens = _Tokens(tokens)
        self._slaves = {name: _Tokens([token]) for name, token in (slave_tokens or {}).items()}
        self._verify_id_token = verify_id_token

    def check(self, authorization: str | None) -> Principal:
        """Who calls. Raises ``Unauthorized`` for nobody that is known, ``Forbidden`` for somebody
        that may not call, ``Unavailable`` if that cannot be told now."""
        return self._check(authorization, None)

    def check_slave(self, authorization: str | None, slave: str) -> Principal:
        """:meth:`check` for what the slave of that name may do too: hand over its records.

        Beside everybody else it admits the slave's own token of ``SLAVE_TOKENS``, which opens
        nothing else here.
        """
        return self._check(authorization, slave)

    def _check(self, authorization: str | None, slave: str | None) -> Principal:
        if self._everybody:
            return Principal("anybody")
        if authorization is None:
            raise Unauthorized("the credentials are missing: send Authorization: Bearer <token>")
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Unauthorized("the credentials are not of the form Authorization: Bearer <token>")
        token = match[1]
        if self._tokens.contain(token):
            return Principal("token")
        if slave in self._slaves and self._slaves[slave].contain(token):
            return Principal(f"slave {slave}")
        # An ID token is three parts with a dot in between (RFC 7515, section 7.1).
        if self._verify_id_token is not None and token.count(".") == 2:
            return Principal(self._verify_id_token(token))
        raise Unauthorized("the token is not one that this node knows", CHALLENGE_AFTER_WRONG)


class _Tokens:
    """A set of secrets that tells in the same time for every text whether it is one of them.

    Keyed digests are compared, all of them: neither the length of a token nor the first character
    that differs shows in the time, and nobody can choose a text by its digest.
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


def build_guard(settings: Settings) -> Guard:
    """The guard of a node with these settings. Opens nothing: keys are fetched when needed."""
    kinds = settings.sync_auth
    if "none" in kinds:
        return Guard(
            everybody=True,
            warning=(
                "SYNC_AUTH=none: whoever can reach this node can read every webhook; "
                "that is only right where nothing else can reach it"
            ),
        )
    verify: Verify | None = None
    if "oidc" in kinds:
        from portable_core.adapters.authentication.oidc import IdTokenVerifier, KeySet

        keys = KeySet(settings.oidc_certs_url)
        verify = IdTokenVerifier(settings.oidc_audience, settings.oidc_accounts, keys).verify
    with_tokens = "token" in kinds
    return Guard(
        settings.sync_tokens if with_tokens else (),
        verify,
        settings.slave_tokens if with_tokens else {},
    )


def build_credentials(settings: Settings, name: str, url: str) -> Credentials:
    """What shows the node called ``name`` at ``url`` who this one is.

    With ``token`` among ``SYNC_AUTH`` that is the slave's own token of ``SLAVE_TOKENS``, or else
    the first of ``SYNC_TOKENS``; with ``oidc`` alone an ID token for the audience ``url``, fetched
    when needed and kept until shortly before it expires. The credentials then raises ``SlaveError``
    if there is none to be had.
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
