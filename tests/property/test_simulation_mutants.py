"""A simulated history finds each rule that is removed; with the rule it is sound."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from loadtests.simulation.history import run_history
from tests.support.laws.simulation_faults import FAULTS, Fault, find, try_seed
from tests.support.laws.simulation_mutants import MUTANTS

#: How many seeds are tried when the known one has lost its fault: a history changes with the order
#: in which the core reads and writes.
_OTHERS = 150


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the nodes, which warn of every simulated accident."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_removed_rule_is_noticed(fault: Fault) -> None:
    seed = fault.seed
    violation = try_seed(fault, seed)
    if violation is None:
        finding = find(fault, range(1, _OTHERS + 1))
        assert finding is not None, f"{fault.name}: no history of {_OTHERS} shows it"
        seed, violation = finding.seed, finding.violation
    print(f"\n{fault.name}: seed {seed}: {violation}")
    run_history(seed, theme=fault.theme)


def test_every_rule_is_in_the_table() -> None:
    assert {fault.mutant for fault in FAULTS} == set(MUTANTS)
