"""Registered consumers: positions, lags, bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.errors import BadRequest, NotFound, PositionUnknown
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.webhooks.arrivals import ArrivalFeed, FeedQuery, format_position
from portable_core.webhooks.consumers import MAX_CONSUMERS, Consumers

UUID = "01234567-89ab-4cde-8f01-23456789abcd"
NOW = 1_795_000_000_000


@dataclass(slots=True)
class Rig:
    store: MemoryStore
    now: int = NOW

    def make(self) -> Consumers:
        return Consumers(self.store, lambda: self.now, lambda: self.store.open("crc32c"))

    def add(self, age_ms: int, recovered_ms: int | None = None) -> None:
        at = self.now - age_ms
        recovery = None if recovered_ms is None else Recovery("s", self.now - recovered_ms)
        self.store.append([Record(Pair(at, age_ms), b"{}", Meta(), recovery)])

    def positions(self) -> list[str]:
        items = ArrivalFeed(self.store, 1).read(FeedQuery())
        return [item.position for item in items if item.kind == "webhook"]


@pytest.fixture
def rig() -> Iterator[Rig]:
    store = MemoryStore(UUID)
    store.open("crc32c")
    yield Rig(store)
    store.close()


def test_the_lag_is_the_age_of_the_next_webhook(rig: Rig) -> None:
    rig.add(9000)
    rig.add(5000)
    rig.add(3_600_000, recovered_ms=2000)
    consumers = rig.make()
    lags = [consumers.save("shop", position).lag_ms for position in ["", *rig.positions()]]
    assert lags == [9000, 5000, 2000, 0]
    rig.now += 1000
    assert consumers.describe_one("shop").lag_ms == 0
    rig.add(0)
    rig.now += 700
    (document,) = consumers.describe()
    assert (document.name, document.lag_ms, document.saved) == ("shop", 700, NOW)


def test_now_is_the_end_of_the_feed(rig: Rig) -> None:
    rig.add(9000)
    saved = rig.make().save("shop", "now")
    assert saved.position == rig.positions()[-1] == rig.make().find_position("shop")
    assert saved.lag_ms == 0


def test_a_position_that_is_no_longer_known_is_shown(rig: Rig) -> None:
    rig.add(1)
    rig.make().save("shop", "now")
    other = MemoryStore()
    other.open("crc32c")
    other.save_consumer("shop", rig.store.consumers()["shop"])
    (document,) = Consumers(other, lambda: NOW, lambda: None).describe()
    assert document.lag_ms is None
    assert "another store" in document.error


def test_invalid_positions_and_names_are_rejected(rig: Rig) -> None:
    consumers = rig.make()
    with pytest.raises(BadRequest):
        consumers.save("shop", "x")
    with pytest.raises(PositionUnknown):
        consumers.save("shop", format_position(UUID.replace("0", "1"), "1"))
    for name in ("", "a b", "x" * 300, "\n"):
        with pytest.raises(BadRequest):
            consumers.save(name, "now")
    assert consumers.describe() == []


def test_consumers_are_deleted_and_bounded(rig: Rig) -> None:
    consumers = rig.make()
    for number in range(MAX_CONSUMERS):
        consumers.save(f"c{number}", "now")
    with pytest.raises(BadRequest, match="100 consumers"):
        consumers.save("one-more", "now")
    consumers.save("c7", "now")
    consumers.delete("c7")
    consumers.save("one-more", "now")
    for call in (consumers.delete, consumers.describe_one, consumers.find_position):
        with pytest.raises(NotFound):
            call("c7")
