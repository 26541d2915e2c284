"""What a node says of itself when it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind
from tests.support.nodes.sync_nodes import Nodes, start


@pytest.mark.parametrize("kind", ["container", "function"])
def test_a_node_open_to_everybody_warns_at_start(tmp_path: Path, kind: Kind) -> None:
    with Nodes(tmp_path) as nodes:
        shut = nodes.make_slave("shut", kind)
        opened = nodes.make_slave("opened", kind, SYNC_AUTH="none", SYNC_TOKENS="")
        start(shut, opened)
        lines = [json.loads(line) for line in opened.log.read_text().splitlines()]
        warnings = [line for line in lines if "SYNC_AUTH=none" in line["message"]]
        assert [line["severity"] for line in warnings] == ["WARNING"]
        assert "whoever can reach this node can read every webhook" in warnings[0]["message"]
        assert "SYNC_AUTH" not in shut.log.read_text()
