"""A stand-in of Stripe's list of events, which knows what was delivered; localstripe does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.providers.api_server import ApiAnswer, ApiRequest, ApiServer, run_api

KEY = "rk_test_for_tests"
_JSON = {"Content-Type": "application/json"}


@dataclass
class StripeStandIn:
    """The events of one account, the oldest first. ``delivered`` has the ids of those delivered."""

    api: ApiServer = field(init=False)
    events: list[dict[str, Any]] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)

    def add(self, number: int, at_ms: int, *, delivered: bool = False, **more: object) -> bytes:
        """Note an event; return its body as an endpoint gets it."""
        event = {
            "id": f"evt_{len(self.events):08d}",
            "object": "event",
            "api_version": "2025-04-30",
            "created": at_ms // 1000,
            "data": {"object": {"id": f"cus_{number}", "object": "customer", "number": number}},
            "livemode": False,
            "pending_webhooks": 0 if delivered else 1,
            "request": {"id": None, "idempotency_key": None},
            "type": "customer.created",
            **more,
        }
        self.events.append(event)
        if delivered:
            self.delivered.add(str(event["id"]))
        return json.dumps({**event, "pending_webhooks": 3}, indent=2).encode()

    def respond(self, request: ApiRequest) -> ApiAnswer:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refuse(401, "Invalid API Key provided: rk_test_****ests")
        if request.path == "/v1/events":
            return self._list(request)
        found = [e for e in self.events if request.path == f"/v1/events/{e['id']}"]
        if not found:
            return refuse(404, "No such event")
        return ApiAnswer(200, json.dumps(found[0]).encode(), _JSON)

    def _list(self, request: ApiRequest) -> ApiAnswer:
        query = dict(request.query)
        size = int(query.pop("limit", "10"))
        start = int(query.pop("created[gte]", "0"))
        end = int(query.pop("created[lt]", "99999999999"))
        success = query.pop("delivery_success", None)
        after = query.pop("starting_after", "")
        if query or not 1 <= size <= 100:
            return refuse(400, f"Received unknown parameter: {', '.join(query)}")
        chosen = [
            event
            for event in reversed(self.events)
            if start <= event["created"] < end
            and (success is None or (event["id"] in self.delivered) == (success == "true"))
        ]
        ids = [event["id"] for event in chosen]
        first = ids.index(after) + 1 if after else 0
        document = {
            "object": "list",
            "url": "/v1/events",
            "has_more": first + size < len(chosen),
            "data": chosen[first : first + size],
        }
        return ApiAnswer(200, json.dumps(document, indent=2).encode(), _JSON)


def refuse(status: int, message: str, **headers: str) -> ApiAnswer:
    body = {"error": {"message": message, "type": "invalid_request_error"}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiAnswer(status, json.dumps(body, indent=2).encode(), {**_JSON, **named})


@contextmanager
def run_stripe() -> Iterator[StripeStandIn]:
    """A stand-in on a free port of the loopback interface."""
    stand_in = StripeStandIn()
    with run_api(stand_in.respond) as api:
        stand_in.api = api
        yield stand_in
