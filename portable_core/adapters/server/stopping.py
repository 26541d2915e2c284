"""How a node learns that its process is being stopped, without taking the signal from the server.

The server keeps its own way of draining. Beside it three things must happen: what runs long must
end soon, so a node's ``stop`` is called at once; the store must be closed last, so ``close`` is
called when the server is done; and a request that nobody can end (a peer that neither sends nor
reads) must not take the node's store with it when the platform's patience is over, so after
:data:`DRAIN_S` the node is closed in any case, and the process ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from typing import Any

logger = logging.getLogger(__name__)

#: How long a server may take for what it is working on, in seconds from the signal. What is left of
#: the ten seconds that Cloud Run gives is for closing.
DRAIN_S = 6.0

_POLL_S = 0.2
_ANSWER_S = 0.1  # for the answers of webhooks that closing has committed


def close_at_exit(close: Callable[[], None]) -> None:
    """Call ``close`` when this process ends in order, after the server has drained its requests.

    A finalizer of multiprocessing runs in all three kinds of process that serve: granian's worker
    (a ``multiprocessing.Process``, in which ``atexit`` is not run), gunicorn's worker and a plain
    one (both by ``atexit``); in a child that is forked later it does not run.
    """
    util.Finalize(None, close, exitpriority=100)


def watch_signals(stop: Callable[[], None], close: Callable[[], None]) -> None:
    """Call ``stop`` when SIGTERM or SIGINT arrives, whoever handles it, and ``close`` in the end if
    the server does not come to it. Main thread only.

    The interpreter writes the number of each signal to the wakeup descriptor besides running the
    handler, also one that is installed later (Python documentation, ``signal.set_wakeup_fd``).
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := reader.recv(16):
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                _stop_in_time(stop, close)
        writer.close()  # also keeps the descriptor open until here

    threading.Thread(target=watch, name="signals", daemon=True).start()


def watch_worker(stop: Callable[[], None], close: Callable[[], None]) -> None:
    """The same for gunicorn's worker around this thread. Any thread.

    gunicorn installs a method of its worker as the handler of SIGTERM, and that clears the worker's
    ``alive`` (gunicorn's documentation, signal handling). Elsewhere this does nothing.
    """
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(getattr(worker, "alive", None), bool):
        return
    parent = os.getppid()
    # The hook runs when the worker has drained, and before the interpreter ends: from then on
    # Python 3.12 starts no thread any more, and closing may need one.
    worker.cfg.set("worker_exit", lambda arbiter, worker: close())

    def watch() -> None:
        while worker.alive and os.getppid() == parent:
            time.sleep(_POLL_S)
        _stop_in_time(stop, close)

    threading.Thread(target=watch, name="worker", daemon=True).start()


def _stop_in_time(stop: Callable[[], None], close: Callable[[], None]) -> None:
    """Stop, and end the process if it still lives after ``DRAIN_S``."""
    stop()
    time.sleep(DRAIN_S)
    logger.warning("requests are still running %g s after the stop; they are cut off", DRAIN_S)
    close()
    time.sleep(_ANSWER_S)
    os._exit(0)
