"""Any history of a hook's deliveries: what no node received is in the master once.

Deliveries fail or succeed, are repeated, reach a node late or not at all; the log is interrupted,
refuses requests, and lists in small pages. The requests do not go through a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

from hypothesis import given, note
from hypothesis import strategies as st

from portable_core.adapters.providers.connection import ApiResponse, ProviderConnection
from portable_core.errors import LogUnreachable
from portable_core.node import Node
from portable_core.ports import KeepWaiting
from portable_core.records import Meta, Pair, Record
from tests.support.providers.api_server import CLOCK, ApiRequest, ApiServer
from tests.support.providers.github import TOKEN, GithubStandIn
from tests.support.providers.masters import read, run_master, sync

MINUTE_MS = 60_000
PATH = "/repos/acme/shop/hooks/1/deliveries"


@dataclass
class World:
    """A hook, its log and a master. ``budget``: requests until the connection fails."""

    node: Node
    github: GithubStandIn
    budget: int | None = None
    requests: int = 0
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    arrived: Counter[str] = field(default_factory=Counter)

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: object, wait: KeepWaiting
    ) -> ApiResponse:
        """Answer in place of a connection."""
        wait()
        self.requests += 1
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                raise LogUnreachable("no response")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        if "per_page" in query:
            query["per_page"] = "3"
        lower = {name.lower(): value for name, value in headers.items()}
        answer = self.github.respond(ApiRequest(method, parts.path, query, lower, b""))
        date = int(parsedate_to_datetime(self.github.api.format_date()).timestamp()) * 1000
        found = {name.lower(): value for name, value in answer.headers.items()}
        return ApiResponse(answer.status, found, answer.body, date)

    def deliver(self, number: int, again: int, late: float | None) -> None:
        """Send a webhook, a new one or one that was sent before.

        ``late``: the minutes after which a node has it; None if no node gets it.
        """
        earlier = self.webhooks[again % len(self.webhooks)] if again and self.webhooks else None
        delivery = self.github.add(
            {"number": number} if earlier is None else earlier["request"]["payload"],
            CLOCK.now() - 500,
            status=200 if late == 0 else 503,
            guid="" if earlier is None else earlier["guid"],
            redelivery=earlier is not None,
        )
        if earlier is None:
            self.webhooks.append(delivery)
        if late is not None:
            self.receive(delivery, CLOCK.now() + round(late * MINUTE_MS))

    def receive(self, delivery: Mapping[str, Any], at_ms: int) -> None:
        """Store a webhook in the master as a node's; later ones come in a store's own order."""
        headers = {name.lower(): text for name, text in delivery["request"]["headers"].items()}
        payload = repr(delivery["request"]["payload"]).replace("'", '"').encode()
        hash_, meta = self.node.receiver.identifier.identify(payload, Meta("hub", headers))
        self.node.receiver.store.append([Record(Pair(at_ms, hash_), payload, meta)])
        self.arrived[meta.key] += 1


Step = tuple[Any, ...]

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("deliver"),
        st.sampled_from([0, 0, 1, 2, 3]),
        st.sampled_from([None, None, 0, 0, 0.5]),
    ),
    st.tuples(st.just("wait"), st.sampled_from([0.2, 1, 3, 30])),
    st.tuples(st.just("sync"), st.sampled_from([None, None, 0, 1, 2, 5])),
)


@given(st.lists(STEPS, max_size=40))
def test_what_no_node_received_is_in_the_master_once(steps: list[Step]) -> None:
    github = GithubStandIn(PATH)
    github.api = ApiServer(github.respond, "http://log.invalid")
    CLOCK.set(1_795_000_000_000)
    logs = "log=github:acme/shop/hooks/1?source=hub&token=env:T&base=http://log.invalid"
    with run_master(logs, {"T": TOKEN}) as node:
        node.receiver.open()
        world = World(node, github)
        with patch.object(ProviderConnection, "send", lambda _, *rest: world.send(*rest)):
            for number, step in enumerate([*steps, ("wait", 10), ("sync", None)]):
                match step:
                    case ("deliver", again, late):
                        world.deliver(number, again, late)
                    case ("wait", minutes):
                        CLOCK.sleep(minutes * 60)
                    case ("sync", budget):
                        world.budget = budget
                        known = {*list_fetched(node)}
                        report = sync(node, "log")
                        assert not report.error or budget is not None
                        assert not ({*list_fetched(node)} - known) & world.arrived.keys()
            before = world.requests
            CLOCK.sleep(180)
            assert sync(node, "log").error == ""
            assert world.requests - before <= 1
            check(world)


def list_fetched(node: Node) -> list[str]:
    """Return the keys of the records from the log."""
    return [record.meta.key for record in read(node) if record.meta.via]


def check(world: World) -> None:
    succeeded = {d["guid"] for d in world.github.deliveries if d["status_code"] == 200}
    fetched = Counter(list_fetched(world.node))
    stored = {record.meta.headers["x-github-delivery"] for record in read(world.node)}
    note(f"{len(world.github.deliveries)} deliveries, {sum(fetched.values())} fetched")
    assert all(count == 1 for count in fetched.values())
    assert {each["guid"] for each in world.webhooks} - succeeded <= stored
