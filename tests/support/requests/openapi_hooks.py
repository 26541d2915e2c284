"""What schemathesis loads beside a node's description: MessagePack, and the answers' media types.

``SCHEMATHESIS_HOOKS`` names this module; nothing of it is random beyond schemathesis' own choices.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections import Counter
from typing import Any

import msgpack
import schemathesis
from hypothesis import strategies

from portable_core.records import Pair, format_sort_key
from tests.support.nodes.sync_nodes import TOKEN

MSGPACK = "application/vnd.msgpack"

_integers = strategies.integers(0, 2**53 - 1)
_records: strategies.SearchStrategy[tuple[object, ...]] = strategies.tuples(
    _integers, _integers, strategies.just({}), strategies.sampled_from([b"{}", b"[]", b"{"])
)


def pack(items: list[Any]) -> bytes:
    return b"".join(map(msgpack.packb, [*items, None]))


#: Whole streams of pairs and of records, and bytes that are neither.
schemathesis.openapi.media_type(
    MSGPACK,
    strategies.one_of(
        strategies.lists(_integers, max_size=6).map(sorted).map(pack),
        strategies.lists(_records, max_size=3).map(pack),
        strategies.binary(max_size=40),
    ),
)

schemathesis.serializer.alias("application/x-ndjson", "text/plain")


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Shorten the waits of long polling, of which a run would make a few for up to a minute."""
    wait = (query or {}).get("wait")
    if isinstance(wait, int | float) and 0.1 < wait <= 60:
        return {**(query or {}), "wait": 0.1}
    return query


def may_be_cut(context: Any) -> bool:
    """Whether an answer may end without its mark: a sync's, once it has begun to tell records."""
    label: str = context.operation.label
    return label == "POST /sync"


@schemathesis.deserializer(MSGPACK)
def unpack(context: Any, response: Any) -> list[Any]:
    """The items before the closing mark. Raises ``ValueError`` where that may not be missing."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(response.content)
    items = list(unpacker)
    if items[-1:] == [None]:
        return items[:-1]
    if not may_be_cut(context):
        raise ValueError("the closing nil is missing")
    return items


@schemathesis.deserializer("application/json")
def read_json(context: Any, response: Any) -> Any:
    """The document; of a sync's answer what was told before it was cut."""
    text: bytes = response.content
    if may_be_cut(context) and text.startswith(b"[") and not text.endswith(b"]"):
        text = text.removesuffix(b",") + b"]"
    return json.loads(text)


_asked: Counter[str] = Counter()

#: The longest wait for webhooks that do not come, in seconds.
_WAIT_S = 0.05


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Ask for each described media type of an answer in turn, but for the pages of the console."""
    described = case.operation.definition.raw["responses"].get("200", {}).get("content", {})
    kinds = [kind for kind in described if kind != "text/html"]
    if len(kinds) > 1:
        _asked[case.operation.label] += 1
        case.headers["Accept"] = kinds[_asked[case.operation.label] % len(kinds)]
    if case.operation.label == "GET /feed":
        with contextlib.suppress(TypeError, ValueError):  # an invalid one stays
            case.query["wait"] = min(float(case.query.get("wait", 1)), _WAIT_S)
    if "{item}" in case.operation.label:
        _asked[case.operation.label] += 1
        if _asked[case.operation.label] % 2:
            set_aside(case.operation.base_url)
            case.path_parameters["item"] = f"alpha-{format_sort_key(Pair(1, 1))}"


def set_aside(master: str) -> None:
    """Put a record with an invalid hash into the quarantine: another request deletes it."""
    request = urllib.request.Request(
        f"{master.rstrip('/')}/records?slave=alpha",
        data=b'[{"hash":1,"timestamp":1,"data":{}}]',
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()
