"""A registered consumer of the arrival feed, in the documents of a master."""

from __future__ import annotations

import msgspec

from portable_core.ports import Milliseconds
from portable_core.records import Integer


class ConsumerDocument(msgspec.Struct, frozen=True):
    """A registered consumer of the arrival feed.

    - ``saved``: when the position was saved.
    - ``lag_ms``: for how long the first webhook after the position has been in the master; 0
      without one, null if this store did not give out the position.
    - ``error``: why the lag is unknown.
    - ``missed``: retention has removed records before this time that the consumer has not got; null
      if it has not.
    """

    name: str
    position: str
    saved: Milliseconds
    lag_ms: Integer | None = None
    error: str = ""
    missed: Milliseconds | None = None
