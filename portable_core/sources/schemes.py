"""The schemes of ``SOURCES``: a preset with its secret, as ``preset:secret``.

:mod:`.presets` has the presets. Nothing here reads a clock: the time is an argument. Whatever the
headers contain, a webhook is either admitted or rejected with
:class:`~portable_core.errors.Unauthorized`; no message contains a secret, an expected signature or
part of the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from portable_core.errors import Unauthorized
from portable_core.sources.encodings import decode_key
from portable_core.sources.presets import PRESETS
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import Scheme, SourceRow

#: The scheme that rejects every request.
CLOSED = "closed"

#: The preset of Standard Webhooks 1.0.0, whose signatures nodes also make, and its headers.
STANDARD = "standard"
STANDARD_ID_HEADER = "webhook-id"
STANDARD_TIMESTAMP_HEADER = "webhook-timestamp"
STANDARD_SIGNATURE_HEADER = "webhook-signature"

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Closed:
    needs_url: bool = False

    def check(self, request: SourceRequest, now_ms: int) -> None:
        raise Unauthorized("this address accepts no webhooks; check the name of the source")

    def describe(self) -> str:
        return "closed: every request is rejected"

    def digest(self, parts: list[bytes]) -> bytes:
        raise ValueError("a source that is closed has no secret")

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        raise ValueError("nothing can be sent to a source that is closed")


def parse_scheme(text: str) -> tuple[SourceRow, Scheme | None]:
    """Parse ``preset:secret``. Raises ``ValueError`` with the end of a sentence.

    The scheme is None for a preset whose sender does not sign.
    """
    form, colon, secret = (part.strip() for part in text.partition(":"))
    if form == CLOSED and not colon:
        return SourceRow(), _Closed()
    name, at, parameter = form.partition("@")
    preset = PRESETS.get(name)
    if preset is None or bool(at) != bool(preset.parameter):
        forms = [preset.form for preset in PRESETS.values()]
        raise ValueError(f"has none of the schemes {', '.join(forms)}, {CLOSED}")
    if at and not _HEADER_NAME.fullmatch(parameter):
        raise ValueError(f"needs the name of a header after {name}@")
    signature = preset.row.form
    if signature is None:
        if colon:
            raise ValueError(f"has a secret, but senders of {name} do not sign")
        return preset.row, None
    if not secret:
        raise ValueError("has no secret after its scheme and a colon")
    row = preset.row.sign_with(signature.make_with_parameter(parameter)) if at else preset.row
    return row, (row.form or signature).make(secret)


def check_standard_secret(secret: str) -> str:
    """Return ``secret`` if it is empty or one of Standard Webhooks. Raises ``ValueError``."""
    if secret:
        decode_key(secret, "whsec")
    return secret


def sign(scheme: str, body: bytes, timestamp_s: int = 0, message_id: str = "") -> dict[str, str]:
    """Return the headers with which a sender of ``scheme`` (``name:secret``) sends ``body``.

    ``timestamp_s`` is in seconds since the Unix epoch. Raises ``ValueError``.
    """
    _, made = parse_scheme(scheme)
    if made is None:
        return {}
    return made.sign(SourceRequest(lambda _: [], body), timestamp_s, message_id)


def sign_standard(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks for ``body``.

    ``secret`` is ``whsec_`` and base64, ``message_id`` printable ASCII without spaces,
    ``timestamp_s`` in seconds since the Unix epoch. Raises ``ValueError``.
    """
    decode_key(secret, "whsec")
    return sign(f"{STANDARD}:{secret}", body, timestamp_s, message_id)
