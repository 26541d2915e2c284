"""The alerts and the dashboard: right for Prometheus, and about metrics that a node has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.missing import give_up

FOLDER = Path(__file__).parents[2] / "containers" / "monitoring"
GUIDE = FOLDER.parent / "README.md"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        give_up("no promtool: run `apt-get install prometheus`")
    return str(found)


def run(promtool: str, *arguments: str) -> str:
    done = subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def read_dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return dashboard


def list_expressions() -> list[str]:
    """Return the expressions of the dashboard, with values in place of Grafana's variables."""
    targets = [t for panel in read_dashboard()["panels"] for t in panel.get("targets", ())]
    texts = [target["expr"] for target in targets]
    return [t.replace("$__rate_interval", "5m").replace("$instance", ".*") for t in texts]


@pytest.fixture
def list_faults() -> Callable[[dict[str, Any]], list[str]]:
    if find_spec("grafana_foundation_sdk") is None:
        give_up("no grafana-foundation-sdk: run `make setup`")
    from tests.support.dashboard_schema import list_faults

    return list_faults


def test_the_dashboard_follows_the_schema_of_grafana(
    list_faults: Callable[[dict[str, Any]], list[str]],
) -> None:
    assert list_faults(read_dashboard()) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("options",), {"graphmod": "area"}, "/panels/1/options/graphmod: unknown"),
        (("options",), {"graphMode": "x"}, "/panels/1/options/graph_mode: 'x' is not a "),
        (("type",), "statt", "panel 2: 'statt' is not a type of panel"),
        (("gridPos", "w"), "6", "/panels/1/grid_pos/w: '6' is not a int"),
        (("targets", 0, "expression"), "1", "/panels/1/targets/0/expression: unknown"),
        (("fieldConfig", "defaults", "unit"), "ms2", "panel 2: 'ms2' is not a unit"),
    ],
)
def test_a_mistake_in_the_dashboard_is_found(
    list_faults: Callable[[dict[str, Any]], list[str]],
    path: tuple[str | int, ...],
    value: object,
    fault: str,
) -> None:
    dashboard = read_dashboard()
    place = dashboard["panels"][1]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    [found] = list_faults(dashboard)
    assert found.startswith(fault)


def test_the_alerts_fire_when_they_should(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", "alerts.yml")
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts.test.yml")
    alerts = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tested = set(re.findall(r"alertname: (\w+)\n", (FOLDER / "alerts.test.yml").read_text()))
    assert set(alerts) == tested
    run(promtool, "check", "config", "--syntax-only", "prometheus.yml")


def test_the_expressions_of_the_dashboard_are_valid(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(list_expressions())
    ]
    assert len(rules) > 20
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = read_dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own


def test_every_metric_of_alerts_and_dashboard_is_in_the_guide() -> None:
    documented = set(re.findall(r"`(webhook_sync_\w+)`", GUIDE.read_text()))
    documented |= {f"{name}{end}" for name in documented for end in ("_bucket", "_count", "_sum")}
    text = (FOLDER / "alerts.yml").read_text() + "\n".join(list_expressions())
    used = set(re.findall(r"(?<![:\w])webhook_sync_\w+(?!\w*:)", text))
    assert len(used) > 15
    assert used <= documented, used - documented
