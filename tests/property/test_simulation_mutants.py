"""A simulated history finds each rule that is removed; with the rule it is sound."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from loadtests.simulation.history import run_history
from tests.support.laws.removed_rules import REMOVED_RULES, RemovedRule, find, try_seed
from tests.support.laws.simulation_mutants import MUTANTS

#: How many seeds are tried when the known one has lost its rule: a history changes with the order
#: in which the core reads and writes.
_OTHERS = 150


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the nodes, which warn of every simulated accident."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("rule", REMOVED_RULES, ids=lambda rule: rule.name)
def test_a_removed_rule_is_noticed(rule: RemovedRule) -> None:
    seed = rule.seed
    violation = try_seed(rule, seed)
    if violation is None:
        finding = find(rule, range(1, _OTHERS + 1))
        assert finding is not None, f"{rule.name}: no history of {_OTHERS} shows it"
        seed, violation = finding.seed, finding.violation
    print(f"\n{rule.name}: seed {seed}: {violation}")
    run_history(seed, theme=rule.theme)


def test_every_rule_is_in_the_table() -> None:
    assert {rule.mutant for rule in REMOVED_RULES} == set(MUTANTS)
