"""Return the memory of large payloads to the system: a setting of glibc's allocator.

By default glibc keeps large blocks once one has been freed, for each thread separately. Ten
payloads of 25 MiB on ten threads then leave hundreds of megabytes that no other thread can use
(``docs/hash.md`` has the figures).
"""

from __future__ import annotations

import ctypes
from typing import Any

_M_MMAP_THRESHOLD = -3  # malloc.h

#: Blocks of at least this many bytes are allocated from the system and returned to it.
LARGE_BLOCK = 1 << 20


def set_mmap_threshold() -> bool:
    """Make the allocator return blocks of :data:`LARGE_BLOCK` bytes as soon as they are free.

    Applies to the whole process; call it once, early. Return False where there is no glibc (macOS,
    musl): nothing changes.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
