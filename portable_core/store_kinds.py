"""The kinds of store that ``STORE`` can name, with their capabilities: one row a kind.

:mod:`portable_core.wiring` has one builder a kind. Nothing compares names of kinds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreKind:
    """``form`` is how ``STORE`` names such a store, ``path`` the pattern of its part after ``:``.

    ``shared``: other processes may append to the same store at the same time (:attr:`.Store.shared`
    of the adapter is the same). ``outlives_process``: its records survive the end of the process.
    ``outlives_instance``: its records survive the end of an instance
    whose file system is in memory. ``default_linger_ms``: the default of ``LINGER_MS``; 0 where a
    commit takes long enough for a batch to form by itself. ``erases``: whether it can erase single
    records (:class:`portable_core.ports.Erasing`).
    """

    name: str
    form: str
    path: re.Pattern[str]
    shared: bool
    outlives_process: bool
    outlives_instance: bool
    default_linger_ms: int
    erases: bool = True


STORE_KINDS: Mapping[str, StoreKind] = {
    kind.name: kind
    for kind in (
        StoreKind("memory", "memory:", re.compile(""), False, False, False, 0),
        StoreKind("sqlite", "sqlite:PATH", re.compile(".+", re.DOTALL), False, True, False, 0),
        StoreKind(
            "firestore",
            "firestore:PROJECT/DATABASE",
            re.compile(r"[^/\s]+/[^/\s]+"),
            shared=True,
            outlives_process=True,
            outlives_instance=True,
            default_linger_ms=750,  # each commit costs money: docs/firestore.md, "Cost"
        ),
    )
}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A value of ``STORE``, taken apart."""

    kind: StoreKind
    path: str = ""


def parse_store(text: str) -> StoreAddress:
    """Return the store that ``text`` names. Raises ``ValueError``."""
    name, colon, path = text.partition(":")
    if not path.isprintable():  # reports and answers name the store
        raise ValueError(
            f"contains non-printable characters or bytes that are not UTF-8 (got {text!r})"
        )
    kind = STORE_KINDS.get(name)
    if kind is None or not colon or not kind.path.fullmatch(path):
        forms = [kind.form for kind in STORE_KINDS.values()]
        raise ValueError(f"must be {', '.join(forms[:-1])} or {forms[-1]} (got {text!r})")
    return StoreAddress(kind, path)
