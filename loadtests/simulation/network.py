"""A network in memory between a master and a slave, with a fault for every exchange.

The slave's side does what the web adapter does: the request's chunks through the wire's reader into
``Slave.answer``, its records through the wire's writer, the first chunk before the status.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from loadtests.simulation.process_store import Killed
from portable_core.epochs import Stint
from portable_core.errors import SlaveRefused, SlaveUnreachable, StreamCut, WebhookSyncError
from portable_core.ports import KeepWaiting, SlaveInfo, SyncAnswer, SyncRequest, Tombstone, wait_on
from portable_core.records import Pair
from portable_core.sync.erasing import TombstoneDocument, erase_on_slave
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import ENCODINGS, Reader, read_batches

NEVER = sys.maxsize


@dataclass(frozen=True, slots=True)
class NetworkFault:
    """What the network does to one exchange; nothing by default.

    ``request_cut`` and ``answer_cut``: after how many bytes that direction ends; ``…_clean``: it
    seems to have ended, although its closing mark is missing; otherwise the connection breaks.
    ``unreachable``: nothing gets through. ``chunk``: how many bytes travel at a time. ``buffered``:
    a proxy collects each direction whole before it passes anything on.
    """

    unreachable: bool = False
    request_cut: int = NEVER
    request_clean: bool = False
    answer_cut: int = NEVER
    answer_clean: bool = False
    chunk: int = 65536
    buffered: bool = False


@dataclass(slots=True)
class SimulatedTraffic:
    """Bytes that arrived, in both directions, and the records in them."""

    requests: int = 0
    request_bytes: int = 0
    answer_bytes: int = 0


class SimulatedClient:
    """The port ``SlaveClient``.

    ``find_slave`` gives the process that answers, or raises ``SlaveUnreachable``; ``pick_fault``
    is asked once an exchange; ``pause`` is called whenever something travels: the rest of the world
    moves on then. ``tell`` is called with every horizon that the slave reports: slave, generation,
    ms;
    ``count_cut`` is called whenever a direction ends before its time.
    Any of the ``encodings`` is understood, another one is answered with 415.
    """

    def __init__(
        self,
        name: str,
        find_slave: Callable[[], Slave],
        *,
        pick_fault: Callable[[], NetworkFault] = NetworkFault,
        pause: Callable[[], None] = lambda: None,
        tell: Callable[[Slave, int, int], None] = lambda slave, generation, horizon: None,
        count_cut: Callable[[], None] = lambda: None,
        encodings: tuple[str, ...] = tuple(ENCODINGS),
    ) -> None:
        self._name = name
        self._find_slave = find_slave
        self._pick_fault = pick_fault
        self._pause = pause
        self._tell = tell
        self._count_cut = count_cut
        self._encodings = encodings
        self.traffic = SimulatedTraffic()

    @property
    def name(self) -> str:
        return self._name

    def describe(
        self,
        keep_waiting: KeepWaiting = wait_on,
        stint: Stint | None = None,
        clock: int | None = None,
    ) -> SlaveInfo:
        self._pause()
        keep_waiting()
        if self._pick_fault().unreachable:
            raise SlaveUnreachable(f"{self._name}: silence")
        slave = self._find_slave()
        try:
            info = slave.describe(stint, clock)
        except WebhookSyncError as error:
            raise SlaveRefused(f"{self._name}: {error}", error.status) from error
        except Killed as error:
            raise SlaveUnreachable(f"{self._name}: gone") from error
        self._tell(slave, info.generation, info.horizon)
        self._pause()
        return info

    def erase(self, tombstones: Sequence[Tombstone], keep_waiting: KeepWaiting = wait_on) -> None:
        if self._pick_fault().unreachable:
            raise SlaveUnreachable(f"{self._name}: no connection")
        documents = [TombstoneDocument(t.pair.hash, t.pair.timestamp, t.key) for t in tombstones]
        try:
            erase_on_slave(self._find_slave().receiver, documents)
        except WebhookSyncError as error:
            raise SlaveRefused(f"{self._name}: {error}", error.status) from error
        except Killed as error:
            raise SlaveUnreachable(f"{self._name}: gone") from error

    @contextmanager
    def exchange(self, request: SyncRequest) -> Iterator[SyncAnswer]:
        self._pause()
        fault = self._pick_fault()
        if fault.unreachable:
            raise SlaveUnreachable(f"{self._name}: no connection")
        if request.media_type not in self._encodings:
            raise SlaveRefused(f"{self._name}: answered 415", 415)
        self.traffic.requests += 1
        exchange = _SimulatedExchange(self, fault, request)
        with exchange.answer(self._find_slave()) as answer:
            yield answer

    def read_pairs(self, reader: Reader[Pair], chunks: Iterable[bytes]) -> Iterator[list[Pair]]:
        """How the slave's side reads a request."""
        return read_batches(reader, chunks)


class _SimulatedExchange:
    def __init__(self, client: SimulatedClient, fault: NetworkFault, request: SyncRequest) -> None:
        self._client = client
        self._fault = fault
        self._request = request
        #: What the master's own side raised while its request was being sent.
        self._failure: BaseException | None = None

    @contextmanager
    def answer(self, slave: Slave) -> Iterator[SyncAnswer]:
        client, request = self._client, self._request
        encoding = ENCODINGS[request.media_type]
        try:
            answer = slave.answer(
                SyncQuery.of(request), client.read_pairs(encoding.read_pairs(), self._send())
            )
        except (WebhookSyncError, Killed) as error:
            raise self._explain(error) from error
        chunks = encoding.encode_records(answer.records)
        try:
            try:
                first = next(chunks)
            except (WebhookSyncError, Killed) as error:
                raise self._explain(error) from error
            client._tell(slave, answer.store.generation, answer.through)
            with closing(self._receive(first, chunks)) as received:
                yield SyncAnswer(
                    answer.store.uuid,
                    answer.store.generation,
                    answer.through,
                    request.media_type,
                    received,
                )
        finally:
            answer.close()

    def _explain(self, error: BaseException) -> BaseException:
        """What the master sees of an error before the first byte of the answer."""
        if self._failure is not None:
            return self._failure
        name = self._client.name
        if isinstance(error, WebhookSyncError):
            return SlaveRefused(f"{name}: {error}", error.status)
        return SlaveUnreachable(f"{name}: gone")

    def _send(self) -> Iterator[bytes]:
        """The request as the slave gets it."""
        fault, traffic = self._fault, self._client.traffic
        for chunk in self._carry(self._guard(self._request.body), fault.request_cut):
            if chunk is None:
                if fault.request_clean:
                    return
                raise StreamCut("the connection broke")
            traffic.request_bytes += len(chunk)
            yield chunk

    def _guard(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """The request's body; where the master itself fails, the slave sees it go away."""
        try:
            yield from body
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failure = error
            raise StreamCut("the master went away") from error

    def _receive(self, first: bytes, rest: Iterator[bytes]) -> Generator[bytes, None, None]:
        """The answer as the master gets it."""
        fault, traffic = self._fault, self._client.traffic
        for chunk in self._carry(self._watch(first, rest), fault.answer_cut):
            self._request.keep_waiting()
            if chunk is None:
                if fault.answer_clean:
                    return
                raise SlaveUnreachable(f"{self._client.name}: the connection broke")
            traffic.answer_bytes += len(chunk)
            yield chunk
        if self._failure is not None:
            raise self._failure

    def _carry(self, chunks: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
        """The chunks in pieces, and None where they are cut after ``limit`` bytes."""
        carried, size = 0, self._fault.chunk
        if self._fault.buffered:
            chunks = (whole for whole in [b"".join(chunks)] if whole)
        for chunk in chunks:
            for start in range(0, len(chunk), size):
                self._client._pause()
                piece = chunk[start : start + size][: limit - carried]
                if piece:
                    yield piece
                carried += len(piece)
                if len(piece) < min(size, len(chunk) - start):
                    self._client._count_cut()
                    yield None
                    return

    def _watch(self, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        """The slave's answer; after its first byte a fault of its own just ends it."""
        yield first
        try:
            yield from rest
        except (WebhookSyncError, Killed):
            return
