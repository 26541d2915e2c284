"""One sound request for every endpoint, from the description's examples; logins to the console."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from portable_core.adapters.flask_app.openapi import describe_surface
from portable_core.demo.processes import NodeProcess
from portable_core.settings import Role
from tests.support.requests.raw_http import list_cookies

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """``label`` is its row's name. ``is_open``: its description asks for no credentials."""

    label: str
    method: str
    path: str
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...]

    @property
    def shown(self) -> str:
        """As the table shows it."""
        to_login = self.headers.get("location", "").startswith("/login")
        return f"{self.status} to /login" if to_login else str(self.status)


def ask(node: NodeProcess, question: Question, more: Headers | None = None) -> Reply:
    """Ask with ``more`` headers and read the whole answer; no redirect is followed."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    headers = {**question.headers, **(more or {})}
    connection.request(question.method, question.path, question.body, headers)
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    reply = Reply(answer.status, named, answer.read(), list_cookies(answer))
    connection.close()
    return reply


def list_described(role: Role, names: Mapping[str, str]) -> Iterator[Question]:
    """A request for each operation; ``names`` are values for its path beside the examples."""
    document = describe_surface(role)

    def follow(part: dict[str, Any]) -> dict[str, Any]:
        """The part, or what it refers to: ``#/components/<kind>/<name>``."""
        reference = part.get("$ref")
        if reference is None:
            return part
        kind, name = reference.split("/")[2:]
        found: dict[str, Any] = document["components"][kind][name]
        return found

    for path, item in document["paths"].items():
        for method, operation in item.items():
            query, filled = {}, path
            for parameter in map(follow, operation.get("parameters", ())):
                name = parameter["name"]
                if parameter["in"] == "path":
                    filled = filled.replace(
                        f"{{{name}}}", names.get(name, parameter.get("example"))
                    )
                elif "example" in parameter:
                    query[name] = parameter["example"]
            kinds = follow(operation.get("requestBody", {})).get("content", {})
            sent = kinds.get("application/json")
            yield Question(
                f"{method.upper()} {path}",
                method.upper(),
                filled + (f"?{urlencode(query)}" if query else ""),
                {} if sent is None else {"Content-Type": "application/json"},
                b"" if sent is None else json.dumps(sent["example"]).encode(),
                operation.get("security") == [],
            )


class Login:
    """A visit to a master's console: its cookie and the text that its forms carry."""

    def __init__(self, node: NodeProcess, token: str = "") -> None:
        """A visitor who logs in with ``token``, or does not."""
        self._node = node
        self.cookie = self.csrf = ""
        self._take(ask(node, Question("", "GET", "/login")))
        if token:
            reply = ask(node, self.fill("/login", {"token": token}), self.headers)
            assert reply.status == 303, reply
            self._take(reply)
            self._take(ask(node, Question("", "GET", "/"), self.headers))

    def _take(self, reply: Reply) -> None:
        self.cookie = (self.cookie, *reply.cookies)[-1]
        if found := re.search(rb'name="csrf" value="([^"]+)"', reply.body):
            self.csrf = found[1].decode()

    @property
    def headers(self) -> Headers:
        return {"Cookie": self.cookie, "X-CSRF-Token": self.csrf}

    def fill(self, path: str, form: Mapping[str, str]) -> Question:
        """The console's form at ``path``."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return Question(f"POST {path}", "POST", path, kind, urlencode(form).encode())
