"""gunicorn's worker in a function: the container's event loop on the sockets of gunicorn."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import ClassVar

from gunicorn import config
from gunicorn.workers.base import Worker

from portable_core.adapters.edge import server
from portable_core.node import Node

_LOOK_S = 1.0


class EdgeWorker(Worker):  # type: ignore[misc]  # gunicorn publishes no types
    """Serves webhooks on an event loop, and passes every other request to functions-framework."""

    #: Starts the node in this process, and returns it.
    start_node: ClassVar[Callable[[], Node]]

    def run(self) -> None:
        sockets = [listener.sock for listener in self.sockets]
        server.serve(type(self).start_node(), self.wsgi, sockets, self._begin)

    def _begin(self) -> None:
        # gunicorn sends SIGQUIT to its workers when it gets SIGINT.
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGQUIT, signal.raise_signal, signal.SIGTERM)
        self._look(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show gunicorn that this worker runs; stop if gunicorn does not run any more."""
        self.notify()
        if os.getppid() == self.ppid:
            loop.call_later(_LOOK_S, self._look, loop)
        else:
            signal.raise_signal(signal.SIGTERM)


def use_edge(start_node: Callable[[], Node]) -> None:
    """Make a gunicorn that is configured later in this process serve with :class:`EdgeWorker`.

    functions-framework names no class of workers, so gunicorn's default counts.
    """
    EdgeWorker.start_node = staticmethod(start_node)
    config.WorkerClass.default = EdgeWorker
