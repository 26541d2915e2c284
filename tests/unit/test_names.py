"""The event and the ids of webhooks, by the presets of their sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudevents.http
import pytest
import stripe
from functions_framework import event_conversion
from googleapiclient.channel import Channel, notification_from_headers
from square.types.payment_created_event import PaymentCreatedEvent
from werkzeug.wrappers import Request

from portable_core.records import Meta, Pair, Record
from portable_core.sources.kept_headers import KeptParts
from portable_core.sources.presets import PRESETS
from portable_core.sources.request import SourceRequest
from portable_core.webhooks.names import Names

NAMES = Names({name: preset.row for name, preset in PRESETS.items()})
VECTORS = Path(__file__).parents[1] / "vectors" / "names.json"

#: By preset: webhooks of the structure that the sources of its columns describe: kept headers,
#: body, event, ids.
EXAMPLES: dict[str, list[dict[str, Any]]] = json.loads(VECTORS.read_text())

#: Source, body, event, ids.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    (
        "unknown",
        {
            "headers": {"x-gitlab-event": "Push Hook", "webhook-id": "m1"},
            "event": "Push Hook",
            "ids": ["m1"],
        },
    ),
    ("bitbucket", {"headers": {"x-event-key": "repo:push"}, "event": "repo:push"}),
    ("jira", {"headers": {"x-atlassian-webhook-identifier": "j1"}, "ids": ["j1"]}),
    ("stripe", {"body": {"type": ["no text"], "id": None}}),
    ("stripe", {"body": {"type": "x" * 600}}),
    ("stripe", {"body": "no JSON"}),
]


def payload(example: dict[str, Any]) -> bytes:
    body = example.get("body", {})
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def listed() -> list[tuple[str, dict[str, Any]]]:
    return [(name, example) for name, examples in EXAMPLES.items() for example in examples]


@pytest.mark.parametrize(("source", "example"), listed() + OTHERS)
def test_examples(source: str, example: dict[str, Any]) -> None:
    record = Record(Pair(1, 2), payload(example), Meta(source, example.get("headers", {})))
    assert NAMES.event(record) == example.get("event", "")
    assert set(example.get("ids", [])) <= set(NAMES.ids(record))
    assert NAMES.both(record) == (NAMES.event(record), NAMES.ids(record))


def read(example: dict[str, Any]) -> SourceRequest:
    headers = example.get("headers", {})
    return SourceRequest(
        lambda name: [headers[name.lower()]] if name.lower() in headers else [], payload(example)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_is_in_an_example(name: str) -> None:
    row = PRESETS[name].row
    examples = EXAMPLES.get(name, [])
    assert bool(examples) == bool(row.event or row.id)
    events = {example["event"] for example in examples if "event" in example}
    ids = {text for example in examples for text in example.get("ids", [])}
    for values, expected in ((row.event, events), (row.id, ids)):
        for value in values:
            found = {text for example in examples for text in value.read_all(read(example))}
            assert found & expected, f"no example has {value}"


def ask_stripe(headers: dict[str, str], body: Any) -> tuple[str, str]:
    event = stripe.Event.construct_from(body, "key")
    return event.type, event.id


def ask_square(headers: dict[str, str], body: Any) -> tuple[str | None, str | None]:
    event = PaymentCreatedEvent.model_validate(body)
    return event.type, event.event_id


def ask_cloudevents(headers: dict[str, str], body: Any) -> tuple[str, str]:
    event = cloudevents.http.from_http(headers, json.dumps(body))
    return event["type"], event["id"]


def ask_google(headers: dict[str, str], body: Any) -> tuple[str, str]:
    channel = Channel("web_hook", headers["x-goog-channel-id"], "", "https://example.com")
    notification = notification_from_headers(channel, headers)
    return notification.state, str(notification.message_number)


def ask_functions_framework(headers: dict[str, str], body: Any) -> tuple[str, str]:
    request = Request.from_values(method="POST", json=body)
    marshal: Callable[[Request], Any] = event_conversion.marshal_background_event_data
    return "", marshal(request)["context"]["eventId"]


#: Providers' own libraries, which read the event and the id of a webhook.
LIBRARIES: dict[str, Callable[[dict[str, str], Any], tuple[str | None, str | None]]] = {
    "stripe": ask_stripe,
    "square": ask_square,
    "cloudevents": ask_cloudevents,
    "google-push": ask_google,
    "pubsub": ask_functions_framework,
    "pubsub-oidc": ask_functions_framework,
}


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, example in listed() if name in LIBRARIES]
)
def test_the_library_of_a_provider_reads_the_same(name: str, example: dict[str, Any]) -> None:
    event, id_ = LIBRARIES[name](example.get("headers", {}), example["body"])
    record = Record(Pair(1, 2), payload(example), Meta(name, example.get("headers", {})))
    assert NAMES.event(record) == event
    assert id_ in NAMES.ids(record)


def test_what_describes_or_signs_a_webhook_is_no_id() -> None:
    headers = {
        "content-type": "application/json",
        "user-agent": "a",
        "x-hub-signature-256": "b",
        "webhook-timestamp": "c",
        "x-shopify-hmac-sha256": "d",
        "x-airtable-content-mac": "e",
    }
    assert NAMES.ids(Record(Pair(1, 2), b"{}", Meta("", headers))) == []


@pytest.mark.parametrize("name", PRESETS)
def test_the_headers_that_a_preset_names_are_kept(name: str) -> None:
    row = PRESETS[name].row
    named = {value.name.lower() for value in (*row.event, *row.id) if value.place == "header"}
    is_kept = KeptParts((), (), {name: row}).headers(name)
    assert all(map(is_kept, named))
    assert NAMES.text == Names({name: preset.row for name, preset in PRESETS.items()}).text


def test_most_presets_know_the_event() -> None:
    """Those that do not: the sender chooses, the name of a member says what happened, or nothing
    of the provider proves where the event is."""
    assert sorted(name for name, preset in PRESETS.items() if not preset.row.event) == [
        "airtable",
        "basic",
        "bearer",
        "bitbucket",
        "datadog",
        "dropbox",
        "hmac-sha256",
        "mandrill",
        "messagebird",
        "pubsub",
        "pubsub-oidc",
        "qstash",
        "salesforce",
        "telegram",
        "token",
        "x",
    ]
