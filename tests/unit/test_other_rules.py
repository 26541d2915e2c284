"""A webhook is recognised although the rule of its source was changed, and only then."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.errors import SettingsError
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.plausible_clock import PlausibleClock
from portable_core.ingest.recent_keys import RecentKeys
from portable_core.ingest.rule_history import remember_rules
from portable_core.payload_hash.identity import DEFAULT_RULE, IdentityRule, make_rule
from portable_core.records import MAX_INTEGER, Meta, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.merge import RecordMerger, SyncContext
from portable_core.sync.other_rules import OtherRules
from portable_core.sync.progress import Progress

NOW = 1_000_000
WITHOUT = make_rule(without=["/attempt"])
BY_ID = make_rule(id=["body:/id"])

#: None stands for versions before 0.2, which hash the payload alone.
RULES: dict[str, IdentityRule | None] = {
    "body": None,
    "default": DEFAULT_RULE,
    "without": WITHOUT,
    "id": BY_ID,
}


def make(
    rule: IdentityRule | None, time: int, payload: bytes, headers: Mapping[str, str] | None = None
) -> Record:
    meta = Meta("s", headers or {"x-github-event": "push"})
    identifier = Identifier("crc32c", b"", {})
    if rule is None:
        hash_, meta = identifier.identify_body(payload, meta)
    else:
        hash_, meta = identifier.identify(payload, meta, rule)
    return Record(Pair(time, hash_), payload, meta)


class Master:
    """A master whose source has the rules one after the other; the last one is in force."""

    def __init__(self, *rules: IdentityRule | None, stored: tuple[Record, ...] = ()) -> None:
        self.settings = Settings.from_env("master", {"STORE": "memory:", "SYNC_AUTH": "none"})
        self.store, self.clock = MemoryStore(), SimulatedClock(NOW)
        self.store.open("crc32c")
        self.identifier = Identifier("crc32c", b"", {})
        self.store.append(stored)
        for rule in rules:
            current = {} if rule in (None, DEFAULT_RULE) else {"s": rule}
            self.identifier = Identifier("crc32c", b"", current)
            if rule is not None:
                remember_rules(self.store, self.identifier.rules)

    def sync(self, *records: Record) -> Progress:
        lease = self.store.acquire_lease("a", NOW, 60_000)
        span = self.settings.span_ms
        context = SyncContext(
            self.settings,
            self.store,
            PlausibleClock(self.clock, span),
            "crc32c",
            self.identifier,
            lease,
            lambda: True,
            lambda: False,
            OtherRules(self.store, self.identifier, span),
            RecentKeys(),
            "",
        )
        progress = Progress("alpha")
        merger = RecordMerger(context, "alpha", 0, progress)
        merger.add(records, MAX_INTEGER)
        merger.save()
        self.store.release_lease(lease)
        return progress


@pytest.mark.parametrize("after", [n for n in RULES if n != "body"])
@pytest.mark.parametrize("before", RULES)
def test_a_changed_rule_neither_quarantines_nor_doubles(before: str, after: str) -> None:
    old, new = RULES[before], RULES[after]
    payload = b'{"id":1,"attempt":1}'
    if old == new:
        return  # the comparison of pairs finds it
    # One node received it before the change and one after, in both orders.
    for stored, received in ((old, new), (new, old)):
        here = make(stored, NOW, payload)
        assert here.pair.hash != make(received, NOW, payload).pair.hash
        master = Master(old, new, stored=(here,) if stored == old else ())
        if stored != old:
            master.store.append([here])
        progress = master.sync(make(received, NOW + 5_000, payload))
        assert (progress.saved, progress.represented, progress.set_aside) == (0, 1, 0)
        assert list(master.store.pairs(0, MAX_INTEGER)) == [here.pair]


@pytest.mark.parametrize("before", RULES)
def test_another_webhook_is_stored(before: str) -> None:
    stored = make(RULES[before], NOW, b'{"id":1,"attempt":1}')
    for payload, headers in (
        (b'{"id":2,"attempt":1}', None),
        (b'{"id":1,"attempt":1}', {"x-github-event": "pull_request"}),
    ):
        master = Master(RULES[before], WITHOUT, stored=(stored,))
        progress = master.sync(make(WITHOUT, NOW + 1, payload, headers))
        assert (progress.saved, progress.set_aside) == (1, 0)


def test_too_far_away_it_is_another_delivery() -> None:
    master = Master(DEFAULT_RULE, WITHOUT, stored=(make(DEFAULT_RULE, NOW, b'{"id":1}'),))
    span = master.settings.span_ms
    assert master.sync(make(BY_ID, NOW + span + 1, b'{"id":1}')).saved == 1
    assert master.sync(make(BY_ID, NOW - span - 1, b'{"id":1}')).saved == 1


def test_of_two_that_an_old_version_takes_for_one_both_stay() -> None:
    created = make(None, NOW, b'{"id":1}', {"x-shopify-topic": "orders/create"})
    paid = make(DEFAULT_RULE, NOW + 1, b'{"id":1}', {"x-shopify-topic": "orders/paid"})
    master = Master(None, DEFAULT_RULE, stored=(created,))
    assert master.sync(paid).saved == 1


def test_a_slave_of_an_older_version_is_recognised() -> None:
    here = make(DEFAULT_RULE, NOW, b'{"id":1}')
    master = Master(DEFAULT_RULE, stored=(here,))
    assert master.sync(make(None, NOW + 1, b'{"id":1}')).represented == 1
    # One that was stored as the older version hashed it is found by a newer slave's record.
    assert master.sync(make(None, NOW + 2, b'{"id":2}')).saved == 1
    assert master.sync(make(DEFAULT_RULE, NOW + 3, b'{"id":2}')).represented == 1


@pytest.mark.parametrize(
    "forged",
    [
        Record(Pair(NOW, 7), b'{"id":1}', Meta("s", key="0" * 32)),
        Record(make(None, NOW, b'{"id":1}').pair, b'{"id":1}', Meta("s", key="0" * 32)),
        Record(Pair(NOW, 7), b'{"id":1}', Meta("s", key="0" * 32, rule='{"id":["body:/id"]}')),
        Record(Pair(NOW, 7), b'{"id":1}', Meta("s", key="0" * 32, rule="{")),
        Record(Pair(NOW, 7), b'{"id":1}', Meta("s", key="0" * 32, rule='{"id":[]}')),
        Record(make(DEFAULT_RULE, NOW, b"{}").pair, b"{}", make(WITHOUT, NOW, b"{}").meta),
    ],
)
def test_a_forged_hash_key_or_rule_is_quarantined(forged: Record) -> None:
    # The last one is not forged: the two rules agree about it.
    sound = forged.payload == b"{}"
    progress = Master(DEFAULT_RULE).sync(forged)
    assert (progress.saved, progress.set_aside) == ((1, 0) if sound else (0, 1))


def test_nothing_is_looked_up_where_rules_never_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    master = Master(DEFAULT_RULE)
    monkeypatch.setattr(OtherRules, "_compare", lambda self, wanted: pytest.fail("a look-up"))
    assert master.sync(make(DEFAULT_RULE, NOW, b'{"id":1}')).saved == 1


def test_rules_are_remembered_durably_and_wrong_ones_are_no_rules() -> None:
    master = Master(DEFAULT_RULE, WITHOUT, BY_ID)
    assert len(master.store.marks("identity-rule/")) == 2
    with pytest.raises(SettingsError):
        Settings.from_env("master", {"SYNC_AUTH": "none", "SOURCES": "s=unknown:x"})
