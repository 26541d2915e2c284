"""The registered consumers of the arrival feed: one document each."""

from __future__ import annotations

from urllib.parse import quote

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import Fields, delete_document, write_document
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.ports import ConsumerState

_CONSUMERS = "consumers"
_FEW = 100  # documents in one request


def read_consumers(database: Database) -> dict[str, ConsumerState]:
    return {
        document.fields["key"].string_value: ConsumerState(
            document.fields["position"].string_value, document.fields["saved"].integer_value
        )
        for document in database.scan(RangeQuery(_CONSUMERS, "key"), _FEW)
    }


def save_consumer(database: Database, name: str, state: ConsumerState | None) -> None:
    path = database.name(_CONSUMERS, "c-" + quote(name, safe=""))
    if state is None:
        database.commit([delete_document(path)])
    else:
        fields: Fields = {"key": name, "position": state.position, "saved": state.saved}
        database.commit([write_document(path, fields)])
