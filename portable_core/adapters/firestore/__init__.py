"""``firestore:PROJECT/DATABASE``, the store on Google's distributed database."""

from portable_core.adapters.firestore.store import FirestoreStore

__all__ = ["FirestoreStore"]
