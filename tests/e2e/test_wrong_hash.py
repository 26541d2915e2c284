"""A store of another hash algorithm: the container does not start, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.processes import find_free_port


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
