"""A stand-in of Square's search of events.

Every document that it sends is validated by the models of Square's library, which are generated
from its published description.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from square.types.event import Event
from square.types.search_events_response import SearchEventsResponse

from tests.support.providers.api_server import ApiAnswer, ApiRequest, ApiServer, run_api

TOKEN = "EAAA_for_tests"
_JSON = {"Content-Type": "application/json"}


@dataclass
class SquareStandIn:
    """The events of one application, the oldest first."""

    api: ApiServer = field(init=False)
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, number: int, at_ms: int) -> bytes:
        """Note an event; return its body as a subscription gets it."""
        time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        event = {
            "merchant_id": "6SSW7HV8K2ST5",
            "location_id": "LID",
            "type": "customer.created",
            "event_id": f"event-{len(self.events):06d}",
            "created_at": time.replace("+00:00", "Z"),
            "data": {
                "type": "customer",
                "id": f"C{number}",
                "object": {"customer": {"id": f"C{number}", "number": number}},
            },
        }
        Event.model_validate(event, strict=True)
        self.events.append(event)
        return json.dumps(event, separators=(",", ":")).encode()

    def respond(self, request: ApiRequest) -> ApiAnswer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return refuse(401, "UNAUTHORIZED", "This request could not be authorized.")
        if (request.method, request.path) != ("POST", "/v2/events"):
            return refuse(404, "NOT_FOUND", "Resource not found.")
        asked = json.loads(request.body)
        created = asked["query"]["filter"]["created_at"]
        assert asked["query"]["sort"]["order"] == "ASC"
        start = int(asked.get("cursor") or 0)
        size = asked.get("limit", 100)
        # Square's times have milliseconds, the bounds none.
        chosen = [
            event
            for event in self.events
            if created["start_at"][:19] <= event["created_at"][:19] < created["end_at"][:19]
        ]
        document: dict[str, Any] = {"events": chosen[start : start + size]}
        document["metadata"] = [
            {"event_id": event["event_id"], "api_version": "2025-10-16"}
            for event in document["events"]
        ]
        if start + size < len(chosen):
            document["cursor"] = str(start + size)
        if not document["events"]:
            document = {}
        SearchEventsResponse.model_validate(document, strict=True)
        return ApiAnswer(200, json.dumps(document).encode(), _JSON)


def refuse(status: int, code: str, detail: str) -> ApiAnswer:
    errors = [{"category": "API_ERROR", "code": code, "detail": detail}]
    return ApiAnswer(status, json.dumps({"errors": errors}).encode(), _JSON)


@contextmanager
def run_square() -> Iterator[SquareStandIn]:
    """A stand-in on a free port of the loopback interface."""
    stand_in = SquareStandIn()
    with run_api(stand_in.respond) as api:
        stand_in.api = api
        yield stand_in
