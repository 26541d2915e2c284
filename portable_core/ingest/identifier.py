"""The hash and the key of a webhook on this node: its algorithm, and the rules of its sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import structs

from portable_core.errors import MalformedPayload
from portable_core.payload_hash.algorithms import check_algorithm
from portable_core.payload_hash.canonical import hash_payload
from portable_core.payload_hash.identity import (
    DEFAULT_RULE,
    IdentityRule,
    Parts,
    compute_key,
    identify,
    parse_rule,
)
from portable_core.records import Meta, Record


class Identified(NamedTuple):
    """The hash of a webhook, and its metadata with key and rule filled in."""

    hash: int
    meta: Meta


class Identifier:
    """Identifies webhooks under the current rules, or under the rule that a record names."""

    def __init__(self, algorithm: str, key: bytes, rules: Mapping[str, IdentityRule]) -> None:
        """``rules`` holds the sources whose rule is not the default; ``key`` is the hash's."""
        self._algorithm = algorithm
        self._compute = check_algorithm(algorithm).compute
        #: The length of a hash.
        self.bits = check_algorithm(algorithm).bits
        self._key = key
        self.rules = {name: rule for name, rule in rules.items() if rule != DEFAULT_RULE}

    def rule(self, source: str) -> IdentityRule:
        """Return the current rule of a source."""
        return self.rules.get(source, DEFAULT_RULE)

    def identify(self, payload: bytes, meta: Meta, rule: IdentityRule | None = None) -> Identified:
        """Identify a webhook under ``rule``, by default the current one of its source.

        Raises ``MalformedPayload`` if the payload is not a JSON object.
        """
        rule = rule or self.rules.get(meta.source, DEFAULT_RULE)
        document = identify(rule, Parts(meta.source, meta.headers, meta.query, payload))
        key = compute_key(document)
        return Identified(
            self._compute(document, self._key),
            Meta(meta.source, meta.headers, meta.query, key, rule.text, meta.via),
        )

    def identify_body(self, payload: bytes, meta: Meta) -> Identified:
        """Identify a webhook as versions before 0.2 did: by the payload alone, without a key."""
        hash_ = hash_payload(payload, self._algorithm, self._key)
        return Identified(hash_, structs.replace(meta, key="", rule=""))

    def check(self, record: Record) -> None:
        """Return if a record has the hash and the key of its webhook under the rule it names.

        Raises ``MalformedPayload`` with what is wrong.
        """
        meta = record.meta
        if not meta.key:
            expected = self.identify_body(record.payload, meta)
        else:
            try:
                rule = parse_rule(meta.rule)
            except ValueError as error:
                raise MalformedPayload(f"its identity rule is invalid: {error}") from error
            expected = self.identify(record.payload, meta, rule)
        if expected.hash != record.pair.hash:
            raise MalformedPayload(f"its hash is {expected.hash}, not {record.pair.hash}")
        if expected.meta.key != meta.key:
            raise MalformedPayload(f"its key is {expected.meta.key}, not {meta.key[:40]}")
