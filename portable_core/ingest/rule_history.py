"""Under which identity rules the records of a store may have been hashed.

A record carries the rule of its hash. To find a webhook in a store whose rules have changed, a
master must also know which rules its records may be under. Marks of the store remember them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from portable_core.errors import StoreError
from portable_core.payload_hash.identity import IdentityRule, parse_rule
from portable_core.ports import Milliseconds, Store
from portable_core.records import Record

logger = logging.getLogger(__name__)

#: A mark for each rule that is not the default: this text, then source and rule as a JSON array.
RULE_MARK = "identity-rule/"

#: Records before this timestamp may be hashed by the payload alone, as versions before 0.2 did.
BODY_MARK = "identity-body"

#: Raised to 1 by the first version that identifies webhooks, once BODY_MARK is set.
FIRST_MARK = "identity"

#: How long an older version may still write to a shared store after a newer one has opened it.
_ROLLOUT_MS = 3_600_000


def remember_rules(store: Store, rules: Mapping[str, IdentityRule]) -> None:
    """Remember in the store that records are hashed under these rules from now on.

    Logs a warning if the store refuses: webhooks around a change of rules may then be stored twice.
    """
    try:
        if not store.mark(FIRST_MARK):
            last = store.last()
            if last is not None:
                store.raise_mark(BODY_MARK, last + 1 + _ROLLOUT_MS * store.shared)
            store.raise_mark(FIRST_MARK, 1)
        for source, rule in rules.items():
            store.raise_mark(RULE_MARK + json.dumps([source, rule.text]), 1)
    except StoreError as error:
        logger.warning("the identity rules in force could not be saved: %s", error)


def remember_bodies(store: Store, records: list[Record]) -> None:
    """Remember that these records, which have no key, are hashed by their payloads alone."""
    store.raise_mark(BODY_MARK, max(record.pair.timestamp for record in records) + 1)


class RuleHistory:
    """The rules that records of a store may be under."""

    def __init__(self, store: Store) -> None:
        self.body_until: Milliseconds = store.mark(BODY_MARK)
        self._rules: dict[str, list[IdentityRule]] = {}
        for name in store.marks(RULE_MARK):
            try:
                source, text = json.loads(name.removeprefix(RULE_MARK))
                self._rules.setdefault(source, []).append(parse_rule(text))
            except (ValueError, TypeError):
                logger.warning(
                    "the store remembers an identity rule that is not valid: %.200r", name
                )

    def rules(self, source: str) -> list[IdentityRule]:
        """Return the rules of a source that are not the default; none if it never had another."""
        return self._rules.get(source, [])
