"""Valid signatures for the sources of a node: the sender's side of ``SOURCES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from portable_core.errors import SettingsError
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import Scheme
from portable_core.sources.signatures import parse_sources

#: (message id, seconds since the epoch, body) -> headers
Signer = Callable[[str, int, bytes], Mapping[str, str]]


def make_signers(text: str) -> dict[str, Signer]:
    """Return by source what signs its webhooks, from a value of ``SOURCES``.

    Raises ``SettingsError``, also for a source that is closed.
    """
    return {name: _make_signer(schemes[0]) for name, schemes in parse_sources(text).entries.items()}


def _make_signer(scheme: Scheme) -> Signer:
    try:
        scheme.sign(_request(b""), 0, "id")
    except ValueError as error:
        raise SettingsError(f"SOURCES: {error}") from None
    return lambda message_id, now_s, body: scheme.sign(_request(body), now_s, message_id)


def _request(body: bytes) -> SourceRequest:
    return SourceRequest(lambda _: [], body)
