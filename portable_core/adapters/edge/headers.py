"""Reading the headers of a request by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from portable_core.adapters.edge.request import Header


class RequestHeaders:
    """Headers with names in lower case; values have a character a byte."""

    __slots__ = ("_all", "_present")

    def __init__(self, headers: Sequence[Header], fields: Mapping[bytes, bytes]) -> None:
        """``fields`` has one value of each header by name: most look-ups find nothing."""
        self._all = headers
        self._present = fields

    def __call__(self, name: str) -> list[str]:
        """Return all values of a header, in order."""
        wanted = _encode(name)
        if wanted not in self._present:
            return []
        return [value.decode("latin-1") for given, value in self._all if given == wanted]

    def first(self, name: str) -> str | None:
        """Return the first value of a header, None if there is none."""
        if _encode(name) not in self._present:
            return None
        return self(name)[0]

    def join(self, name: str) -> str | None:
        """Return all values of a header as one list (RFC 9110, section 5.3)."""
        return ", ".join(self(name)) if _encode(name) in self._present else None


@lru_cache(maxsize=1024)
def _encode(name: str) -> bytes:
    return name.lower().encode("latin-1")
