"""One Firestore database through google-cloud-firestore: requests, deadlines, retries, errors.

This module uses the generated client of that package, one request at a time, because the higher
layer does not resume a broken query and hides the requests. Messages are plain protocol buffers,
which are created at run time and have no types: they are ``Any`` to the type checker.

:meth:`Database.connect` opens the connection, not the import or the constructor, so that a server
can fork in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
from google.api_core import exceptions as google
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

from portable_core.adapters.firestore.documents import read_nanoseconds
from portable_core.adapters.firestore.failures import (
    CLIENT_ERRORS,
    REJECTIONS,
    TRANSIENT,
    CommitRejected,
    shorten_error,
    translate_error,
)
from portable_core.adapters.firestore.operations import Operations, check_limits, collection_of
from portable_core.adapters.firestore.queries import RangeQuery, describe_query
from portable_core.errors import RecordRefused, StoreError

#: The time limit of one operation of the store, with its retries, in seconds.
TIMEOUT_S = 60.0

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

_GET_DOCUMENTS = 300
T = TypeVar("T")


def read_elapsed() -> float:
    """Return seconds that count while the machine is suspended, where the platform has them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Database:
    """``projects/<project>/databases/<database>``. Safe to use from any number of threads."""

    def __init__(self, project: str, database: str) -> None:
        self.path = f"projects/{project}/databases/{database}"
        self.operations = Operations()
        self._routing = [("google-cloud-resource-prefix", self.path)]
        self._metadata = self._routing
        self._api: FirestoreClient | None = None
        #: A time of Firestore's clock, and the elapsed seconds when it came.
        self._clock: tuple[int, float] | None = None

    def estimate_now(self) -> int:
        """Return the time of Firestore's clock in ns, or a little earlier, without a request.

        Raise ``StoreError`` if no response has had a time yet.
        """
        if self._clock is None:
            raise StoreError("the store is not open. Open it first.")
        then, at = self._clock
        return then + int((read_elapsed() - at) * 1e9)

    # -- connection --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Make the client. Idempotent. Raise ``StoreError`` without credentials."""
        if self._api is not None:
            return
        emulator = os.environ.get("FIRESTORE_EMULATOR_HOST")
        try:
            if emulator:
                channel = grpc.insecure_channel(emulator, options=_CHANNEL_OPTIONS)
                self._metadata = [*self._routing, ("authorization", "Bearer owner")]
            else:
                channel = FirestoreGrpcTransport.create_channel(
                    FirestoreClient.DEFAULT_ENDPOINT, options=_CHANNEL_OPTIONS
                )
                self._metadata = self._routing
        except GoogleAuthError as error:
            raise StoreError(
                f"no credentials for Firestore: {error}. Give the service an account, or run "
                "gcloud auth application-default login."
            ) from error
        self._api = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))

    def close(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            api.transport.close()  # type: ignore[no-untyped-call]  # it has no annotations

    def name(self, collection: str, id_: str) -> str:
        """Return the full name of a document."""
        return f"{self.path}/documents/{collection}/{id_}"

    def require_client(self) -> FirestoreClient:
        """Return the client. Raise ``StoreError`` if the store is not open."""
        api = self._api
        if api is None:
            raise StoreError("the store is not open. Open it first.")
        return api

    # -- writing ---------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Any], *, timeout_s: float = TIMEOUT_S) -> int:
        """Apply all writes durably, or none; return the time of the commit in ns.

        - Writes with preconditions must come first: a server that applies writes one by one has
          then changed nothing when it rejects the commit.
        - A commit whose outcome is unknown is sent again until the time limit, so the writes must
          be idempotent.

        Raise :class:`.CommitRejected` for a failed precondition, ``RecordRefused`` for a value that
        Firestore can never hold, and ``StoreError`` for any other fault.
        """
        api = self.require_client()
        request = types.CommitRequest.pb()(database=self.path, writes=writes)
        check_limits(request, self.operations)
        wrapped = types.CommitRequest.wrap(request)

        def call(timeout: float) -> Any:
            response = api.commit(wrapped, metadata=self._metadata, timeout=timeout, retry=None)
            return types.CommitResponse.pb(response).commit_time

        try:
            committed = self._call_with_retries(call, timeout_s)
        except REJECTIONS as error:
            raise CommitRejected(f"Firestore rejected a commit: {shorten_error(error)}") from error
        except google.InvalidArgument as error:
            raise RecordRefused(f"Firestore cannot hold a value: {shorten_error(error)}") from error
        except CLIENT_ERRORS as error:
            raise translate_error(error) from error
        self.operations.count_commit(writes)
        self._clock = read_nanoseconds(committed), read_elapsed()
        return self._clock[0]

    def _call_with_retries(self, call: Callable[[float], T], timeout_s: float) -> T:
        """Retry ``call`` until it succeeds.

        Each attempt gets half of the remaining time, so that a request lost in the network leaves
        time for another one.
        """
        deadline = time.monotonic() + timeout_s

        def attempt() -> T:
            remaining = deadline - time.monotonic()
            return call(max(remaining / 2 if remaining > 1 else remaining, 0.001))

        again = Retry(
            predicate=if_exception_type(*TRANSIENT),
            initial=0.05,
            maximum=2.0,
            multiplier=2.0,
            timeout=timeout_s,
            on_error=self.operations.count_retry,
        )
        return again(attempt)()

    # -- reading ---------------------------------------------------------------------------------

    def get(self, names: Sequence[str]) -> tuple[dict[str, Any], int]:
        """Return the existing documents by name, and the time of the last read in ns."""
        found: dict[str, Any] = {}
        times = [0]
        for start in range(0, len(names), _GET_DOCUMENTS):
            missing = dict.fromkeys(names[start : start + _GET_DOCUMENTS])
            self._get_some(missing, found, times)
            if missing:
                raise StoreError(f"Firestore's response lacks {next(iter(missing))}. Try again.")
        if times[-1]:
            self._clock = times[-1], read_elapsed()
        return found, times[-1]

    def _get_some(self, missing: dict[str, None], found: dict[str, Any], times: list[int]) -> None:
        """Move names from ``missing`` to ``found``; after a broken stream, request the others."""

        def request_stream(timeout: float) -> Iterator[Any]:
            if not missing:
                return iter(())  # the stream broke after the last document
            request = types.BatchGetDocumentsRequest.pb()(database=self.path, documents=missing)
            return iter(
                self.require_client().batch_get_documents(
                    types.BatchGetDocumentsRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def add_document(response: Any) -> None:
            message = types.BatchGetDocumentsResponse.pb(response)
            times.append(read_nanoseconds(message.read_time))
            if message.HasField("found"):
                name = message.found.name
                found[name] = message.found
            else:
                name = message.missing
            if name:
                missing.pop(name, None)
                self.operations.count_reads(collection_of(name), 1)

        self._read_stream(request_stream, add_document)

    def scan(self, query: RangeQuery, page: int, read_at: list[int] | None = None) -> Iterator[Any]:
        """Return the documents of a query, ``page`` at a time; memory holds one page.

        Each page begins after the last document of the page before, and so does the request after
        a broken stream. So no document is lost or repeated. ``read_at`` gets the times of the
        reads in ns, the first one before the first document is returned.
        """
        last: str | None = None
        while True:
            documents = self.read_page(query, last, page, read_at)
            yield from documents
            if len(documents) < page:
                return
            last = documents[-1].fields[query.field].string_value

    def read_page(
        self,
        query: RangeQuery,
        last: str | None,
        limit: int,
        read_at: list[int] | None = None,
    ) -> list[Any]:
        """Return at most ``limit`` documents of a query after the one whose field is ``last``."""
        documents: list[Any] = []

        def request_stream(timeout: float) -> Iterator[Any]:
            after = documents[-1].fields[query.field].string_value if documents else last
            if len(documents) == limit:
                return iter(())  # the stream broke after the last document
            request = types.RunQueryRequest.pb()(parent=f"{self.path}/documents")
            describe_query(query, after, limit - len(documents), request.structured_query)
            return iter(
                self.require_client().run_query(
                    types.RunQueryRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def add_document(response: Any) -> None:
            message = types.RunQueryResponse.pb(response)
            if read_at is not None:
                read_at.append(read_nanoseconds(message.read_time))
            if message.HasField("document"):
                documents.append(message.document)

        self._read_stream(request_stream, add_document)
        self.operations.count_reads(query.collection, max(len(documents), 1))
        return documents

    def sum(self, collection: str, field: str) -> int:
        """Return the sum of an integer field over all documents of a collection."""
        return self._aggregate(collection, {"sum": {"field": {"field_path": field}}})

    def count(self, collection: str) -> int:
        """Return the number of documents of a collection.

        It is a request of its own: one with a sum counts only documents with the summed field.
        """
        return self._aggregate(collection, {"count": {}})

    def _aggregate(self, collection: str, aggregation: dict[str, Any]) -> int:
        """Return the integer result of an aggregation.

        Firestore bills one read for each 1,000 documents; the operation counts include only one.
        """
        request = types.RunAggregationQueryRequest.pb()(parent=f"{self.path}/documents")
        query = request.structured_aggregation_query
        query.structured_query.from_.add(collection_id=collection)
        query.aggregations.add(alias="it", **aggregation)
        results: list[int] = []

        def request_stream(timeout: float) -> Iterator[Any]:
            return iter(
                self.require_client().run_aggregation_query(
                    types.RunAggregationQueryRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def add_result(response: Any) -> None:
            message = types.RunAggregationQueryResponse.pb(response)
            if message.HasField("result"):
                results.append(message.result.aggregate_fields["it"].integer_value)

        self._read_stream(request_stream, add_result)
        self.operations.count_reads(collection, 1)
        return results[-1] if results else 0

    def _read_stream(
        self, request_stream: Callable[[float], Iterator[Any]], handle: Callable[[Any], None]
    ) -> None:
        """Pass every message of a stream to ``handle``; when the stream breaks, request another.

        The argument of ``request_stream`` is the stream's timeout in seconds. Each call requests
        only the messages that were not handled yet.
        """
        deadline = time.monotonic() + TIMEOUT_S
        wait = 0.05
        while True:
            try:
                for response in request_stream((deadline - time.monotonic()) / 2):
                    handle(response)
                return
            except TRANSIENT as error:
                if time.monotonic() + 2 * wait > deadline:
                    raise translate_error(error) from error
                self.operations.count_retry()
                time.sleep(wait)
                wait = min(2 * wait, 2.0)
            except CLIENT_ERRORS as error:
                raise translate_error(error) from error
