"""A master beside a stand-in of GitHub's log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from portable_core.node import Node
from portable_core.records import Meta, Pair, Record
from tests.support.providers.github import TOKEN, GithubStandIn, run_github
from tests.support.providers.masters import run_master

NOWHERE = "http://127.0.0.1:9/webhook/hub"
LIST = "GET /repos/acme/shop/hooks/1/deliveries"


@contextmanager
def run(options: str = "", **more: str) -> Iterator[tuple[GithubStandIn, Node]]:
    with run_github() as github:
        logs = f"log=github:acme/shop/hooks/1?source=hub&token=env:T&base={github.api.url}{options}"
        with run_master(logs, {"T": TOKEN}, SOURCES="hub=github:whsecret", **more) as node:
            yield github, node


def receive(node: Node, delivery: dict[str, object], at_ms: int) -> None:
    """Put a webhook into the store of a node, as if it had come at this time."""
    request = delivery["request"]
    assert isinstance(request, dict)
    headers = {name.lower(): text for name, text in request["headers"].items()}
    payload = json.dumps(request["payload"], separators=(",", ":")).encode()
    hash_, meta = node.receiver.identifier.identify(payload, Meta("hub", headers))
    node.receiver.open()
    node.receiver.store.append([Record(Pair(at_ms, hash_), payload, meta)])
