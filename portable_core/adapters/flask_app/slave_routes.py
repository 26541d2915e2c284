"""``/sync``: a slave's side of the protocol over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from flask import Flask, Response, request

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.queries import read_hashes
from portable_core.adapters.flask_app.request_stream import check_identity, read_chunks
from portable_core.epochs import Stint
from portable_core.errors import BadRequest, Conflict, WebhookSyncError
from portable_core.node import Node
from portable_core.ports import StoreEpoch, StoreInfo
from portable_core.sync.master_marks import MastersDocument
from portable_core.sync.protocol import (
    MASTERS_PATH,
    QUERY_CLOCK,
    QUERY_COMPARE_ONLY,
    QUERY_COMPARE_ONLY_DEPRECATED,
    QUERY_END,
    QUERY_HASH,
    QUERY_HASH_END,
    QUERY_HASH_START,
    QUERY_IDENTITY,
    QUERY_MASTER,
    QUERY_SPAN,
    QUERY_START,
    QUERY_STINT,
    QUERY_STORE,
    STORE_HEADER,
    SYNC_PATH,
    THROUGH_HEADER,
    format_store,
    parse_integer,
    parse_master,
    parse_stint,
    parse_store,
)
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import choose_encoding, negotiate, read_batches

logger = logging.getLogger(__name__)

_QUERY_NAMES = (
    QUERY_START,
    QUERY_END,
    QUERY_SPAN,
    QUERY_HASH,
    QUERY_IDENTITY,
    QUERY_STORE,
    QUERY_COMPARE_ONLY,
    QUERY_COMPARE_ONLY_DEPRECATED,
    QUERY_HASH_START,
    QUERY_HASH_END,
    QUERY_MASTER,
)


def add_slave_routes(app: Flask, node: Node, slave: Slave) -> None:
    """Add ``GET /sync``, ``POST /sync``, ``GET /masters`` and ``DELETE /masters/<master>``."""
    _add_master_marks(app, node, slave)

    @app.get(SYNC_PATH)
    def describe() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        response = answer_json(slave.describe(_read_stint(), _read_clock()))
        _name_store(response, slave.receiver.info())
        return response

    @app.post(SYNC_PATH)
    def answer() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        check_identity(request)
        query = _read_query(node)
        theirs = choose_encoding(request.headers.get("Content-Type"))
        ours = negotiate(request.headers.get("Accept"))
        pairs = read_batches(theirs.read_pairs(), _until_stopped(node, read_chunks(request)))
        answer = slave.answer(query, pairs)
        try:
            chunks = ours.encode_records(answer.records)
            # An error before the first chunk still gets a status.
            first = next(chunks, b"")
        except BaseException:
            answer.close()
            raise
        response = Response(_stream(node, first, chunks), 200, content_type=ours.media_type)
        response.call_on_close(answer.close)
        response.headers[THROUGH_HEADER] = str(answer.through)
        _name_store(response, answer.store)
        return response


def _add_master_marks(app: Flask, node: Node, slave: Slave) -> None:
    """Add ``GET /masters`` and ``DELETE /masters/<master>``."""

    @app.get(MASTERS_PATH)
    def list_masters() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        return answer_json(MastersDocument(slave.describe_masters()))

    @app.delete(f"{MASTERS_PATH}/<master>")
    def forget_master(master: str) -> Response:
        node.authenticate(request.headers.get("Authorization"))
        slave.forget_master(master)
        return answer_json(MastersDocument(slave.describe_masters()))


def _name_store(response: Response, info: StoreInfo) -> None:
    response.headers[STORE_HEADER] = format_store(info.uuid, info.generation)


def _read_query(node: Node) -> SyncQuery:
    for name in _QUERY_NAMES:
        times = len(request.args.getlist(name))
        if times > 1:
            raise BadRequest(f"{name}: must occur once in the query (got {times} values)")
    values = {}
    for name in (QUERY_START, QUERY_END, QUERY_SPAN):
        given = request.args.getlist(name)
        if not given and name == QUERY_SPAN:
            values[name] = node.settings.span_ms
            continue
        if not given:
            raise BadRequest(f"{name}: missing from the query")
        try:
            values[name] = parse_integer(given[0])
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from error
    ours = request.args.get(QUERY_HASH) == node.receiver.algorithm
    if ours and request.args.get(QUERY_IDENTITY) != "1":
        raise Conflict(
            "identity: the master is of an older version than this slave and would quarantine its "
            "records; upgrade the master first"
        )
    return SyncQuery(
        values[QUERY_START],
        values[QUERY_END],
        values[QUERY_SPAN],
        request.args.get(QUERY_HASH, node.receiver.algorithm),
        _read_store(request.args.get(QUERY_STORE)),
        compare_only=_read_compare_only(),
        hashes=read_hashes(request.args),
        master=_read_master(request.args.get(QUERY_MASTER)),
        stint=_read_stint(),
    )


def _read_compare_only() -> bool:
    by_new_name = request.args.get(QUERY_COMPARE_ONLY) == "1"
    if request.args.get(QUERY_COMPARE_ONLY_DEPRECATED) != "1":
        return by_new_name
    if not by_new_name:
        old, new = QUERY_COMPARE_ONLY_DEPRECATED, QUERY_COMPARE_ONLY
        logger.warning("%s=1 is deprecated; use %s=1, or update the other node", old, new)
    return True


def _read_master(given: str | None) -> str:
    if given is None:
        return ""
    try:
        return parse_master(given)
    except ValueError as error:
        raise BadRequest(f"{QUERY_MASTER}: {error}") from error


def _read_store(given: str | None) -> StoreEpoch | None:
    if given is None:
        return None
    try:
        return parse_store(given)
    except ValueError as error:
        raise BadRequest(f"{QUERY_STORE}: {error}") from error


def _read_stint() -> Stint | None:
    given = request.args.getlist(QUERY_STINT)
    if not given:
        return None
    try:
        if len(given) > 1:
            raise ValueError(f"must occur once in the query (got {len(given)} values)")
        return parse_stint(given[0])
    except ValueError as error:
        raise BadRequest(f"{QUERY_STINT}: {error}") from error


def _read_clock() -> int | None:
    given = request.args.getlist(QUERY_CLOCK)
    if not given:
        return None
    try:
        if len(given) > 1:
            raise ValueError(f"must occur once in the query (got {len(given)} values)")
        return parse_integer(given[0])
    except ValueError as error:
        raise BadRequest(f"{QUERY_CLOCK}: {error}") from error


def _until_stopped(node: Node, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; end the stream, as if cut, when the node is being stopped."""
    for chunk in chunks:
        if node.stopping:
            return
        yield chunk


def _stream(node: Node, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the rest of a response.

    An error, or a stop of the node, ends the response without its closing mark, so that the master
    treats it as cut.
    """
    yield first
    try:
        for chunk in chunks:
            if node.stopping:
                logger.warning("a sync ended early: this node is being stopped")
                return
            yield chunk
    except WebhookSyncError as error:
        logger.warning("a sync ended early: %s: %s", error.title, error)
    except Exception:
        logger.exception("a sync ended early by an unexpected error")
