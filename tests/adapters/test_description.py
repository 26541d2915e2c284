"""The description of the HTTP surface against the routes, the errors, and OpenAPI 3.1 itself."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from flask import Flask

import portable_core
from portable_core import errors
from portable_core.adapters.flask_app.openapi import DESCRIPTION_PATH, describe_surface
from portable_core.ingest.receiver import name_algorithm
from portable_core.payload_hash.algorithms import ALGORITHMS
from portable_core.settings import Role, Settings
from portable_core.wiring import build_app

ROOT = Path(__file__).parents[2]
ROLES: tuple[Role, ...] = ("slave", "master")

#: The console's pages: behind its login, except for the login itself and the static files.
CONSOLE = {
    ("get", "/"),
    ("get", "/login"),
    ("post", "/login"),
    ("post", "/logout"),
    ("get", "/console/static/{filename}"),
    ("get", "/console/live"),
    ("get", "/console/events"),
    ("post", "/console/sync"),
    ("get", "/webhooks/{webhook}/payload"),
    ("get", "/webhooks/{webhook}/compare/{other}"),
    ("get", "/webhooks/{webhook}/copies"),
    ("get", "/quarantine/{item}/payload"),
    ("get", "/replays"),
    ("post", "/replays"),
    ("get", "/replays/{name}"),
    ("get", "/replays/{name}/live"),
    ("get", "/replays/{name}/events"),
    ("post", "/replays/{name}/stop"),
    ("post", "/replays/{name}/again"),
    ("get", "/dead-letters"),
    ("post", "/dead-letters"),
}


def make_app(role: Role, **env: str) -> Flask:
    settings = Settings.from_env(role, {"STORE": "memory:", "SYNC_TOKENS": "secret", **env})
    return build_app(settings)


def list_routes(app: Flask) -> set[tuple[str, str]]:
    """Return methods, and paths as OpenAPI writes them."""
    return {
        (method.lower(), re.sub(r"<(?:[^:<>]*:)?([^<>]*)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }


def list_operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


@pytest.mark.parametrize("role", ROLES)
def test_routes_and_description_agree(role: Role) -> None:
    described = {(method, path) for method, path, _ in list_operations(describe_surface(role))}
    slaves = {"SLAVES": "a=http://127.0.0.1:9"} if role == "master" else {}
    without = list_routes(make_app(role, **slaves))
    assert without - {("get", "/")} == described
    if role == "master":
        routes = list_routes(make_app(role, CONSOLE_TOKEN="x" * 16, **slaves))
        assert routes == described | CONSOLE


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_described_under_the_name_that_nodes_compare(algorithm: str) -> None:
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "HASH": algorithm, "HASH_KEY": "k"}
    schema = describe_surface("slave")["components"]["schemas"]["Algorithm"]
    name = name_algorithm(Settings.from_env("slave", env))
    assert jsonschema_rs.is_valid(schema, name)
    assert not jsonschema_rs.is_valid(schema, f"{name}-x")


@pytest.mark.parametrize("role", ROLES)
def test_the_middleware_responds_only_to_webhooks(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(role, **({"SLAVES": "a=http://127.0.0.1:9"} if role == "master" else {}))
    passed = []
    middleware: Any = app.wsgi_app
    inner = middleware._app

    def watch(environ: Any, start_response: Any) -> Any:
        passed.append((environ["REQUEST_METHOD"].lower(), environ["PATH_INFO"]))
        return inner(environ, start_response)

    monkeypatch.setattr(middleware, "_app", watch)
    operations = [
        (method, path.replace("{", "").replace("}", ""))
        for method, path, _ in list_operations(describe_surface(role))
    ]
    for method, path in operations:
        app.test_client().open(path, method=method.upper(), data=b"{}")
    answered = [operation for operation in operations if operation not in passed]
    assert answered == [("post", "/webhook"), ("post", "/webhook/source")]


@pytest.mark.parametrize("role", ROLES)
def test_the_document_is_openapi_3_1(role: Role) -> None:
    document = describe_surface(role)
    schemathesis.openapi.from_dict(document).validate()  # the schema of the OpenAPI Initiative
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        )
    names = [operation["operationId"] for _, _, operation in list_operations(document)]
    assert len(set(names)) == len(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert document["info"]["version"] == project["version"]


def test_an_invalid_document_is_found() -> None:
    document = describe_surface("slave")
    del document["paths"]["/health"]["get"]["responses"]["200"]["description"]
    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(document).validate()


def find_references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from find_references(member)
    elif isinstance(value, list):
        for member in value:
            yield from find_references(member)


@pytest.mark.parametrize("role", ROLES)
def test_every_reference_exists_and_every_part_is_used(role: Role) -> None:
    document = describe_surface(role)
    parts = {
        f"#/components/{kind}/{name}"
        for kind, named in document["components"].items()
        for name in named
        if kind != "securitySchemes"
    }
    assert set(find_references(document)) == parts


def list_errors(kind: type[errors.WebhookSyncError]) -> Iterator[type[errors.WebhookSyncError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from list_errors(below)


def test_exactly_the_statuses_of_errors_are_described() -> None:
    described = {
        int(status)
        for role in ROLES
        for _, _, operation in list_operations(describe_surface(role))
        for status in operation["responses"]
        if int(status) >= 400
    }
    assert described == {kind.status for kind in list_errors(errors.WebhookSyncError)}


@pytest.mark.parametrize("role", ROLES)
def test_operations_describe_the_statuses_of_any_request(role: Role) -> None:
    """Those that need credentials describe 401 and 403 too."""
    for method, path, operation in list_operations(describe_surface(role)):
        statuses = set(operation["responses"])
        assert {"200", "400", "500"} <= statuses, (method, path)
        if operation.get("security") != []:
            assert {"401", "403", "503"} <= statuses, (method, path)


def test_the_package_ships_every_file_that_is_not_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = Path(portable_core.__file__).parent
    shipped = {
        file
        for pattern in project["tool"]["setuptools"]["package-data"]["portable_core"]
        for file in package.glob(pattern)
    }
    files = {
        file for file in package.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert files <= shipped
    assert any(file.match("openapi/*.json") for file in files)


def test_the_description_needs_no_credentials() -> None:
    answer = make_app("slave").test_client().get(DESCRIPTION_PATH)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == describe_surface("slave")
