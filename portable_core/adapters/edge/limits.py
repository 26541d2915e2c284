"""What one process grants to peers: times, sizes and counts."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from dataclasses import dataclass

logger = logging.getLogger(__name__)

#: Descriptors for everything but the clients' connections: stores, syncs, sockets, threads.
RESERVED_DESCRIPTORS = 128


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Times in seconds, sizes in bytes.

    - ``idle_s``: how long a kept connection may be idle. Load balancers keep theirs for 60 to 600 s
      and answer 502 if the server closes one first.
    - ``head_s``: from the first byte of a head to its end.
    - ``body_s``, ``body_rate``: from the end of a head to the end of the body, ``body_s`` and one
      second more for each ``body_rate`` bytes received.
    - ``stream_idle_s``: how long a streamed body (a sync) may stand still.
    - ``write_s``: how long a client may read nothing of its response.
    - ``head_bytes``, ``headers``: of one request.
    - ``connections``: open at the same time; beyond, those idle or unfinished for longest are
      closed.
    - ``paused_bytes``, ``held_bytes``: of all unfinished requests together; see :mod:`.budget`.
    - ``spooled_bytes``: of their bodies in files; beyond, the oldest is answered 503.
    - ``ahead_bytes``: bodies of one connection parsed ahead of the request being answered.
    - ``tiny_bytes``, ``tiny_reads``: a request that has come in more than so many pieces smaller
      than this is read once in some seconds from then on.
    - ``drain_bytes``, ``drain_s``: what is read and dropped after an early response, so that a
      reset does not destroy it (RFC 9112, section 9.6); of ``draining`` connections at a time.
    - ``pipelined``: requests parsed ahead of the one being answered; the others wait as bytes.
    - ``high_water``: bytes of a response that wait for the client.
    """

    idle_s: float = 620.0
    head_s: float = 20.0
    body_s: float = 30.0
    body_rate: int = 16 * 1024
    stream_idle_s: float = 60.0
    write_s: float = 60.0
    head_bytes: int = 384 * 1024
    headers: int = 1000
    connections: int = 16_384
    paused_bytes: int = 32 * 2**20
    held_bytes: int = 128 * 2**20
    spooled_bytes: int = 2**30
    ahead_bytes: int = 256 * 1024
    tiny_bytes: int = 64
    tiny_reads: int = 8
    drain_bytes: int = 64 * 2**20
    drain_s: float = 5.0
    draining: int = 64
    pipelined: int = 64
    high_water: int = 256 * 1024


def fit_connections(wanted: int) -> int:
    """Raise the process's limit of open descriptors for so many connections; return how many fit.

    At least one. A warning says when the limit (``ulimit -n``) is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_DESCRIPTORS
    if 0 <= soft < needed:
        with suppress(OSError, ValueError):  # a system may allow less than its hard limit
            raised = needed if hard < 0 else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitting = wanted if soft < 0 else max(1, min(wanted, soft - RESERVED_DESCRIPTORS))
    if fitting < wanted:
        logger.warning(
            "at most %d connections are kept open, not MAX_CONNECTIONS=%d: the process may have"
            " only %d open files (ulimit -n)",
            fitting,
            wanted,
            soft,
        )
    return fitting
