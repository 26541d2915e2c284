"""A master's webhooks for programs: as a feed of lines, as pages of JSON, as pairs to compare."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.datastructures import MIMEAccept

from portable_core.adapters.flask_app.answers import answer_json
from portable_core.adapters.flask_app.queries import (
    parse_bounded,
    read_before,
    read_hashes,
    read_limit,
    read_search,
    read_source,
)
from portable_core.errors import BadRequest
from portable_core.node import Node
from portable_core.ports import Milliseconds
from portable_core.records import parse_id
from portable_core.sync.completeness import synced_until
from portable_core.sync.master import Master
from portable_core.sync.parts import select_pairs
from portable_core.sync.protocol import (
    PAIRS_PATH,
    QUERY_END,
    QUERY_START,
    STORE_HEADER,
    THROUGH_HEADER,
    format_store,
)
from portable_core.webhooks.feed import (
    NDJSON,
    encode_feed,
    encode_line,
    parse_position,
)
from portable_core.webhooks.listing import describe_page
from portable_core.webhooks.search import FOREVER, find_record
from portable_core.wire.negotiation import negotiate

logger = logging.getLogger(__name__)

WEBHOOKS_PATH = "/webhooks"

#: The values of the feed's ``upto`` that end it where the master is complete; the second is the
#: name of an older release.
_COMPLETE = "complete"
_COMPLETE_DEPRECATED = "settled"

_JSON = "application/json"
_HTML = "text/html"
_CHUNK_BYTES = 64 * 1024


class Pages(Protocol):
    """The same endpoints for browsers, with a login of their own."""

    def knows_visitor(self) -> bool:
        """Return whether the request comes from a visitor who is logged in."""
        ...

    def show_list(self) -> object: ...

    def show_webhook(self, webhook: str) -> object: ...


def add_feed_routes(app: Flask, node: Node, master: Master, pages: Pages | None) -> None:
    """Add ``GET /webhooks``, ``GET /webhooks/<id>`` and ``GET /pairs``."""

    def enter() -> None:
        """Authenticate the caller, and open the store: this may be the first request."""
        if pages is None or not pages.knows_visitor():
            node.authenticate(request.headers.get("Authorization"))
        node.receiver.open()

    @app.get(WEBHOOKS_PATH)
    def webhooks() -> Any:
        kind = _choose(request.accept_mimetypes, NDJSON, people=pages is not None)
        if kind == _HTML and pages is not None:
            return pages.show_list()
        enter()
        if kind == NDJSON:
            return _answer_feed(node, master)
        search = read_search(request.args, node.receiver.clock.now())
        before = read_before(request.args)
        limit, finder = read_limit(request.args), node.require_finder()
        found = finder.find_by_id(search) if before is None else None
        if found is not None:
            return answer_json(describe_page(finder.make_page(found)))
        return answer_json(describe_page(finder.read_page(search, before, limit)))

    @app.get(f"{WEBHOOKS_PATH}/<webhook>")
    def webhook(webhook: str) -> Any:
        if _choose(request.accept_mimetypes, people=pages is not None) == _HTML and pages:
            return pages.show_webhook(webhook)
        enter()
        record = find_record(node.receiver.store, parse_id(webhook))
        return Response(encode_line(record, raw="raw" in request.args), content_type=_JSON)

    @app.get(PAIRS_PATH)
    def answer_pairs() -> Response:
        enter()
        encoding = negotiate(request.headers.get("Accept"))
        start, end = _read_bound(QUERY_START, 0), _read_bound(QUERY_END, FOREVER)
        info, horizon = node.receiver.info(), node.receiver.horizon()
        pairs = select_pairs(node.receiver.store.pairs(start, end), read_hashes(request.args))
        chunks = encoding.encode_pairs(pairs)
        response = Response(chunks, content_type=encoding.media_type)
        response.headers[THROUGH_HEADER] = str(horizon)
        response.headers[STORE_HEADER] = format_store(info.uuid, info.generation)
        return response


def _choose(accept: MIMEAccept, *others: str, people: bool) -> str:
    offered = [_JSON, *others, *([_HTML] if people else [])]
    return accept.best_match(offered, _JSON) or _JSON


def _read_bound(name: str, default: int) -> Milliseconds:
    text = request.args.get(name)
    return default if text is None else parse_bounded(name, text)


def _answer_feed(node: Node, master: Master) -> Response:
    """Return the webhooks from ``since`` on, in order.

    The feed ends at the time up to which the master is complete; with ``upto=now`` at its horizon.
    """
    query = request.args
    since = query.get("since", "0")
    first = parse_position(since)
    upto = query.get("upto", _COMPLETE)
    if upto == _COMPLETE_DEPRECATED:
        logger.warning("upto=%s is deprecated; use upto=%s", upto, _COMPLETE)
        upto = _COMPLETE
    if upto not in (_COMPLETE, "now"):
        raise BadRequest(f"upto: must be {_COMPLETE} or now (got {upto[:40]!r})")
    end = node.receiver.horizon()
    if upto == _COMPLETE:
        states = master.slave_states()
        end = synced_until(end, [states[name] for name in master.clients])
    end = min(end, _read_bound(QUERY_END, FOREVER))
    source = read_source(query)
    records = (
        record
        for record in node.receiver.store.records(first.timestamp, end)
        if record.pair >= first and source in (None, record.meta.source)
    )
    limit = query.get("limit")
    most = None if limit is None else parse_bounded("limit", limit)
    lines = encode_feed(records, since, end, most, raw="raw" in query)
    return Response(_join(lines, node), content_type=NDJSON)


def _join(lines: Iterator[bytes], node: Node) -> Iterator[bytes]:
    """Yield whole lines, some 64 KiB at a time; end early if the node is stopped."""
    joined: list[bytes] = []
    size = 0
    for line in lines:
        joined.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(joined)
            joined, size = [], 0
            if node.stopping:
                return
    if joined:
        yield b"".join(joined)
