"""The kinds of bodies: which one a source's webhooks have."""

from __future__ import annotations

from typing import Literal

from portable_core.errors import BadRequest, UnsupportedEncoding
from portable_core.payload_hash.coding import is_gzip

#: - ``object``: a JSON object.
#: - ``json``: any JSON value.
#: - ``form``: a form, multipart too.
#: - ``any``: any bytes; none only where the identity rule of the source names values.
BodyKind = Literal["object", "json", "form", "any"]

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

#: Content codings that change nothing. ``utf-8`` is a frequent mistake of senders.
_IDENTITY = ("", "identity", "utf-8")


def check_encoding(content_encoding: str | None, *, compressed: bool = False) -> None:
    """Raise ``UnsupportedEncoding`` for a body with a content coding (RFC 9110, section 8.4).

    ``compressed`` allows gzip.
    """
    if content_encoding is None or (compressed and is_gzip(content_encoding)):
        return
    if content_encoding.strip().lower() not in _IDENTITY:
        raise UnsupportedEncoding(
            f"Content-Encoding {content_encoding[:40]!r}: send the body uncompressed"
        )


def check_body_kind(kind: BodyKind, content_type: str) -> None:
    """Raise ``BadRequest`` for a form where another body is expected, and the other way round."""
    media_type = content_type.partition(";")[0].strip().lower()
    if kind == "form" and media_type not in _FORMS:
        raise BadRequest(
            f"Content-Type {media_type[:60]!r}: webhooks of this source are forms; choose a form "
            "as the content type where the webhook is configured"
        )
    if kind in ("object", "json") and media_type in _FORMS:
        raise BadRequest(
            "the body is a form; choose application/json as the content type where the webhook is "
            "configured (GitHub: Settings, Webhooks, Content type)"
        )
