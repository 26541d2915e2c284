"""One Firestore database through google-cloud-firestore: requests, deadlines, retries, errors.

The generated client of the package is used, one request at a time: its higher layer resumes no
broken query and hides what is sent. Messages are plain protocol buffers, ``Any`` to the type
checker: they are made at run time and have no types.

A connection is made with the first :meth:`Database.connect`, never when the module is imported or
the object is made, so that a server may fork in between.
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

#: How long one operation of the store may take, retries included.
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


class Database:
    """``projects/<project>/databases/<database>``. Safe to use from any number of threads."""

    def __init__(self, project: str, database: str) -> None:
        self.path = f"projects/{project}/databases/{database}"
        self.operations = Operations()
        self._routing = [("google-cloud-resource-prefix", self.path)]
        self._metadata = self._routing
        self._api: FirestoreClient | None = None

    # -- life ------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Raises ``StoreError`` where there are no credentials. Idempotent."""
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
                f"no credentials for Firestore: {error}; run where the service has an account, or "
                "gcloud auth application-default login"
            ) from error
        self._api = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))

    def close(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            api.transport.close()  # type: ignore[no-untyped-call]  # it has no annotations

    def name(self, collection: str, id_: str) -> str:
        """The full name of a document."""
        return f"{self.path}/documents/{collection}/{id_}"

    def require_client(self) -> FirestoreClient:
        """The client. Raises ``StoreError`` before :meth:`connect` and after :meth:`close`."""
        api = self._api
        if api is None:
            raise StoreError("the store is not open; open it first")
        return api

    # -- writing ---------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Any], *, timeout_s: float = TIMEOUT_S) -> int:
        """Apply all writes or none; durable when it returns. Returns the commit's time in ns.

        Writes with preconditions go first: a server that applies them one by one then has changed
        nothing when it refuses. It is sent again as long as there is time when the outcome is
        unknown, so the writes must give the same when applied twice. Raises :class:`Refused` for a
        precondition, ``RecordRefused`` for what Firestore can never hold, ``StoreError`` for
        anything else.
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
            raise CommitRejected(f"Firestore refused a commit: {shorten_error(error)}") from error
        except google.InvalidArgument as error:
            raise RecordRefused(f"Firestore cannot hold it: {shorten_error(error)}") from error
        except CLIENT_ERRORS as error:
            raise translate_error(error) from error
        self.operations.count_commit(writes)
        return _nanoseconds(committed)

    def _call_with_retries(self, call: Callable[[float], T], timeout_s: float) -> T:
        """Call until it succeeds. An attempt gets half of the time that is left, so that one lost
        in the network leaves time for another."""
        deadline = time.monotonic() + timeout_s

        def attempt() -> T:
            rest = deadline - time.monotonic()
            return call(max(rest / 2 if rest > 1 else rest, 0.001))

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
        """The documents of these names that exist, by name, and the last read's time in ns."""
        found: dict[str, Any] = {}
        times = [0]
        for start in range(0, len(names), _GET_DOCUMENTS):
            missing = dict.fromkeys(names[start : start + _GET_DOCUMENTS])
            self._get_some(missing, found, times)
            if missing:
                raise StoreError(f"Firestore said nothing of {next(iter(missing))}; try again")
        return found, times[-1]

    def _get_some(self, missing: dict[str, None], found: dict[str, Any], times: list[int]) -> None:
        """Move names from ``missing`` to ``found``; a broken stream is asked for the rest."""

        def ask(timeout: float) -> Iterator[Any]:
            if not missing:
                return iter(())  # it broke behind the last document
            request = types.BatchGetDocumentsRequest.pb()(database=self.path, documents=missing)
            return iter(
                self.require_client().batch_get_documents(
                    types.BatchGetDocumentsRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def take(response: Any) -> None:
            answer = types.BatchGetDocumentsResponse.pb(response)
            times.append(_nanoseconds(answer.read_time))
            if answer.HasField("found"):
                name = answer.found.name
                found[name] = answer.found
            else:
                name = answer.missing
            if name:
                missing.pop(name, None)
                self.operations.count_reads(collection_of(name), 1)

        self._read_stream(ask, take)

    def scan(self, query: RangeQuery, page: int) -> Iterator[Any]:
        """The documents of a query, ``page`` at a time; memory holds one page.

        A page begins behind the last document of the one before, and so does what is asked for
        after a broken stream: nothing is lost or repeated.
        """
        last: str | None = None
        while True:
            documents = self.read_page(query, last, page)
            yield from documents
            if len(documents) < page:
                return
            last = documents[-1].fields[query.field].string_value

    def read_page(self, query: RangeQuery, last: str | None, limit: int) -> list[Any]:
        """At most ``limit`` documents of a query behind the one whose field is ``last``."""
        documents: list[Any] = []

        def ask(timeout: float) -> Iterator[Any]:
            behind = documents[-1].fields[query.field].string_value if documents else last
            if len(documents) == limit:
                return iter(())  # it broke behind the last document
            request = types.RunQueryRequest.pb()(parent=f"{self.path}/documents")
            describe_query(query, behind, limit - len(documents), request.structured_query)
            return iter(
                self.require_client().run_query(
                    types.RunQueryRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def take(response: Any) -> None:
            answer = types.RunQueryResponse.pb(response)
            if answer.HasField("document"):
                documents.append(answer.document)

        self._read_stream(ask, take)
        self.operations.count_reads(query.collection, max(len(documents), 1))
        return documents

    def sum(self, collection: str, field: str) -> int:
        """The sum of an integer field over all documents of a collection.

        Billed as a read for each 1,000 documents; the count here leaves that to the bill.
        """
        request = types.RunAggregationQueryRequest.pb()(parent=f"{self.path}/documents")
        query = request.structured_aggregation_query
        query.structured_query.from_.add(collection_id=collection)
        query.aggregations.add(alias="sum", sum={"field": {"field_path": field}})
        sums: list[int] = []

        def ask(timeout: float) -> Iterator[Any]:
            return iter(
                self.require_client().run_aggregation_query(
                    types.RunAggregationQueryRequest.wrap(request),
                    metadata=self._metadata,
                    timeout=timeout,
                    retry=None,
                )
            )

        def take(response: Any) -> None:
            answer = types.RunAggregationQueryResponse.pb(response)
            if answer.HasField("result"):
                sums.append(answer.result.aggregate_fields["sum"].integer_value)

        self._read_stream(ask, take)
        self.operations.count_reads(collection, 1)
        return sums[-1] if sums else 0

    def _read_stream(
        self, ask: Callable[[float], Iterator[Any]], take: Callable[[Any], None]
    ) -> None:
        """Give every message of a stream to ``take``; when it breaks, ask again.

        ``ask`` gets the seconds that a stream may take, and knows what was taken already.
        """
        deadline = time.monotonic() + TIMEOUT_S
        wait = 0.05
        while True:
            try:
                for response in ask((deadline - time.monotonic()) / 2):
                    take(response)
                return
            except TRANSIENT as error:
                if time.monotonic() + 2 * wait > deadline:
                    raise translate_error(error) from error
                self.operations.count_retry()
                time.sleep(wait)
                wait = min(2 * wait, 2.0)
            except CLIENT_ERRORS as error:
                raise translate_error(error) from error


def _nanoseconds(timestamp: Any) -> int:
    return int(timestamp.seconds) * 1_000_000_000 + int(timestamp.nanos)
