"""``GET /feed``: a master's webhooks in the order of their arrival, as lines or as events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

from flask import Flask, Response, request

from portable_core.adapters.flask_app.queries import Query, parse_bounded, read_source
from portable_core.adapters.flask_app.sse import EVENT_STREAM
from portable_core.errors import BadRequest
from portable_core.node import Node
from portable_core.webhooks.arrivals import MAX_WAIT_S, ArrivalFeed, FeedItem, FeedQuery
from portable_core.webhooks.consumers import Consumers
from portable_core.webhooks.feed import NDJSON

ARRIVALS_PATH = "/feed"

_CHUNK_BYTES = 64 * 1024

#: A space is sent with every so many idle items, that is every three seconds.
_IDLES_PER_SPACE = 6


def add_arrival_routes(app: Flask, node: Node, feed: ArrivalFeed, consumers: Consumers) -> None:
    """Add ``GET /feed``."""

    @app.get(ARRIVALS_PATH)
    def read_feed() -> Response:
        node.authenticate(request.headers.get("Authorization"))
        node.receiver.open()
        events = request.accept_mimetypes.best_match([NDJSON, EVENT_STREAM]) == EVENT_STREAM
        last = request.headers.get("Last-Event-ID") if events else None
        query = read_query(request.args, consumers, last, events=events)
        read = feed.read(query, lambda: node.stopping)
        # An error is an error of the response as long as nothing was sent.
        items = chain([next(read)], read)
        if events:
            headers = {"Cache-Control": "no-cache"}
            return Response(_format_events(items), 200, headers, content_type=EVENT_STREAM)
        return Response(_join_lines(items), content_type=NDJSON)


def read_query(query: Query, consumers: Consumers, last: str | None, *, events: bool) -> FeedQuery:
    """Return what the parameters ask for. ``last``: the id of the last event of a stream.

    Raises ``BadRequest`` and ``NotFound``.
    """
    after, consumer = last or query.get("after", "").strip(), query.get("consumer", "")
    if consumer and not after:
        after = consumers.find_position(consumer)
    limit = query.get("limit", "")
    default_wait = f"{MAX_WAIT_S:g}" if events else "0"
    return FeedQuery(
        after=after,
        source=read_source(query),
        event=query.get("event", "").strip() or None,
        limit=parse_bounded("limit", limit, 1) if limit else None,
        wait_s=_read_wait(query.get("wait", default_wait)),
        raw="raw" in query,
        follow=events,
    )


def _read_wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_S:
        raise BadRequest(f"wait: must be between 0 and {MAX_WAIT_S:g} seconds (got {text[:40]!r})")
    return seconds


def _join_lines(items: Iterator[FeedItem]) -> Iterator[bytes]:
    """Yield lines as they come; of those that are there, some 64 KiB at a time.

    While nothing comes, yield a space now and then, which JSON allows before a line: proxies keep
    the connection open, and the server notices that a client is gone.
    """
    idle = 0
    joined: list[bytes] = []
    size = 0
    for item in items:
        if item.kind == "idle":
            idle += 1
            yield b"" if idle % _IDLES_PER_SPACE else b" "
            continue
        joined += (item.line, b"\n")
        size += len(item.line)
        if size >= _CHUNK_BYTES or item.kind == "end":
            yield b"".join(joined)
            joined, size = [], 0


def _format_events(items: Iterator[FeedItem]) -> Iterator[bytes]:
    """Yield server-sent events (WHATWG HTML, section 9.2); the closing line is the event ``end``.

    The first event asks the reader to reconnect after a tenth of a second.
    """
    yield b"retry: 100\n\n"
    for item in items:
        if item.kind == "idle":
            yield b":\n\n"
            continue
        kind = b"event: end\n" if item.kind == "end" else b""
        yield b"%bid: %b\ndata: %b\n\n" % (kind, item.position.encode(), item.line)
