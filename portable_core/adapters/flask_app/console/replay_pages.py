"""The pages that start replays and show their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
from flask import Flask, Response, render_template, request

from portable_core.adapters.flask_app.console.access import Access, go_to
from portable_core.adapters.flask_app.console.jobs import Replays
from portable_core.adapters.flask_app.console.pages import frame
from portable_core.adapters.flask_app.queries import read_search
from portable_core.adapters.flask_app.sse import EVENT_STREAM
from portable_core.errors import BadRequest, Forbidden
from portable_core.node import Node
from portable_core.records import Pair, Record, parse_id
from portable_core.sync.protocol import parse_integer
from portable_core.webhooks.delivery_request import Connect
from portable_core.webhooks.replay import Replay
from portable_core.webhooks.replay_targets import check_target
from portable_core.webhooks.search import Search, find_record

_SHOWN_FAILURES = 200
_MAX_PARALLEL = 8
_MOST_COUNTED = 300_000


class ReplayPages:
    """The views. Without ``REPLAY_TARGETS`` they only show that replay is off."""

    def __init__(
        self, node: Node, access: Access, replays: Replays, connect: Connect | None
    ) -> None:
        self._node = node
        self._access = access
        self._replays = replays
        self._connect = connect

    def add_routes(self, app: Flask) -> None:
        for path, view, method in (
            ("/replays", self._show_all, "GET"),
            ("/replays", self._start, "POST"),
            ("/replays/<name>", self._show_one, "GET"),
            ("/replays/<name>/live", self._show_live, "GET"),
            ("/replays/<name>/events", self._follow, "GET"),
            ("/replays/<name>/stop", self._stop, "POST"),
            ("/replays/<name>/again", self._start_again, "POST"),
        ):
            framed = frame(self._access, view)
            app.add_url_rule(path, f"console_replay{view.__name__}", framed, methods=[method])

    def _show_all(self) -> str:
        runs = [(name, run.url, run.status()) for name, run in self._replays.list_all()]
        targets = self._node.settings.replay_targets
        return render_template("replays.html", runs=runs, targets=targets, query=request.args)

    def _start(self) -> object:
        form = request.form
        self._node.receiver.open()
        one = form.get("webhook", "").strip()
        if one:
            pair = parse_id(one)
            find_record(self._node.receiver.store, pair)
            return self._run(form.get("url", ""), self._read_pairs([pair]), 1)
        if not form.get("start", "").strip() or not form.get("end", "").strip():
            raise BadRequest(
                "start, end: missing. A replay may send many webhooks; name both ends of its time "
                "range."
            )
        search = read_search(form, self._node.receiver.clock.now())
        if search.start >= search.end:
            raise BadRequest("start, end: the end must be after the start")
        return self._run(form.get("url", ""), self._read_range(search), self._count(search))

    def _start_again(self, name: str) -> object:
        """Start a run of the webhooks that failed in another run."""
        earlier = self._replays.get(name)
        status = earlier.status()
        if status.state == "running":
            raise BadRequest("the replay is still running. Wait for its end or stop it.")
        pairs = [failure.pair for failure in status.failures]
        return self._run(earlier.url, self._read_pairs(pairs), len(pairs))

    def _run(self, url: str, records: Iterable[Record], total: int | None) -> object:
        settings, clock = self._node.settings, self._node.receiver.clock
        if not settings.replay_targets or self._connect is None:
            raise Forbidden(
                "replay is off: REPLAY_TARGETS is not set. Set it to the allowed addresses and "
                "restart the master."
            )
        parallel = _read_parallel(request.form.get("parallel", "1"))
        replay = Replay(
            check_target(url.strip(), settings.replay_targets),
            self._until_stopped(records),
            self._connect,
            lambda: clock.now() // 1000,
            settings.replay_secret,
            parallel=parallel,
            total=total,
        )
        return go_to(f"/replays/{self._replays.start(replay)}")

    def _read_pairs(self, pairs: list[Pair]) -> Iterator[Record]:
        for pair in pairs:
            yield from self._node.receiver.store.fetch([pair])

    def _read_range(self, search: Search) -> Iterator[Record]:
        records = self._node.receiver.store.records(search.start, search.end)
        return (record for record in records if search.source in (None, record.meta.source))

    def _count(self, search: Search) -> int | None:
        """Return the number of webhooks; None if counting would read records, or too many pairs."""
        if search.source is not None:
            return None
        pairs = self._node.receiver.store.pairs(search.start, search.end)
        count = sum(1 for _ in islice(pairs, _MOST_COUNTED + 1))
        return count if count <= _MOST_COUNTED else None

    def _until_stopped(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if self._node.stopping:
                return
            yield record

    def _show_one(self, name: str) -> str:
        return self._render("replay.html", name)

    def _show_live(self, name: str) -> str:
        return self._render("replay_live.html", name)

    def _render(self, template: str, name: str) -> str:
        replay = self._replays.get(name)
        status = replay.status()
        failures = status.failures[:_SHOWN_FAILURES]
        return render_template(
            template, name=name, url=replay.url, status=status, failures=failures
        )

    def _follow(self, name: str) -> Response:
        watched = self._replays.watch(name, lambda: self._node.stopping)
        self._replays.get(name)
        events = (b"data: %s\n\n" % msgspec.json.encode(status.describe()) for status in watched)
        return Response(events, content_type=EVENT_STREAM)

    def _stop(self, name: str) -> object:
        self._replays.get(name).stop()
        return go_to(f"/replays/{name}")


def _read_parallel(text: str) -> int:
    """Return the number of simultaneous requests. Raises ``BadRequest``."""
    try:
        parallel = parse_integer(text)
    except ValueError:
        parallel = 0
    if not 1 <= parallel <= _MAX_PARALLEL:
        raise BadRequest(
            f"parallel: must be an integer from 1 to {_MAX_PARALLEL} (got {text[:40]!r})"
        )
    return parallel
