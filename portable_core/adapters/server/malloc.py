"""Give the memory of large payloads back to the system: an advice to glibc's allocator.

By default glibc learns from the first large block that is freed to keep such blocks, and it keeps
them for every thread on its own. Ten payloads of 25 MiB on ten threads then leave hundreds of
megabytes behind that no other thread can use (``docs/hash.md`` has the figures).
"""

from __future__ import annotations

import ctypes
from typing import Any

_M_MMAP_THRESHOLD = -3  # malloc.h

#: Blocks of at least this many bytes come from the system and go back to it.
LARGE_BLOCK = 1 << 20


def set_mmap_threshold() -> bool:
    """Make the allocator return blocks of :data:`LARGE_BLOCK` bytes as soon as they are free.

    For the whole process, from now on; call it once, early. Returns False where there is no glibc
    (macOS, musl), and nothing changes.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
