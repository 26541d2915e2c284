"""The event and the ids of webhooks, by the presets of their sources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from portable_core.records import Meta, Pair, Record
from portable_core.sources.kept_headers import KeptParts
from portable_core.sources.presets import PRESETS
from portable_core.webhooks.names import Names

NAMES = Names({name: preset.row for name, preset in PRESETS.items()})
FORM = {"content-type": "application/x-www-form-urlencoded"}

Kept = dict[str, str]

#: By preset: kept headers, body, event, and an id.
EXAMPLES: list[tuple[str, Kept, Any, str, str]] = [
    ("github", {"x-github-event": "push", "x-github-delivery": "d1"}, {}, "push", "d1"),
    ("stripe", {}, {"id": "evt_1", "type": "invoice.paid"}, "invoice.paid", "evt_1"),
    ("slack", {}, {"event_id": "E1", "event": {"type": "message"}}, "message", "E1"),
    ("slack", {}, {"type": "app_rate_limited"}, "app_rate_limited", ""),
    ("sendgrid", {}, [{"event": "open", "sg_event_id": "s1"}], "open", "s1"),
    ("twilio", FORM, "MessageStatus=sent&MessageSid=SM1", "sent", "SM1"),
    ("hubspot", {}, [{"subscriptionType": "deal.creation", "eventId": 7}], "deal.creation", "7"),
    ("telegram", {}, {"update_id": 12}, "", "12"),
    ("cloudevents", {"ce-type": "sold", "ce-id": "c1"}, {}, "sold", "c1"),
    ("cloudevents", {}, {"type": "sold", "id": "c1"}, "sold", "c1"),
    ("unknown", {"x-gitlab-event": "Push Hook", "webhook-id": "m1"}, {}, "Push Hook", "m1"),
    ("stripe", {}, {"type": ["no text"], "id": None}, "", ""),
    ("stripe", {}, {"type": "x" * 600}, "", ""),
    ("stripe", {}, "no JSON", "", ""),
]


@pytest.mark.parametrize(("source", "headers", "body", "event", "id_"), EXAMPLES)
def test_examples(source: str, headers: Kept, body: Any, event: str, id_: str) -> None:
    payload = body if isinstance(body, str) else json.dumps(body)
    record = Record(Pair(1, 2), payload.encode(), Meta(source, headers))
    assert NAMES.event(record) == event
    assert id_ in (NAMES.ids(record) or [""])
    assert NAMES.both(record) == (NAMES.event(record), NAMES.ids(record))


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
    """Those that do not: the sender chooses, or the name of a member says what happened."""
    assert sorted(name for name, preset in PRESETS.items() if not preset.row.event) == [
        "airtable",
        "basic",
        "bearer",
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
