"""``GET /feed`` over the web application: forms of the response, parameters, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from portable_core.settings import Settings
from portable_core.wiring import build_app

EVENTS = "text/event-stream"


@pytest.fixture(params=["memory:", "sqlite:{}"])
def master(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    env = {"STORE": request.param.format(tmp_path / "store"), "SYNC_TOKENS": "t"}
    return Client(build_app(Settings.from_env("master", {**env, "SLAVES": "a=http://127.0.0.1:1"})))


def get(master: Client, query: str = "", accept: str = "", **headers: str) -> TestResponse:
    if accept:
        headers["Accept"] = accept
    return master.get(f"/feed{query}", headers={"Authorization": "Bearer t", **headers})


def read(master: Client, query: str = "") -> list[dict[str, Any]]:
    response = get(master, query)
    assert response.status_code == 200, response.text
    assert response.content_type == "application/x-ndjson"
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


def send(master: Client, number: int, source: str = "") -> str:
    path = f"/webhook/{source}" if source else "/webhook"
    response = master.post(path, json={"n": number})
    assert response.status_code == 200
    pair = json.loads(response.text)
    return f"{pair['timestamp']}-{pair['hash']}"


def test_webhooks_come_as_lines_in_order(master: Client) -> None:
    ids = [send(master, number) for number in range(5)]
    lines = read(master)
    assert [line.get("id") for line in lines] == [*ids, None]
    assert [line["data"] for line in lines[:-1]] == [{"n": number} for number in range(5)]
    assert lines[-1] == {"end": True, "position": lines[-2]["position"]}
    assert read(master, f"?after={lines[2]['position']}") == lines[3:]
    assert len(read(master, "?limit=2")) == 3


def test_parameters_choose_webhooks(master: Client) -> None:
    send(master, 1, "a")
    send(master, 2)
    assert [line["source"] for line in read(master, "?source=a")[:-1]] == ["a"]
    assert [line["source"] for line in read(master, "?source=-")[:-1]] == [""]
    assert read(master, "?event=push")[:-1] == []
    assert read(master, "?after=now")[:-1] == []
    assert "raw" in read(master, "?raw=1")[0]


def test_events_have_ids_to_continue_from(master: Client) -> None:
    ids = [send(master, number) for number in range(3)]
    response = get(master, "?wait=0", EVENTS)
    assert response.content_type.startswith(EVENTS)
    assert response.headers["Cache-Control"] == "no-cache"
    blocks = [block.splitlines() for block in response.text.split("\n\n")]
    events = [dict(line.split(": ", 1) for line in block) for block in blocks if block]
    assert events[0] == {"retry": "100"}
    assert [json.loads(event["data"]).get("id") for event in events[1:]] == [*ids, None]
    assert events[-1]["event"] == "end"
    assert all(json.loads(event["data"])["position"] == event["id"] for event in events[1:])
    rest = get(master, "?wait=0&after=now", EVENTS, **{"Last-Event-ID": events[2]["id"]}).text
    assert rest.count("data: ") == 2
    assert ids[2] in rest


@pytest.mark.parametrize(
    "query",
    ["?after=x", "?wait=-1", "?wait=61", "?wait=x", "?wait=nan", "?limit=0", "?limit=x"],
)
def test_invalid_parameters_are_rejected(master: Client, query: str) -> None:
    response = get(master, query)
    assert response.status_code == 400
    assert json.loads(response.text)["detail"].startswith(query[1:].split("=")[0])


def test_a_position_of_another_store_is_a_conflict(master: Client) -> None:
    send(master, 1)
    response = get(master, f"?after=1.{'0' * 32}.1")
    assert response.status_code == 409
    problem = json.loads(response.text)
    assert problem["type"] == "urn:webhook-sync:position-unknown"
    assert len(read(master, f"?after={problem['resume']}")) == 2


def test_a_position_of_another_history_names_one_to_resume_from(tmp_path: Path) -> None:
    env = {"STORE": f"sqlite:{tmp_path / 'store'}", "SYNC_TOKENS": "t"}
    master = Client(build_app(Settings.from_env("master", env)))
    ids = [send(master, number) for number in range(3)]
    version, uuid, place = read(master)[-1]["position"].split(".")
    number, _, stretch = place.partition("-")
    other = f"{version}.{uuid}.{int(number, 16) + 5:x}-{'0' * 8}{stretch[8:]}-{stretch}"
    for response in (
        get(master, f"?after={other}"),
        call(master, "PUT", "/consumers/shop", {"position": other}),
    ):
        assert response.status_code == 409
        resume = json.loads(response.text)["resume"]
        assert [line.get("id") for line in read(master, f"?after={resume}")] == [*ids, None]
        assert call(master, "PUT", "/consumers/shop", {"position": resume}).status_code == 200


def test_a_token_is_required(master: Client) -> None:
    assert master.get("/feed").status_code == 401


# -- registered consumers --------------------------------------------------------------------------


def call(master: Client, method: str, path: str, body: object = None) -> TestResponse:
    headers = {"Authorization": "Bearer t"}
    data = None if body is None else json.dumps(body)
    return master.open(path, method=method, headers=headers, data=data)


def test_a_consumer_is_registered_watched_and_deleted(master: Client) -> None:
    ids = [send(master, number) for number in range(3)]
    position = read(master, "?limit=1")[0]["position"]
    saved = json.loads(call(master, "PUT", "/consumers/shop", {"position": position}).text)
    assert saved.items() >= {"name": "shop", "position": position, "error": ""}.items()
    assert saved["lag_ms"] >= 0
    assert json.loads(call(master, "GET", "/consumers/shop").text)["position"] == position
    listed = json.loads(call(master, "GET", "/consumers").text)["consumers"]
    assert [one["name"] for one in listed] == ["shop"]
    assert [line.get("id") for line in read(master, "?consumer=shop")] == [*ids[1:], None]
    assert read(master, "?consumer=shop&after=now")[:-1] == []
    status = json.loads(call(master, "GET", "/status").text)
    assert [one["name"] for one in status["consumers"]] == ["shop"]
    metrics = call(master, "GET", "/metrics").text
    assert 'webhook_sync_consumer_lag_seconds{consumer="shop"} 0.' in metrics
    assert call(master, "DELETE", "/consumers/shop").status_code == 200
    assert call(master, "DELETE", "/consumers/shop").status_code == 404
    assert call(master, "GET", "/feed?consumer=shop").status_code == 404


@pytest.mark.parametrize("body", [{}, {"position": 1}, [], {"position": "x"}, "x" * 20_000])
def test_invalid_positions_of_consumers_are_rejected(master: Client, body: object) -> None:
    assert call(master, "PUT", "/consumers/shop", body).status_code == 400
    assert json.loads(call(master, "GET", "/consumers").text) == {"consumers": []}
