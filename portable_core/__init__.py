"""webhook-sync: redundant webhook receivers that lose nothing.

The files of this package, those of the command line (``cli*.py``) aside, know no web framework, no
database and no cloud; ``adapters`` has what does. What a user of the hash needs is right here.
"""

from portable_core.canonical import canonicalize, hash_payload
from portable_core.errors import MalformedPayload, WebhookSyncError

__all__ = ["MalformedPayload", "WebhookSyncError", "canonicalize", "hash_payload"]
