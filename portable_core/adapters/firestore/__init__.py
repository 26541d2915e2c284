"""The store ``firestore:PROJECT/DATABASE``, for nodes with several instances.

- ``store.py`` combines the parts.
- ``documents.py`` defines the documents, ``batches.py`` groups them into commits, ``native.py``
  turns payloads into maps.
- ``pages.py`` reads pairs in order; ``records.py`` reads and removes records.
- ``identity.py`` keeps identity and marks, ``leases.py`` the lease, ``slaves.py`` the state of a
  master, ``gaps.py`` the windows removed by retention.
- ``client.py`` sends requests; ``queries.py``, ``operations.py`` and ``failures.py`` define their
  queries, limits and errors.
"""

from portable_core.adapters.firestore.store import FirestoreStore

__all__ = ["FirestoreStore"]
