"""The document of a page of webhooks: made by a master, read by the commands."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from portable_core.ports import Milliseconds
from portable_core.records import Integer, Recovery, format_id
from portable_core.webhooks.search import Page, Row


class RowDocument(msgspec.Struct, frozen=True):
    """A webhook without its payload.

    ``event`` is the provider's name of the event, empty if there is none; ``key`` is null for a
    record of a version before 0.2; ``recovery`` is null for a webhook that the master received from
    its sender.
    """

    id: str
    hash: Integer
    timestamp: Milliseconds
    source: str
    event: str
    size: Integer
    recovery: Recovery | None = None
    preview: str = ""
    key: str | None = None
    query: str = ""


class PageDocument(msgspec.Struct, frozen=True):
    """A page, newest first. ``before`` requests the next page; null after the last one."""

    webhooks: Sequence[RowDocument]
    before: str | None = None
    complete: bool = True
    looked_at: Integer = 0


def describe_page(page: Page) -> PageDocument:
    """Return the document of a page."""
    return PageDocument(
        [_describe_row(row) for row in page.rows],
        None if page.before is None else format_id(page.before),
        page.complete,
        page.looked_at,
    )


def _describe_row(row: Row) -> RowDocument:
    return RowDocument(
        row.id,
        row.pair.hash,
        row.pair.timestamp,
        row.meta.source,
        row.event,
        row.size,
        row.recovery,
        row.preview,
        row.meta.key or None,
        row.meta.query,
    )
