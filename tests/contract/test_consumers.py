"""Registered consumers, for every store: see ``ConsumerStates`` in ``portable_core.ports``."""

from __future__ import annotations

from portable_core.ports import ConsumerState, MasterStore
from tests.support.stores.stores import ALGORITHM, Place


def test_consumers_are_saved_replaced_and_deleted(store: MasterStore) -> None:
    assert store.consumers() == {}
    store.save_consumer("shop", ConsumerState("1.a-b", 5))
    store.save_consumer("a b/ü", ConsumerState("", 2**53 - 1))
    store.save_consumer("shop", ConsumerState("1.c", 7))
    both = {"shop": ConsumerState("1.c", 7), "a b/ü": ConsumerState("", 2**53 - 1)}
    assert store.consumers() == both
    store.save_consumer("shop", None)
    store.save_consumer("shop", None)
    assert store.consumers() == {"a b/ü": both["a b/ü"]}


def test_consumers_outlive_the_process(place: Place) -> None:
    store = place.connect()
    store.open(ALGORITHM)
    store.save_consumer("shop", ConsumerState("p" * 4000, 5))
    store.close()
    store = place.connect()
    store.open(ALGORITHM)
    assert store.consumers() == {"shop": ConsumerState("p" * 4000, 5)}
    store.close()
