"""schemathesis against real nodes, with the description at ``/openapi.json`` of each.

Deterministic: the same requests in every run. ``pytest -s`` shows how many were tried.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from portable_core.adapters.flask_app.openapi import DESCRIPTION_PATH, describe_surface
from portable_core.demo.processes import Kind, NodeProcess
from portable_core.problems import PROBLEM_TYPE
from tests.support.nodes.sync_nodes import TOKEN, Nodes, put_loss, put_removed, start

ROOT = Path(__file__).parents[2]

#: Without the checks that need more than a description can express: that every described request
#: is accepted (a window's end must be after its start), and that every other request is rejected (a
#: page of webhooks ignores the feed's parameters).
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


def run_schemathesis(
    folder: Path, location: str, *options: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Return a finished run, and its requests with their responses (as in a HAR file)."""
    har = folder / "requests.har"
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("st")), "run", location, *options),
            *("--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS)),
            *("--generation-deterministic", "--max-examples", "8", "--continue-on-failure"),
            *("--request-timeout", "60", "--suppress-health-check", "all", "--no-color"),
            *("--report", "har", "--report-har-path", str(har)),
        ],
        cwd=folder,  # it writes files
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.requests.openapi_hooks",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    entries = json.loads(har.read_text())["log"]["entries"] if har.exists() else []
    return done, entries


def describe_problem(entry: dict[str, Any]) -> str:
    """Return why a response of 400 or more is not a valid problem document; empty if it is."""
    answer = entry["response"]
    kind, text = answer["content"].get("mimeType"), answer["content"].get("text", "")
    if kind != PROBLEM_TYPE:
        return f"{answer['status']} as {kind}"
    document = json.loads(text)
    named = document["status"] == answer["status"] and document["title"] and document["detail"]
    return "" if named else text


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["container", pytest.param("function", marks=pytest.mark.deep)])
@pytest.mark.parametrize("name", ["slave", "master"])
def test_real_nodes_respond_as_described(tmp_path: Path, name: str, kind: Kind) -> None:
    with Nodes(tmp_path) as nodes:
        node = slave = nodes.make_slave("alpha", kind)
        if name == "master":
            node = nodes.make_master({"alpha": slave.url}, kind)
            put_loss(node)
            put_removed(node)
        start(*{slave, node})
        done, entries = run_schemathesis(tmp_path, node.url + DESCRIPTION_PATH)
        check_run(name, kind, done, entries)
        assert node.stop() == 0
        log = node.log.read_text()
        assert "Traceback" not in log
        assert "unexpected error" not in log


def check_run(
    name: Any, kind: Kind, done: subprocess.CompletedProcess[str], entries: list[dict[str, Any]]
) -> None:
    assert done.returncode == 0, done.stdout
    statuses = Counter(entry["response"]["status"] for entry in entries)
    errors = sum(count for status, count in statuses.items() if not 100 <= status < 500)
    shown = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{name} as {kind}: {len(entries)} requests tried, {errors} server errors ({shown})")
    assert errors == 0
    refused = [entry for entry in entries if entry["response"]["status"] >= 400]
    assert not [fault for fault in map(describe_problem, refused) if fault]
    # Each endpoint has responded 200, so the run has tested it.
    answered = {
        (entry["request"]["method"].lower(), find_template(name, entry["request"]["url"]))
        for entry in entries
        if entry["response"]["status"] == 200
    }
    for path, item in describe_surface(name)["paths"].items():
        if path != DESCRIPTION_PATH:  # the run was made from it
            assert {(method, path) for method in item} <= answered, path


def find_template(name: Any, url: str) -> str:
    """Return the described path of an address."""
    path = urlsplit(url).path
    templates = describe_surface(name)["paths"]
    return next((t for t in templates if re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path)), "")


def test_schemathesis_finds_a_response_that_differs(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        node = nodes.make_slave()
        start(node)
        document = read_description(node)
        document["components"]["schemas"]["Health"]["properties"]["status"]["const"] = "well"
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps(document))
        done, entries = run_schemathesis(
            tmp_path,
            str(wrong),
            "--url",
            node.url,
            "--include-path",
            "/health",
            "--phases",
            "fuzzing",
        )
    assert entries
    assert done.returncode == 1, done.stdout
    assert "violates schema" in done.stdout


def read_description(node: NodeProcess) -> Any:
    with urllib.request.urlopen(node.url + DESCRIPTION_PATH, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return json.load(answer)


def test_a_node_serves_its_description(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("alpha")
        master = nodes.make_master({"alpha": slave.url})
        start(slave, master)
        assert read_description(slave) == describe_surface("slave")
        assert read_description(master) == describe_surface("master")
