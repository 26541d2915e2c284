"""webhook-sync: redundant webhook receivers that lose nothing.

The files of this package, those of the command line (``cli*.py``) aside, know no web framework, no
database and no cloud; ``adapters`` has what does. What a user of the hash needs is right here.
"""

from portable_core.errors import MalformedPayload, WebhookSyncError
from portable_core.payload_hash.canonical import canonicalize, hash_payload

__all__ = ["MalformedPayload", "WebhookSyncError", "canonicalize", "hash_payload"]
