"""The store ``firestore:PROJECT/DATABASE``, for nodes with several instances.

- ``store.py`` combines the parts.
- ``segments.py`` defines the documents that hold records, ``data_copies.py`` their copies for
  queries, ``native.py`` the maps in these, ``documents.py`` what all documents share;
  ``batches.py`` groups them into commits.
- ``scans.py`` reads pairs in order; ``reading.py`` reads records, with the caches of
  ``reading_cache.py``; ``removal.py`` removes records.
- ``former.py`` reads the layout of former releases.
- ``identity.py`` keeps identity and marks, ``leases.py`` the lease, ``slaves.py`` the state of a
  master, ``gaps.py`` the windows removed by retention.
- ``client.py`` sends requests; ``queries.py``, ``operations.py`` and ``failures.py`` define their
  queries, limits and errors.
"""

from portable_core.adapters.firestore.store import FirestoreStore

__all__ = ["FirestoreStore"]
