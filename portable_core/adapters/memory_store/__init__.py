"""``memory:``, a store that exists as long as its process."""

from portable_core.adapters.memory_store.store import MemoryStore

__all__ = ["MemoryStore"]
