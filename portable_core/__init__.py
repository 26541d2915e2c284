"""webhook-sync: redundant webhook receivers that lose nothing.

The core, which is all but ``adapters``, ``cli``, ``demo``, ``functions``, ``serve`` and ``wiring``,
knows no web framework, no database and no cloud. This module exports the hash of payloads.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portable_core.errors import MalformedPayload, WebhookSyncError
    from portable_core.payload_hash.canonical import canonicalize, hash_payload

__all__ = ["MalformedPayload", "WebhookSyncError", "canonicalize", "hash_payload"]


def __getattr__(name: str) -> object:
    """Import on first use: ``python -m`` reads this file before ``__main__`` has protected it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from portable_core import errors
    from portable_core.payload_hash import canonical

    return getattr(errors if hasattr(errors, name) else canonical, name)
