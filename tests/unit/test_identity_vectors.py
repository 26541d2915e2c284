"""Identity documents, hashes and keys of published vectors, for nodes in any language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portable_core.payload_hash.algorithms import check_algorithm
from portable_core.payload_hash.identity import Parts, compute_key, identify, make_rule

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "identity" / "documents.json").read_text()
)
REFUSED = json.loads(
    (Path(__file__).parents[1] / "vectors" / "identity" / "rules.json").read_text()
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_document_hash_and_key(vector: dict[str, Any]) -> None:
    rule = make_rule(**vector.get("rule", {}))
    parts = Parts(
        vector.get("source", ""),
        vector.get("headers", {}),
        vector.get("query", ""),
        vector["payload"].encode(),
    )
    document = identify(rule, parts)
    assert document.decode() == vector["document"]
    assert check_algorithm("crc32c").compute(document, b"") == vector["crc32c"]
    assert compute_key(document) == vector["key"]


@pytest.mark.parametrize("vector", REFUSED, ids=lambda vector: vector["error"])
def test_a_wrong_rule_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=vector["error"]):
        make_rule(**vector["rule"])
