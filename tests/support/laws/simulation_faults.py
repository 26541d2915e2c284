"""The table of rules taken away: which histories show it, and the search for the first that does.

``python -m tests.support.laws.simulation_faults`` searches from the first seed on and
prints the table.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import pytest

from loadtests.simulation.history import run_history
from loadtests.simulation.oracle import Violation
from tests.support.laws import simulation_mutants as mutants
from tests.support.laws.simulation_mutants import Mutant

#: How many histories may be needed until a rule's absence shows.
LIMIT = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule taken away, the theme of histories that need it, and a seed known to show it."""

    mutant: Mutant
    theme: str
    seed: int

    @property
    def name(self) -> str:
        return self.mutant.__name__


@dataclass(frozen=True, slots=True)
class Finding:
    """The history that showed a fault, and what was broken in it."""

    seed: int
    violation: Violation


FAULTS = (
    Fault(mutants.cursor_before_records, "any", 29),
    Fault(mutants.lease_per_slave, "two masters", 47),
    Fault(mutants.end_from_the_clock, "any", 4),
    Fault(mutants.truncated_request_as_whole, "any", 3),
    Fault(mutants.wrong_hash_dropped, "any", 1),
    Fault(mutants.generation_ignored, "retention", 1),
    Fault(mutants.cut_answer_as_whole, "any", 3),
    Fault(mutants.horizon_not_durable, "any", 103),
    Fault(mutants.floor_not_kept, "any", 1),
    Fault(mutants.waiting_ignored, "any", 1),
    Fault(mutants.doubt_ignored, "doubt", 34),
    Fault(mutants.span_ignored, "any", 1),
    Fault(mutants.margins_ignored, "any", 1),
    Fault(mutants.slave_horizon_ignored, "any", 16),
    Fault(mutants.lease_not_fenced, "two masters", 407),
    Fault(mutants.hand_over_without_lease, "two masters", 47),
    Fault(mutants.retention_ignores_the_master, "retention", 1),
    Fault(mutants.marks_outlive_generations, "retention", 12),
    Fault(mutants.any_epoch_is_asked, "retention", 12),
    Fault(mutants.damage_reaches_no_span_back, "any", 50),
    Fault(mutants.recent_ignored, "any", 1),
    Fault(mutants.reached_before_saved, "any", 1),
    Fault(mutants.other_writers_ignored, "several writers", 1),
)


def try_seed(fault: Fault, seed: int) -> Violation | None:
    """What the history of ``seed`` shows in a world without the rule."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            run_history(seed, fault.mutant(patch), fault.theme)
        except Violation as violation:
            return violation
    return None


def find(fault: Fault, seeds: range) -> Finding | None:
    """The first history of ``seeds`` that shows the fault."""
    for seed in seeds:
        violation = try_seed(fault, seed)
        if violation is not None:
            return Finding(seed, violation)
    return None


def main() -> None:
    """Print for every rule how many histories it took; exit 1 if one was never missed."""
    logging.disable(logging.CRITICAL)
    missed = 0
    print(f"{'rule taken away':<31}{'histories':<17}{'first seed':>10}  what broke")
    for fault in FAULTS:
        finding = find(fault, range(1, LIMIT + 1))
        if finding is None:
            missed += 1
            print(f"{fault.name:<31}{fault.theme:<17}{'-':>10}  nothing in {LIMIT}", flush=True)
        else:
            what = str(finding.violation)[:100]
            print(f"{fault.name:<31}{fault.theme:<17}{finding.seed:>10}  {what}", flush=True)
    print(f"rules taken away {len(FAULTS)}, found {len(FAULTS) - missed}, missed {missed}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
