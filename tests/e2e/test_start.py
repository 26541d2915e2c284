"""A container opens its store before it listens: one of another hash stops it, a silent one not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import NodeProcess, find_free_port
from tests.support.nodes.senders import ask_until_it_listens


@pytest.mark.parametrize("role", ["slave", "master"])
def test_a_node_set_to_another_algorithm_refuses_to_start(role: str, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    store.open("crc32c")
    store.close()
    ended = subprocess.run(
        [sys.executable, "-m", "portable_core", "serve", "--role", role, "--host", "127.0.0.1"],
        env={
            **os.environ,
            "STORE": f"sqlite:{tmp_path / 'store'}",
            "SYNC_AUTH": "none",
            "HASH": "blake2b",
            "HASH_KEY": "a key",
            "PORT": str(find_free_port()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert "webhook-sync: HASH: the store in " in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_store_that_does_not_answer_leaves_the_node_to_say_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = "{}:{}".format(*silent.getsockname())
        env = {"STORE": "firestore:p/d", "SYNC_AUTH": "none", "FIRESTORE_EMULATOR_HOST": host}
        node = NodeProcess("master", "master", "container", env, tmp_path / "log")
        node.start()
        try:
            assert ask_until_it_listens(f"{node.url}/health") == 503, node.read_log_end()
        finally:
            node.kill()
