"""webhook-sync: redundant webhook receivers that lose nothing.

Its files, ``adapters`` and ``cli`` aside, know no web framework, no database and
no cloud. What a user of the hash needs is right here.
"""

from portable_core.canonical import canonicalize, hash_payload
from portable_core.errors import MalformedPayload, WebhookSyncError

__all__ = ["MalformedPayload", "WebhookSyncError", "canonicalize", "hash_payload"]
