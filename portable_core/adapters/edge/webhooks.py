"""Webhooks on the event loop; every other request goes to the WSGI application.

A small webhook is verified, identified and added to the buffer on the loop's thread; the committing
thread resolves the futures of a batch, and one callback on the loop answers all of them. What may
block (a large body, a store that is not open yet) runs in a thread of the pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any
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
from portable_core.ingest.outcome import Outcome
from portable_core.node import Node
from portable_core.problems import (
    PROBLEM_TYPE,
    ProblemResponse,
    describe_fault,
    describe_problem,
    make_document,
    name_problem,
)
from portable_core.settings import Network
from portable_core.sources.decision import ADMIT, Decision, Refuse
from portable_core.sources.handshakes import Answer

logger = logging.getLogger(__name__)

#: How often a slave looks whether its retention is due, in seconds.
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


class _Arrival:
    """A webhook that is being received."""

    __slots__ = ("headers", "held", "outcome", "request", "source", "started")

    def __init__(self, request: Request, source: str) -> None:
        self.held = 0
        self.headers = RequestHeaders(request.headers)
        self.outcome: Outcome[Any]
        self.request = request
        self.source = source
        self.started = time.perf_counter()


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
        self._retained_at = time.monotonic()
        self._done: deque[_Arrival] = deque()
        self._answering = False

    # -- requests ------------------------------------------------------------------------------

    def begin(self, request: Request) -> None:
        path, _, query = request.target.partition(b"?")
        if not path.startswith(b"/"):  # in absolute form (RFC 9112, section 3.2.2)
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        source = None
        if path.startswith(b"/webhook"):
            short = len(path) <= _MOST_REMEMBERED
            source = _remember_source(path) if short else _read_source(path)
        if source is not None and request.method == b"POST":
            self._begin_webhook(request, source)
        elif source is None or not self._answer_handshake(request, source, query):
            peer, _ = request.connection.describe_ends()
            client = find_client(peer[0], request.headers, self._trusted)
            self._bridge.begin(request, path, query, client)

    def _begin_webhook(self, request: Request, source: str) -> None:
        request.data = arrival = _Arrival(request, source)
        headers = arrival.headers
        try:
            self._admission.check_head(
                source, headers.first("content-type") or "", headers.join("content-encoding")
            )
        except WebhookSyncError as error:
            self._refuse(arrival, error)
            return
        request.collect(self._limit)

    def _answer_handshake(self, request: Request, source: str, query: bytes) -> bool:
        """Respond to a handshake without a body; return whether the request is one."""
        method = request.method.decode("latin-1")
        if method not in HANDSHAKE_METHODS:
            return False
        arrival = _Arrival(request, source)
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
        body = request.body
        large = None
        payload = b""
        pool = self._large_bodies
        if body is not None and body.large:
            large, request.body = body, None  # it holds no memory
        else:
            payload = request.connection.release(request)
            if not self._node.receiver.is_prompt:
                pool = self._pool
            elif len(payload) <= _QUICK_BYTES:
                self._receive(arrival, payload, self._commit_when_quiet)
                return
        if not pool.submit(lambda: self._receive_in_thread(arrival, payload, large)):
            if large is not None:
                large.close()
            error = BufferFull("too many webhooks wait for the store; send the webhook again")
            self._refuse(arrival, error)

    def _receive_in_thread(self, arrival: _Arrival, payload: bytes, large: Body | None) -> None:
        if large is not None:
            payload = large.read()
            large.close()
        self._receive(arrival, payload, self._node.receiver.commit_soon)

    def _receive(
        self,
        arrival: _Arrival,
        payload: bytes,
        commit_soon: Callable[[], None],
    ) -> None:
        """Verify a webhook and add it to the buffer, which ``commit_soon`` lets commit."""
        node, source, headers = self._node, arrival.source, arrival.headers
        outcome: Outcome[Any]
        try:
            node.observer.begin_request(headers.first)
            query = arrival.request.target.partition(b"?")[2].decode("latin-1")
            decision: Decision = ADMIT
            if not self._admission.is_open(source):
                request = self._admission.make_request(source, "POST", headers, query, payload)
                decision = node.decide(source, request, node.receiver.clock.now())
            if isinstance(decision, Refuse):
                raise decision.error
            if isinstance(decision, Answer):
                self._admission.report_handshake(source, decision)
                outcome = Outcome()
                outcome.set_result(decision)
            else:
                find_kept = self._admission.find_kept
                kept = [
                    (name, text.decode("latin-1"))
                    for given, text in arrival.request.headers
                    if (name := find_kept(source, given))
                ]
                meta = self._admission.read_meta(source, kept, query)
                self._admission.limits.enter(source, len(payload), time.monotonic())
                arrival.held = len(payload)
                outcome = node.submit(payload, meta)
                commit_soon()
        except Exception as error:  # noqa: BLE001  # answered and, if unexpected, logged
            outcome = Outcome()
            outcome.set_exception(error)
        arrival.outcome = outcome
        outcome.add_done_callback(partial(self._note, arrival))

    def _commit_when_quiet(self) -> None:
        """Wake the committing thread once a turn of the loop brings no more webhooks.

        Otherwise every other batch would hold the first webhook or two of a turn. A sender that is
        alone waits for an empty turn: microseconds.
        """
        self._arrived += 1
        if self._turns == 0:
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

    def _note(self, arrival: _Arrival, outcome: object) -> None:
        """Answer soon, on the loop's thread, together with the others of the batch."""
        self._done.append(arrival)
        if not self._answering:
            self._answering = True
            with suppress(RuntimeError):  # the loop is closed, and so are the connections
                self._loop.call_soon_threadsafe(self._answer_all)

    def _answer_all(self) -> None:
        self._answering = False  # from now on, who adds one calls this again
        for _ in range(len(self._done)):
            arrival = self._done.popleft()
            try:
                self._answer(arrival)
            except Exception:  # the others of the batch are answered
                logger.exception("the response to a webhook failed")
                arrival.request.connection.abort()
        now = time.monotonic()
        if self._node.slave is not None and now - self._retained_at >= _RETAIN_S:
            self._retained_at = now
            self._pool.submit(self._node.slave.retain)

    def _answer(self, arrival: _Arrival) -> None:
        if arrival.held:
            self._admission.limits.leave(arrival.source, arrival.held)
        error = arrival.outcome.exception()
        if error is None:
            result = arrival.outcome.result()
            if isinstance(result, Answer):
                self._respond_to_handshake(arrival, result)
                return
            self._observe(arrival, "kept")
            status, kind, document = self._admission.respond(arrival.source, result)
            arrival.request.respond(status, _make_headers(kind), document)
        elif isinstance(error, WebhookSyncError):
            self._refuse(arrival, error)
        else:
            self._answer_problem(arrival, describe_fault(error), ":internal-error")

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
