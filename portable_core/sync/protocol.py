"""The names and small texts of the sync protocol, shared by both ends of a connection.

These are the paths, the query parameters, the two response headers and the document of
``GET /sync``. The bodies of ``POST /sync`` and ``POST /records`` are defined in
:mod:`portable_core.wire.negotiation`.

Everything that comes from another node is validated: ``parse_…`` and ``…_from_json`` raise
``ValueError`` with a message that says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from portable_core.documents import convert_document
from portable_core.epochs import Stint
from portable_core.ports import (
    ALL_HASHES,
    STINT_PATTERN,
    UUID_PATTERN,
    HashRange,
    SlaveInfo,
    StoreEpoch,
    SyncRequest,
)
from portable_core.records import MAX_INTEGER

SYNC_PATH = "/sync"
RECORDS_PATH = "/records"
MASTERS_PATH = "/masters"
QUARANTINE_PATH = "/quarantine"
#: Tombstones that a slave is to erase.
TOMBSTONES_PATH = "/tombstones"
LOSSES_PATH = "/losses"
SLAVES_PATH = "/slaves"
#: The master's pairs of ``start`` to ``end``, for comparisons by other programs.
PAIRS_PATH = "/pairs"

#: The query parameters of ``POST /sync``.
QUERY_START = "start"
QUERY_END = "end"
QUERY_SPAN = "span"
QUERY_HASH = "hash"
#: ``<uuid>/<generation>``: the epoch in which ``start`` was reached; a slave whose store is in
#: another epoch rejects the request.
QUERY_STORE = "store"
#: ``<id>/<ms>``: a stint of the slave's store, and a horizon that it has reported. ``GET /sync``
#: returns whether the store continues it; ``POST /sync`` is rejected if it does not.
QUERY_STINT = "stint"
QUERY_CLOCK = "clock"
#: ``1``: compare only. Without it a slave assumes that every record before ``start`` is in the
#: master, and its retention may remove them.
QUERY_COMPARE_ONLY = "compare_only"
#: The name of :data:`QUERY_COMPARE_ONLY` in older releases. A slave understands both, and a client
#: sends both: an older slave that missed this one would mistake the comparison for a sync, raise
#: its retention mark to ``start`` and remove records that are in no master.
QUERY_COMPARE_ONLY_DEPRECATED = "keep"

#: ``1``: the master recognises webhooks by their identities. Versions before 0.2 do not send it;
#: they would quarantine records whose hash is not that of the payload.
QUERY_IDENTITY = "identity"

#: Compare only hashes from ``hash_start`` on and before ``hash_end``. Only for slaves whose
#: ``GET /sync`` has ``ranges``: an older one ignores the parameters, and would return every record
#: with another hash as missing.
QUERY_HASH_START = "hash_start"
QUERY_HASH_END = "hash_end"

#: The UUID of the master's store. Masters before 0.2 do not send it, and share one retention mark.
QUERY_MASTER = "master"

#: The query parameter of ``POST /records`` and ``POST /trigger-sync``: a slave's name.
QUERY_SLAVE = "slave"

#: ``<ms>``: the response holds every missing record before this time; the cursor must not pass it.
THROUGH_HEADER = "Sync-Through"
#: ``<uuid>/<generation>``: the epoch of the store that answered.
STORE_HEADER = "Sync-Store"

_UUID = re.compile(UUID_PATTERN)
_STINT = re.compile(STINT_PATTERN)
_DIGITS = re.compile(r"[0-9]{1,16}")


def parse_integer(text: str, least: int = 0, most: int = MAX_INTEGER) -> int:
    """Return the integer of ``least`` to ``most`` that 1 to 16 decimal digits stand for.

    Raises ``ValueError`` for any other text, white space around the digits included.
    """
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"must be an integer from {least} to {most} (got {text[:40]!r})")
    return int(text)


def format_store(uuid: str, generation: int) -> str:
    """Return ``<uuid>/<generation>``. Raises ``ValueError`` if they cannot be written so."""
    text = f"{uuid}/{generation}"
    parse_store(text)
    return text


def parse_store(text: str) -> StoreEpoch:
    """Return the epoch that ``<uuid>/<generation>`` names; the inverse of :func:`format_store`."""
    uuid, slash, generation = text.partition("/")
    if not slash or not _UUID.fullmatch(uuid):
        raise ValueError(f"must be <uuid>/<generation> in lower case, not {text[:80]!r}")
    return StoreEpoch(uuid, parse_integer(generation))


def format_stint(stint: Stint) -> str:
    """Return ``<id>/<ms>``."""
    return f"{stint.id}/{stint.horizon}"


def parse_stint(text: str) -> Stint:
    """Return the stint that ``<id>/<ms>`` names; the inverse of :func:`format_stint`."""
    id_, slash, horizon = text.partition("/")
    if not slash or not _STINT.fullmatch(id_):
        raise ValueError(f"must be <id>/<ms> with 32 hexadecimal digits, not {text[:80]!r}")
    return Stint(id_, parse_integer(horizon))


def format_hashes(hashes: HashRange) -> dict[str, str]:
    """Return the parameters of a query that name a range of hashes; none for all hashes."""
    query = {}
    if hashes.start != ALL_HASHES.start:
        query[QUERY_HASH_START] = str(hashes.start)
    if hashes.end != ALL_HASHES.end:
        query[QUERY_HASH_END] = str(hashes.end)
    return query


def parse_hashes(query: Mapping[str, str]) -> HashRange:
    """Return the range of hashes that a query names; the inverse of :func:`format_hashes`.

    Raises ``ValueError`` with a message that begins with the parameter.
    """
    bounds = list(ALL_HASHES)
    for index, name in enumerate((QUERY_HASH_START, QUERY_HASH_END)):
        if name in query:
            try:
                bounds[index] = parse_integer(query[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    if bounds[0] >= bounds[1]:
        raise ValueError(
            f"{QUERY_HASH_END}: the range of hashes [{bounds[0]}, {bounds[1]}) is empty"
        )
    return HashRange(*bounds)


def parse_master(text: str) -> str:
    """Return ``text`` if it is a UUID in lower case. Raises ``ValueError``."""
    if not _UUID.fullmatch(text):
        raise ValueError(f"must be a UUID in lower case, not {text[:80]!r}")
    return text


def format_sync_query(request: SyncRequest) -> dict[str, str]:
    """Return the query of ``POST /sync``: names and decimal values."""
    query = {
        QUERY_START: str(request.start),
        QUERY_END: str(request.end),
        QUERY_SPAN: str(request.span),
        QUERY_HASH: request.algorithm,
        QUERY_IDENTITY: "1",
    }
    query.update(format_hashes(request.hashes))
    if request.master:
        query[QUERY_MASTER] = request.master
    if request.epoch is not None:
        query[QUERY_STORE] = format_store(*request.epoch)
    if request.stint is not None:
        query[QUERY_STINT] = format_stint(request.stint)
    if request.compare_only:
        query[QUERY_COMPARE_ONLY] = query[QUERY_COMPARE_ONLY_DEPRECATED] = "1"
    return query


def info_to_json(info: SlaveInfo) -> dict[str, object]:
    """Return the document of ``GET /sync`` as JSON-ready values."""
    document: dict[str, object] = msgspec.to_builtins(info)
    return document


def info_from_json(document: object) -> SlaveInfo:
    """Return what a document of ``GET /sync`` says; the inverse of :func:`info_to_json`.

    Unknown members are ignored; a missing one is an error.
    """
    return convert_document(document, SlaveInfo)
