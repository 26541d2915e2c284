"""Credentials for GitHub: a token, or those of an app, which get a token for an installation."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import msgspec

from portable_core.adapters.providers.api import ProviderApi
from portable_core.errors import AnswerInvalid, SettingsError
from portable_core.ports import Clock, KeepWaiting
from portable_core.sources.delivery_logs import LogSettings

#: The most that GitHub allows is ten minutes; clocks may differ by a minute.
_JWT_S, _EARLY_S = 540, 60


class _InstallationToken(msgspec.Struct):
    token: str
    expires_at: str


class GithubCredentials:
    """The ``Authorization`` of requests for one log."""

    def __init__(self, configured: LogSettings, api: ProviderApi, clock: Clock) -> None:
        self._configured = configured
        self._api = api
        self._clock = clock
        self._token = configured.token
        self._valid_until: float | None = None if configured.token else 0.0

    def find(self, wait: KeepWaiting) -> str:
        """Return the value of the header. Raises what :meth:`ProviderApi.ask` raises."""
        now = self._clock.now() / 1000
        if self._valid_until is not None and now >= self._valid_until - _EARLY_S:
            self._renew(int(now), wait)
        return f"Bearer {self._token}"

    def forget(self) -> None:
        """Get another token for the next request, if this is possible."""
        if self._valid_until is not None:
            self._valid_until = 0.0

    def _renew(self, now: int, wait: KeepWaiting) -> None:
        jwt = make_jwt(self._configured.extra["app"], self._configured.key, now)
        installation = self._configured.extra.get("installation")
        if installation is None:
            self._token, self._valid_until = jwt, now + _JWT_S
            return
        response = self._api.ask(
            "POST",
            f"/app/installations/{installation}/access_tokens",
            {"Authorization": f"Bearer {jwt}", "Accept": "application/vnd.github+json"},
            wait,
            expected=(201,),
        )
        found = self._api.decode(response, _InstallationToken)
        try:
            until = datetime.fromisoformat(found.expires_at).timestamp()
        except ValueError as error:
            raise AnswerInvalid(f"{self._api.label}: expires_at: {error}") from error
        self._token, self._valid_until = found.token, until


def make_jwt(app: str, key: str, now: int) -> str:
    """Return a JSON Web Token (RFC 7519) of an app, signed by its private key in PEM (RS256).

    Raises ``SettingsError`` for a key that is not an RSA key.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            "PROVIDER_LOGS: key is not a private key in PEM without a password"
        ) from error
    if not isinstance(private, RSAPrivateKey):
        raise SettingsError("PROVIDER_LOGS: key is not an RSA key")
    parts = (
        {"alg": "RS256", "typ": "JWT"},
        {"iat": now - _EARLY_S, "exp": now + _JWT_S, "iss": app},
    )
    signed = b".".join(_encode(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + _encode(private.sign(signed, PKCS1v15(), SHA256()))).decode()


def _encode(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
