"""How a node learns that its process is stopping, without replacing the server's signal handlers.

The server drains its requests in its own way. Three things happen besides:

- A node's ``stop`` is called at once, so that long operations end soon.
- ``close`` is called when the server is done: the store must be closed last.
- After :data:`DRAIN_S` the node is closed in any case and the process ends. Otherwise a request
  that cannot end (a peer that neither sends nor reads) would delay the close until the platform
  kills the process.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from typing import Any

logger = logging.getLogger(__name__)

#: Time for the requests under way, in seconds from the signal. The rest of the ten seconds that
#: Cloud Run waits is for closing.
DRAIN_S = 6.0

_POLL_S = 0.2
_ANSWER_S = 0.1  # for the responses to webhooks that closing has committed


def close_at_exit(close: Callable[[], None]) -> None:
    """Call ``close`` at the regular end of this process, after the server has drained its requests.

    A finalizer of multiprocessing runs in every kind of process that serves: a
    ``multiprocessing.Process``, in which ``atexit`` does not run, gunicorn's worker and a plain
    process (both through ``atexit``). It does not run in a child that is forked later.
    """
    util.Finalize(None, close, exitpriority=100)


def watch_worker(stop: Callable[[], None], close: Callable[[], None]) -> None:
    """Call ``stop`` when a gunicorn worker is stopping, and ``close`` if it has not ended by
    ``DRAIN_S``. Callable from any thread; elsewhere than in such a worker do nothing.

    gunicorn installs a method of its worker as the handler of SIGTERM, which clears the worker's
    ``alive`` (gunicorn's documentation, signal handling).
    """
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(getattr(worker, "alive", None), bool):
        return
    parent = os.getppid()
    # The hook runs after the worker has drained and before the interpreter ends, after which Python
    # 3.12 starts no thread; closing may need one.
    worker.cfg.set("worker_exit", lambda arbiter, worker: close())

    def watch() -> None:
        while worker.alive and os.getppid() == parent:
            time.sleep(_POLL_S)
        _stop_in_time(stop, close)

    threading.Thread(target=watch, name="worker", daemon=True).start()


def _stop_in_time(stop: Callable[[], None], close: Callable[[], None]) -> None:
    """Stop, and end the process if it still runs after ``DRAIN_S``."""
    stop()
    time.sleep(DRAIN_S)
    logger.warning("requests are still running %g s after the stop; ending the process", DRAIN_S)
    close()
    time.sleep(_ANSWER_S)
    os._exit(0)
