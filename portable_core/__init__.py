"""webhook-sync: redundant webhook receivers that lose nothing.

The core, which is all but ``adapters``, ``cli``, ``demo``, ``functions``, ``serve`` and ``wiring``,
knows no web framework, no database and no cloud. This module exports the hash of payloads.
"""

from portable_core.errors import MalformedPayload, WebhookSyncError
from portable_core.payload_hash.canonical import canonicalize, hash_payload

__all__ = ["MalformedPayload", "WebhookSyncError", "canonicalize", "hash_payload"]
