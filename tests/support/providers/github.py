"""A stand-in of GitHub's log of a hook.

Every document that it sends is validated by the models that githubkit generates from GitHub's
published description.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
from githubkit_schemas.latest.models import HookDelivery, HookDeliveryItem, InstallationToken
from pydantic import BaseModel

from tests.support.providers.api_server import ApiAnswer, ApiRequest, ApiServer, run_api

TOKEN = "github_pat_for_tests"
INSTALLATION_TOKEN = "ghs_for_tests"
_JSON = {"Content-Type": "application/json; charset=utf-8"}


@dataclass
class GithubStandIn:
    """The log of one hook. ``deliveries`` are the oldest first.

    ``app_key``: the public key of an app; with it, only its installation's token is valid.
    """

    path: str
    api: ApiServer = field(init=False)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    redelivered: list[int] = field(default_factory=list)
    app_key: str = ""

    def add(
        self,
        payload: Mapping[str, object],
        at_ms: int,
        *,
        status: int = 0,
        event: str = "push",
        guid: str = "",
        redelivery: bool = False,
    ) -> dict[str, Any]:
        """Note a delivery with this result; 0 stands for no response."""
        guid = guid or str(uuid.uuid4())
        time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        number = 10_000_000_000 + len(self.deliveries)
        delivery = {
            "id": number,
            "guid": guid,
            "delivered_at": time.replace("+00:00", "Z"),
            "redelivery": redelivery,
            "duration": 0.03,
            "status": "OK" if 200 <= status < 300 else "failed to connect to host",
            "status_code": status,
            "event": event,
            "action": payload.get("action"),
            "installation_id": None,
            "repository_id": 42,
            "throttled_at": None,
            "url": "https://node.example/webhook/hub",
            "request": {"headers": make_headers(event, guid), "payload": payload},
            "response": {"headers": {}, "payload": ""},
        }
        self.deliveries.append(delivery)
        return delivery

    def deliver(
        self, url: str, payload: Mapping[str, object], at_ms: int, **more: Any
    ) -> dict[str, Any]:
        """Send a webhook, once, and note the result."""
        delivery = self.add(payload, at_ms, **more)
        status = send(url, delivery)
        delivery["status_code"] = status
        delivery["status"] = "OK" if 200 <= status < 300 else "failed"
        return delivery

    def respond(self, request: ApiRequest) -> ApiAnswer:
        if request.path.startswith("/app/installations/") and self.app_key:
            return self._make_token(request)
        valid = INSTALLATION_TOKEN if self.app_key else TOKEN
        if request.headers.get("authorization") not in (f"Bearer {valid}", f"token {valid}"):
            return refuse(401, "Bad credentials")
        if request.headers.get("user-agent") is None:
            return refuse(403, "Request forbidden by administrative rules.")
        if not request.path.startswith(self.path):
            return refuse(404, "Not Found")
        rest = request.path.removeprefix(self.path).strip("/").split("/")
        if rest == [""]:
            return self._list(request)
        found = [each for each in self.deliveries if str(each["id"]) == rest[0]]
        if not found:
            return refuse(404, "Not Found")
        if rest[1:] == ["attempts"] and request.method == "POST":
            self.redelivered.append(found[0]["id"])
            return ApiAnswer(202, b"{}", _JSON)
        body = json.dumps(found[0]).encode()
        HookDelivery.model_validate_json(body)
        return ApiAnswer(200, body, _JSON)

    def _list(self, request: ApiRequest) -> ApiAnswer:
        size = min(int(request.query.get("per_page", "30")), 100)
        cursor = request.query.get("cursor", "")
        newest = [*reversed(self.deliveries)]
        start = 0
        if cursor:
            start = [f"v1_{each['id']}" for each in newest].index(cursor)
        page = newest[start : start + size]
        left_out = ("url", "request", "response")
        items = [{k: v for k, v in each.items() if k not in left_out} for each in page]
        for item in items:
            HookDeliveryItem.model_validate(item)
        body = json.dumps(items).encode()
        etag = f'W/"{hashlib.sha256(body).hexdigest()}"'
        headers = {**_JSON, "ETag": etag}
        if request.headers.get("if-none-match") == etag:
            return ApiAnswer(304, b"", headers)
        if start + size < len(newest):
            following = f"v1_{newest[start + size]['id']}"
            url = f"{self.api.url}{self.path}?per_page={size}&cursor={following}"
            headers["Link"] = f'<{url}>; rel="next"'
        return ApiAnswer(200, body, headers)

    def _make_token(self, request: ApiRequest) -> ApiAnswer:
        try:
            token = request.headers["authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, self.app_key, algorithms=["RS256"], issuer="77")
        except jwt.InvalidTokenError as error:
            return refuse(401, f"A JSON web token could not be decoded: {error}")
        if claims["exp"] - claims["iat"] > 600:
            return refuse(401, "'Expiration time' claim ('exp') is too far in the future")
        until = datetime.now(UTC) + timedelta(hours=1)
        document = {
            "token": INSTALLATION_TOKEN,
            "expires_at": until.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "permissions": {"repository_hooks": "read"},
            "repository_selection": "selected",
        }
        return ApiAnswer(201, validate(InstallationToken, document), _JSON)


def validate(model: type[BaseModel], document: object) -> bytes:
    body = json.dumps(document).encode()
    model.model_validate_json(body)
    return body


def refuse(status: int, message: str, **headers: str) -> ApiAnswer:
    body = json.dumps({"message": message, "documentation_url": "https://docs.example"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiAnswer(status, body, {**_JSON, **named})


def make_headers(event: str, guid: str) -> dict[str, str]:
    return {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/0a1b2c3",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "1",
    }


def send(url: str, delivery: Mapping[str, Any]) -> int:
    """Send a delivery as GitHub does, and return the status; 0 without a response."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    body = json.dumps(delivery["request"]["payload"], separators=(",", ":")).encode()
    try:
        connection.request("POST", parts.path, body, delivery["request"]["headers"])
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def run_github(path: str = "/repos/acme/shop/hooks/1/deliveries") -> Iterator[GithubStandIn]:
    """A stand-in on a free port of the loopback interface."""
    github = GithubStandIn(path)
    with run_api(github.respond) as api:
        github.api = api
        yield github
