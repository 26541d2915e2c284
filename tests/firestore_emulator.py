"""A Firestore protocol server for tests, and databases on it.

The server in ``FIRESTORE_EMULATOR_HOST`` is used if that is set. Otherwise the npm package
``@firestore-emulator/server`` is started once a test run; ``npm ci --prefix tests/emulator``
installs it. Where there is none, tests are skipped, except in CI, where that is a failure.
"""

from __future__ import annotations

import atexit
import os
import uuid
from functools import cache
from typing import NoReturn

import pytest

from portable_core.demo.emulator import FirestoreEmulator
from portable_core.errors import WebhookSyncError

PROJECT = "webhook-sync-test"


@cache
def use_emulator() -> str:
    """``host:port`` of a server, which ``FIRESTORE_EMULATOR_HOST`` names from now on."""
    emulator = FirestoreEmulator()
    try:
        host = emulator.start()
    except WebhookSyncError as error:
        _give_up(str(error))
    atexit.register(emulator.stop)
    return host


def name_database() -> str:
    """The name of an empty database: emulators make one when it is first used."""
    return f"test-{uuid.uuid4().hex[:20]}"


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"no Firestore emulator: {reason}", pytrace=False)
    pytest.skip(f"no Firestore emulator: {reason}")
