"""Webhooks on the event loop; every other request goes to the WSGI application.

A small webhook is verified, identified and added to the buffer on the loop's thread; the committing
thread resolves the futures of a batch, and one callback on the loop answers all of them. What may
block (a large body, a store that is not open yet) runs in a thread of the pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from portable_core.adapters.edge.bridge import Bridge
from portable_core.adapters.edge.forwarded import find_client
from portable_core.adapters.edge.headers import RequestHeaders
from portable_core.adapters.edge.pool import Pool
from portable_core.adapters.edge.request import Body, Header, Request
from portable_core.errors import BufferFull, WebhookSyncError
from portable_core.ingest.admission import (
    HANDSHAKE_METHODS,
    Admission,
    find_source,
)
from portable_core.node import Node
from portable_core.problems import (
    PROBLEM_TYPE,
    ProblemResponse,
    describe_fault,
    describe_problem,
    make_document,
    name_problem,
)
from portable_core.records import Pair
from portable_core.settings import Network
from portable_core.sources.decision import ADMIT, Decision, Refuse
from portable_core.sources.handshakes import Answer

logger = logging.getLogger(__name__)

#: How often a node looks whether its retention is due, in seconds.
_RETAIN_S = 1.0
#: Bodies up to this size are identified on the loop's thread: 0.3 ms. One of 1 MiB takes 7 ms, in
#: which no other request would be served.
_QUICK_BYTES = 64 * 1024
#: Larger bodies that are identified, and are in memory, at the same time.
_LARGE_AT_ONCE = 4

#: For how many turns of the loop the commit waits while webhooks keep coming.
_MOST_TURNS = 8

_TITLES = {400: "Bad request", 408: "Request timeout", 413: "Payload too large"}


#: Longer paths are not remembered, so that no sender fills the memory with them.
_MOST_REMEMBERED = 128


def _read_source(path: bytes) -> str | None:
    return find_source(unquote_to_bytes(path).decode("latin-1"))


_remember_source = lru_cache(maxsize=1024)(_read_source)


def _find_source(path: bytes) -> str | None:
    """Return the source in a path, None for a path that is no source's."""
    if not path.startswith(b"/webhook"):
        return None
    return _remember_source(path) if len(path) <= _MOST_REMEMBERED else _read_source(path)


class _Arrival:
    """A webhook that is being received; its outcome is set once, by any thread."""

    __slots__ = ("_handler", "error", "headers", "held", "request", "result", "source", "started")

    def __init__(self, handler: WebhookHandler, request: Request, source: str) -> None:
        self._handler = handler
        self.error: BaseException | None = None
        self.headers = RequestHeaders(request.headers, request.fields)
        #: The bytes that count against the limit of the source; None before they do.
        self.held: int | None = None
        self.request = request
        self.result: Pair | Answer | None = None
        self.source = source
        self.started = time.perf_counter()

    def set_result(self, result: Pair | Answer, /) -> None:
        self.result = result
        self._handler.note(self)

    def set_exception(self, error: BaseException, /) -> None:
        self.error = error
        self._handler.note(self)


class WebhookHandler:
    """The application of an edge. Made on the loop's thread."""

    def __init__(
        self, node: Node, bridge: Bridge, pool: Pool, trusted: Sequence[Network] = ()
    ) -> None:
        self._node = node
        self._bridge = bridge
        self._pool = pool
        self._large_bodies = Pool(_LARGE_AT_ONCE)
        self._trusted = trusted
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(node.settings)
        self._limit = node.settings.max_body_bytes
        self._arrived = self._turns = 0
        self._alone = True  # the last batch had one webhook
        self._retained_at = time.monotonic()
        self._done: deque[_Arrival] = deque()
        self._answering = False

    # -- requests ------------------------------------------------------------------------------

    def receive(self, request: Request, body: bytes) -> bool:
        path, _, query = request.target.partition(b"?")
        source = _find_source(path)
        if source is None:
            return False
        arrival = self._check_head(request, source)
        if arrival is not None:
            self._receive_body(arrival, body, query)
        return True

    def begin(self, request: Request) -> None:
        path, _, query = request.target.partition(b"?")
        if not path.startswith(b"/"):  # in absolute form (RFC 9112, section 3.2.2)
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        source = _find_source(path)
        if source is not None and request.method == b"POST":
            if self._check_head(request, source) is not None:
                request.collect(self._limit)
        elif source is None or not self._answer_handshake(request, source, query):
            peer, _ = request.connection.describe_ends()
            client = find_client(peer[0], request.headers, self._trusted)
            self._bridge.begin(request, path, query, client)

    def _check_head(self, request: Request, source: str) -> _Arrival | None:
        """Return the webhook that this head begins; None if it is refused."""
        request.data = arrival = _Arrival(self, request, source)
        kind = request.fields.get(b"content-type", b"").decode("latin-1")
        compressed = b"content-encoding" in request.fields
        encoding = arrival.headers.join("content-encoding") if compressed else None
        try:
            self._admission.check_head(source, kind, encoding)
        except WebhookSyncError as error:
            self._refuse(arrival, error)
            return None
        return arrival

    def _answer_handshake(self, request: Request, source: str, query: bytes) -> bool:
        """Respond to a handshake without a body; return whether the request is one."""
        method = request.method.decode("latin-1")
        if method not in HANDSHAKE_METHODS:
            return False
        arrival = _Arrival(self, request, source)
        try:
            answer = self._admission.answer_handshake(
                source, method, arrival.headers, query.decode("latin-1")
            )
        except WebhookSyncError as error:
            self._refuse(arrival, error)
            return True
        if answer is not None:
            self._respond_to_handshake(arrival, answer)
        return answer is not None

    def complete(self, request: Request) -> None:
        arrival = request.data
        query = request.target.partition(b"?")[2]
        body = request.body
        if body is not None and body.large:
            request.body = None  # it holds no memory
            self._receive_elsewhere(self._large_bodies, arrival, b"", query, body)
        else:
            self._receive_body(arrival, request.connection.release(request), query)

    def _receive_body(self, arrival: _Arrival, payload: bytes, query: bytes) -> None:
        if not self._node.receiver.is_prompt:
            self._receive_elsewhere(self._pool, arrival, payload, query)
        elif len(payload) > _QUICK_BYTES:
            self._receive_elsewhere(self._large_bodies, arrival, payload, query)
        else:
            self._receive(arrival, payload, query)
            if arrival.held is not None:  # 0 bytes are to be committed too
                self._commit_when_quiet()

    def _receive_elsewhere(
        self, pool: Pool, arrival: _Arrival, payload: bytes, query: bytes, large: Body | None = None
    ) -> None:
        """Receive a webhook in a thread of ``pool``; ``large`` has its body, if it is in a file."""

        def receive() -> None:
            self._receive(arrival, payload if large is None else large.read(), query)
            if large is not None:
                large.close()
            self._node.receiver.commit_soon()

        if not pool.submit(receive):
            if large is not None:
                large.close()
            error = BufferFull("too many webhooks wait for the store; send the webhook again")
            self._refuse(arrival, error)

    def _receive(self, arrival: _Arrival, payload: bytes, query: bytes) -> None:
        """Verify a webhook and add it to the buffer."""
        node, source, headers = self._node, arrival.source, arrival.headers
        try:
            node.observer.begin_request(headers.first)
            text = query.decode("latin-1")
            decision: Decision = ADMIT
            if not self._admission.is_open(source):
                request = self._admission.make_request(source, "POST", headers, text, payload)
                decision = node.decide(source, request, node.receiver.clock.now())
            if isinstance(decision, Refuse):
                raise decision.error
            if isinstance(decision, Answer):
                self._admission.report_handshake(source, decision)
                arrival.set_result(decision)
                return
            meta = self._admission.read_head(source, arrival.request.headers, text)
            self._admission.limits.enter(source, len(payload), time.monotonic())
            arrival.held = len(payload)
            node.submit_to(arrival, payload, meta)
        except Exception as error:  # noqa: BLE001  # answered and, if unexpected, logged
            arrival.set_exception(error)

    def _commit_when_quiet(self) -> None:
        """Wake the committing thread once a turn of the loop brings no more webhooks.

        Otherwise every other batch would hold the first webhook or two of a turn. After a batch of
        one webhook there is probably one sender, whose webhook does not wait.
        """
        self._arrived += 1
        if self._alone:
            self._node.receiver.commit_soon()
        elif self._turns == 0:
            self._wait_a_turn()

    def _wait_a_turn(self) -> None:
        self._turns += 1
        self._loop.call_soon(self._commit_or_wait, self._arrived)

    def _commit_or_wait(self, arrived_before: int) -> None:
        if self._arrived != arrived_before and self._turns < _MOST_TURNS:
            self._wait_a_turn()
            return
        self._turns = 0
        self._node.receiver.commit_soon()

    # -- outcomes ------------------------------------------------------------------------------

    def note(self, arrival: _Arrival) -> None:
        """Answer soon, on the loop's thread, together with the others of the batch."""
        self._done.append(arrival)
        if not self._answering:
            self._answering = True
            with suppress(RuntimeError):  # the loop is closed, and so are the connections
                self._loop.call_soon_threadsafe(self._answer_all)

    def _answer_all(self) -> None:
        self._answering = False  # from now on, who adds one calls this again
        self._alone = len(self._done) == 1
        kept: defaultdict[str, list[float]] = defaultdict(list)
        held: defaultdict[str, int] = defaultdict(int)
        for _ in range(len(self._done)):
            arrival = self._done.popleft()
            held[arrival.source] += arrival.held or 0
            try:
                if isinstance(arrival.result, Pair):
                    answer = self._admission.respond(arrival.source, arrival.result)
                    status, kind, document = answer
                    arrival.request.respond(status, _make_headers(kind), document)
                    kept[arrival.source].append(time.perf_counter() - arrival.started)
                else:
                    self._answer(arrival)
            except Exception:  # the others of the batch are answered
                logger.exception("the response to a webhook failed")
                arrival.request.connection.abort()
        for source, size in held.items():
            self._admission.limits.leave(source, size)
        for source, seconds in kept.items():
            self._node.observer.observe_kept(source, seconds)
        now = time.monotonic()
        if now - self._retained_at >= _RETAIN_S:
            self._retained_at = now
            self._pool.submit(self._node.retain)

    def _answer(self, arrival: _Arrival) -> None:
        """Answer a request whose webhook is not stored."""
        error = arrival.error
        if isinstance(arrival.result, Answer):
            self._respond_to_handshake(arrival, arrival.result)
        elif isinstance(error, WebhookSyncError):
            self._refuse(arrival, error)
        else:
            problem = describe_fault(error or RuntimeError("a webhook has no outcome"))
            self._answer_problem(arrival, problem, ":internal-error")

    def _respond_to_handshake(self, arrival: _Arrival, answer: Answer) -> None:
        self._observe(arrival, "handshake")
        headers = [(name.encode("ascii"), text.encode("ascii")) for name, text in answer.headers]
        arrival.request.respond(answer.status, headers, answer.body)

    def _refuse(self, arrival: _Arrival, error: WebhookSyncError) -> None:
        self._node.refuse(arrival.source, error)
        self._answer_problem(arrival, describe_problem(error, log=False), name_problem(error))

    def _answer_problem(self, arrival: _Arrival, problem: ProblemResponse, name: str) -> None:
        self._observe(arrival, name.rpartition(":")[2])
        headers = [
            (b"Content-Type", PROBLEM_TYPE.encode()),
            *((given.encode(), text.encode("latin-1")) for given, text in problem.headers.items()),
        ]
        arrival.request.respond(problem.status, headers, problem.body)

    def _observe(self, arrival: _Arrival, outcome: str) -> None:
        seconds = time.perf_counter() - arrival.started
        self._node.observer.observe_webhook(arrival.source, outcome, seconds)

    def describe(self, status: int, detail: str) -> bytes:
        return make_document(status, _TITLES.get(status, "Request rejected"), detail)


@lru_cache(maxsize=256)  # the types of responses, one for each source at most
def _make_headers(kind: str) -> tuple[Header, ...]:
    return ((b"Content-Type", kind.encode()),) if kind else ()
