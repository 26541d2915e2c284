"""Count what a SQLite store does: its tests about many files assert numbers of calls, not times."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portable_core.adapters.sqlite.checker import Checker
from portable_core.adapters.sqlite.writer import Writer

_LISTING = ("os.scandir", "os.listdir")

_counting: list[Counter[str]] = []


def _count(event: str, arguments: tuple[object, ...]) -> None:
    for calls in _counting:
        if event == "sqlite3.connect":
            calls["connects"] += 1
        elif event in _LISTING:
            calls["lists"] += 1


sys.addaudithook(_count)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count databases opened (``connects``), folders listed (``lists``), calls of ``os.stat``
    (``stats``) and statements of writers, without those of the check in the background.
    """
    calls: Counter[str] = Counter()
    stat, run = os.stat, Writer._run

    def count_stat(*arguments: Any, **options: Any) -> os.stat_result:
        calls["stats"] += 1
        return stat(*arguments, **options)

    def count_statements(self: Writer, statements: Any, *rest: Any, **options: Any) -> Any:
        ready = list(statements)
        calls["statements"] += len(ready)
        return run(self, ready, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", count_stat)
        patch.setattr(Writer, "_run", count_statements)
        patch.setattr(Checker, "start", lambda self: None)
        _counting.append(calls)
        try:
            yield calls
        finally:
            _counting.remove(calls)
