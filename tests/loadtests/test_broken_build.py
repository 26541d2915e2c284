"""The build that is broken on purpose really is: the chaos run that has to fail relies on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = Path(__file__).parents[2] / "loadtests" / "broken"

#: A receiver before a store that keeps nothing: what does it tell the sender?
PROGRAM = """
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import StoreError
from portable_core.ingest.receiver import Receiver
from portable_core.records import Meta
from portable_core.settings import Settings

class FullStore(MemoryStore):
    def append(self, records, deadline=None):
        raise StoreError("the disk is full")

settings = Settings.from_env("slave", {"SYNC_AUTH": "none", "STORE": "memory:"})
try:
    Receiver(settings, FullStore(), SystemClock()).receive(b"{}", Meta())
except StoreError:
    print("refused")
else:
    print("acknowledged")
"""


@pytest.mark.parametrize(("path", "told"), [("", "refused"), (str(BROKEN), "acknowledged")])
def test_only_the_broken_build_acknowledges_what_it_does_not_keep(path: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == told
