"""The same conditions for every test run: inherited signals, order of files, garbage collection."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator

import pytest

#: Files with long fixtures or tests, then the folder with the most of them: with these at the
#: beginning, no process works alone at the end.
_FIRST = ("test_containers.py", "test_buildpack.py", "test_locust.py", "test_kill.py", "e2e")


def _do_nothing(number: int, frame: object) -> None:
    """Stand for an ignored signal: unlike one, a handler is not passed on to children."""


# `nohup make test &` starts pytest with these ignored, and its children would ignore them as well.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _do_nothing)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are imported; later, leave out what was imported."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave the order within files as it is."""
    items.sort(key=lambda item: _find_rank(item.path.parts[-2:]))


def _find_rank(folder_and_file: tuple[str, ...]) -> int:
    return min((_FIRST.index(part) for part in folder_and_file if part in _FIRST), default=99)
