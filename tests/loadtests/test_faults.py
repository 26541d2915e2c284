"""Plans of accidents: repeatable, and one fault a node at a time."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.faults import KINDS, make_plan


def test_a_seed_is_a_plan() -> None:
    assert make_plan(1, 42, 130) == make_plan(1, 42, 130)
    assert make_plan(1, 42, 130) != make_plan(2, 42, 130)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_every_kind_and_one_fault_a_node_at_a_time(seed: int) -> None:
    plan = make_plan(seed, 42, 130)
    assert Counter(fault.kind for fault in plan) == dict.fromkeys(KINDS, 3)
    assert len(plan) >= 30
    for fault in plan:
        assert fault.target in KINDS[fault.kind].targets
        low, high = KINDS[fault.kind].amount
        assert low <= fault.amount <= high
    free: dict[str, float] = {}
    for fault in plan:
        assert fault.at >= free.get(fault.target, 0)
        free[fault.target] = fault.at + fault.seconds
