"""Connections beyond ``MAX_CONNECTIONS``: which of the old ones end."""

from __future__ import annotations

import asyncio

from portable_core.adapters.edge.connection import Connection
from portable_core.adapters.edge.edge import Edge
from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.request import Request


class _Handler:
    def begin(self, request: Request) -> None: ...

    def complete(self, request: Request) -> None: ...

    def describe(self, status: int, detail: str) -> bytes:
        return b""


class _Transport(asyncio.Transport):
    """Ends a connection a turn of the loop later, as transports do: here, never."""

    def __init__(self) -> None:
        super().__init__()
        self.aborts = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.aborts > 0

    def abort(self) -> None:
        self.aborts += 1


def _connect(edge: Edge) -> _Transport:
    transport = _Transport()
    Connection(edge).connection_made(transport)
    return transport


def test_each_connection_that_comes_in_one_turn_ends_another_one() -> None:
    edge = Edge(_Handler(), EdgeLimits(connections=8), max_body=1)
    first = [_connect(edge) for _ in range(8)]
    assert [each.aborts for each in first] == [0] * 8
    later = [_connect(edge) for _ in range(5)]
    assert [each.aborts for each in first] == [1] * 5 + [0] * 3
    assert [each.aborts for each in later] == [0] * 5
    assert len(edge.connections) == 8
