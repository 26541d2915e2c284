"""The guide for two machines: its commands are accepted, its files exist, its blocks are tested.

``make guide`` runs the page (tests/e2e/test_two_machines.py).
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.support.deployment.guide import run_bash
from tests.support.deployment.pages import ROOT, TWO_MACHINES, read_page
from tests.support.nodes.proxies import read_block
from tests.unit.test_command_help import check_arguments

TEXT = TWO_MACHINES.read_text()
PAGE = read_page(TWO_MACHINES)
COMMANDS = [block for section in PAGE.values() for block in section.sh]


def test_a_slave_and_a_master_run_after_ten_commands() -> None:
    sections = ("On both machines", "On the slave", "On the master")
    text = "".join(block for name in sections for block in PAGE[name].sh).replace("\\\n", " ")
    assert len(text.splitlines()) == 10


def test_the_commands_are_accepted() -> None:
    text = "\n".join(COMMANDS).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.search(r"^(sudo )?webhook-sync [a-z]", line)]
    assert len(lines) >= 8
    for line in lines:
        check_arguments(shlex.split(line[line.index("webhook-sync ") :])[1:])


@pytest.mark.parametrize("block", COMMANDS)
def test_a_block_is_shell(block: str, tmp_path: Path) -> None:
    done = run_bash(block, tmp_path, dict(os.environ), "-n")
    assert done.returncode == 0, done.stderr


def test_the_files_exist() -> None:
    for name in re.findall(r"\bcontainers/[\w./@*-]+", "\n".join(COMMANDS)):
        assert list(ROOT.glob(name)), name
    unit = (ROOT / "containers/systemd/webhook-sync@.service").read_text()
    for fact in (
        "/opt/webhook-sync/bin/",
        "/etc/webhook-sync/%i.env",
        "StateDirectory=webhook-sync/%i",
    ):
        assert fact in unit
    for role in ("slave", "master"):
        assert f"init {role} --behind-proxy --file /etc/webhook-sync/{role}.env" in TEXT
        assert f"--store sqlite:/var/lib/webhook-sync/{role}" in TEXT


@pytest.mark.parametrize("language", ["nginx", "caddyfile"])
def test_a_proxy_with_tls_differs_from_the_tested_one_in_tls_alone(language: str) -> None:
    """The other block is that of docs/load-balancers.md."""
    own = PAGE["TLS"].blocks[language]
    own = re.sub(r"listen 443 ssl;\n( +(server_name|ssl_\w+) .*\n)+", "listen 80;\n", own)
    own = own.replace("slave.example {", ":80 {").replace("127.0.0.1:8080", "10.0.0.5:8080")
    assert own == read_block(language)


def test_prometheus_asks_the_machines_of_the_page() -> None:
    text = (ROOT / "containers/monitoring/prometheus.yml").read_text()
    assert 'targets: ["master.example:443", "slave.example:443"]' in text
    assert "credentials_file: /etc/prometheus/webhook-sync.token" in text
    assert "/etc/prometheus/webhook-sync.token" in PAGE["Alerts"].sh[0]
