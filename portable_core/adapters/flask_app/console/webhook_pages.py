"""The pages of webhooks and of the quarantine, and the raw payloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from flask import Flask, Response, render_template, request
from msgspec import structs

from portable_core.adapters.flask_app.console.access import Access, go_to
from portable_core.adapters.flask_app.console.pages import frame
from portable_core.adapters.flask_app.queries import read_before, read_search
from portable_core.errors import BadRequest, NotFound
from portable_core.node import Node
from portable_core.ports import Quarantined
from portable_core.records import format_id, parse_id
from portable_core.sync.master import Master
from portable_core.webhooks.comparison import compare_all, compare_records
from portable_core.webhooks.copying import MAX_COPIED_BYTES, format_curl
from portable_core.webhooks.feed import encode_line
from portable_core.webhooks.payload_text import indent, is_structured
from portable_core.webhooks.related import find_copies, find_similar_rows
from portable_core.webhooks.search import Page, find_record

#: Characters of a payload that are shown; the download has all of them.
SHOWN_CHARACTERS = 200_000

#: The presets of the search's time: values of ``last``, and what a person reads.
SPANS = (
    ("", "any"),
    ("15m", "last 15 minutes"),
    ("1h", "last hour"),
    ("6h", "last 6 hours"),
    ("24h", "last 24 hours"),
    ("7d", "last 7 days"),
    ("30d", "last 30 days"),
)

#: The most records that are shown side by side.
_MOST_BESIDE = 5

_QUARANTINE_ROWS = 100
_QUARANTINE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """An item of the quarantine without its payload; ``text`` is the start of the payload."""

    item: Quarantined
    size: int
    text: str
    whole: bool


def make_row(item: Quarantined) -> QuarantineRow:
    text, whole = indent(item.record.payload, _QUARANTINE_CHARACTERS)
    light = replace(item, record=structs.replace(item.record, payload=b""))
    return QuarantineRow(light, len(item.record.payload), text, whole)


class WebhookPages:
    """The views; implements ``Pages`` of the feed's routes."""

    def __init__(self, node: Node, master: Master, access: Access) -> None:
        self._node = node
        self._master = master
        self._access = access
        self.show_list = frame(access, self._show_list)
        self.show_webhook = frame(access, self._show_webhook)
        self.show_quarantine = frame(access, self._show_quarantine)

    def add_routes(self, app: Flask) -> None:
        """Add the routes that only browsers use."""
        for path, view in (
            ("/webhooks/<webhook>/payload", self._download),
            ("/webhooks/<webhook>/copies", self._show_copies),
            ("/webhooks/<webhook>/compare/<other>", self._compare),
            ("/quarantine/<path:item>/payload", self._download_quarantined),
        ):
            framed = frame(self._access, view)
            app.add_url_rule(path, f"console{view.__name__}", framed, methods=["GET"])

    def knows_visitor(self) -> bool:
        return self._access.identify().logged_in

    def _show_list(self) -> object:
        problem, page = "", Page()
        try:
            search = read_search(request.args, self._node.receiver.clock.now())
            self._node.receiver.open()
            finder = self._node.require_finder()
            found = finder.find_by_id(search)
            if found is not None:
                return go_to(f"/webhooks/{format_id(found.pair)}")
            page = finder.read_page(search, read_before(request.args))
        except BadRequest as error:
            problem = str(error)
        settings = self._node.settings
        body = render_template(
            "webhooks.html",
            page=page,
            query=request.args,
            problem=problem,
            spans=SPANS,
            sources=sorted(settings.sources.names),
            slaves=sorted(self._master.clients),
        )
        return Response(body, 400 if problem else 200)

    def _show_webhook(self, webhook: str) -> str:
        self._node.receiver.open()
        finder = self._node.require_finder()
        record = find_record(finder.store, parse_id(webhook))
        text, whole = indent(record.payload, SHOWN_CHARACTERS)
        is_small = len(record.payload) <= MAX_COPIED_BYTES
        return render_template(
            "webhook.html",
            record=record,
            event=finder.names.event(record),
            copies=find_copies(finder, record),
            similar=find_similar_rows(finder, record),
            text=text,
            whole=whole,
            targets=self._node.settings.replay_targets,
            line=encode_line(record).decode().rstrip() if is_small else "",
            curl=format_curl(record) if is_small else "",
        )

    def _show_copies(self, webhook: str) -> str:
        """Show a webhook beside its nearest copies."""
        self._node.receiver.open()
        finder = self._node.require_finder()
        record = find_record(finder.store, parse_id(webhook))
        time = record.pair.timestamp
        found = [related.row.pair for related in find_copies(finder, record)]
        nearest = sorted(found, key=lambda pair: abs(pair.timestamp - time))[: _MOST_BESIDE - 1]
        records = sorted([record, *finder.store.fetch(nearest)], key=lambda each: each.pair)
        body, head = compare_all(records)
        return render_template(
            "copies.html",
            name=format_id(record.pair),
            records=records,
            body=body,
            head=head,
            more=len(found) - len(nearest),
        )

    def _compare(self, webhook: str, other: str) -> str:
        self._node.receiver.open()
        store = self._node.receiver.store
        pair = [find_record(store, parse_id(text)) for text in (webhook, other)]
        return render_template(
            "compare.html", one=pair[0], other=pair[1], comparison=compare_records(*pair)
        )

    def _download(self, webhook: str) -> Response:
        self._node.receiver.open()
        record = find_record(self._node.receiver.store, parse_id(webhook))
        return make_download(record.payload, f"webhook-{format_id(record.pair)}")

    def _show_quarantine(self) -> str:
        """Show the newest items."""
        entries = self._master.quarantine.list_page(None, _QUARANTINE_ROWS)
        rows = [make_row(item) for entry in entries for item in self._find_quarantined(entry.id)]
        size = self._master.quarantine.size()
        return render_template("quarantine.html", items=rows, size=size)

    def _find_quarantined(self, id_: str) -> Iterator[Quarantined]:
        with suppress(NotFound):  # released or deleted meanwhile
            yield self._master.quarantine.find(id_)

    def _download_quarantined(self, item: str) -> Response:
        record = self._master.quarantine.find(item).record
        return make_download(record.payload, f"quarantined-{format_id(record.pair)}")


def make_download(payload: bytes, name: str) -> Response:
    """Return the bytes as a file that no browser displays or runs."""
    extension = "json" if is_structured(payload) else "bin"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.{extension}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(payload, 200, headers, content_type="application/octet-stream")
