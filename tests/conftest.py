"""What holds for every test: how its process was started does not matter."""

from __future__ import annotations

import signal


def _do_nothing(number: int, frame: object) -> None:
    """Stand for an ignored signal: unlike one, a handler is not passed on to children."""


# `nohup make test &` starts pytest with these ignored, and its children would ignore them as well.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _do_nothing)
