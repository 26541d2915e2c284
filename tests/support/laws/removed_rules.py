"""The table of rules taken away: which histories show it, and the search for the first that does.

``python -m tests.support.laws.removed_rules`` searches from the first seed on and
prints the table.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import pytest

from loadtests.simulation.history import run_history
from loadtests.simulation.oracle import Violation
from tests.support.laws import clock_mutants as clocks
from tests.support.laws import simulation_mutants as mutants
from tests.support.laws import stint_mutants as stints
from tests.support.laws.clock_mutants import Mutant

#: How many histories may be needed until a rule's absence shows.
LIMIT = 500


@dataclass(frozen=True, slots=True)
class RemovedRule:
    """A rule taken away, the theme of histories that need it, and a seed known to show it."""

    mutant: Mutant
    theme: str
    seed: int

    @property
    def name(self) -> str:
        return self.mutant.__name__


@dataclass(frozen=True, slots=True)
class Finding:
    """The history that showed that a rule is missing, and what broke in it."""

    seed: int
    violation: Violation


REMOVED_RULES = (
    RemovedRule(mutants.cursor_before_records, "any", 18),
    RemovedRule(mutants.lease_per_slave, "two masters", 72),
    RemovedRule(mutants.end_from_the_clock, "any", 30),
    RemovedRule(mutants.truncated_request_as_whole, "any", 3),
    RemovedRule(mutants.wrong_hash_dropped, "any", 35),
    RemovedRule(mutants.generation_ignored, "retention", 1),
    RemovedRule(mutants.cut_answer_as_whole, "any", 16),
    RemovedRule(mutants.horizon_not_durable, "any", 31),
    RemovedRule(mutants.floor_not_kept, "any", 59),
    RemovedRule(mutants.waiting_ignored, "any", 1),
    RemovedRule(mutants.doubt_ignored, "doubt", 26),
    RemovedRule(mutants.span_ignored, "any", 1),
    RemovedRule(mutants.margins_ignored, "any", 2),
    RemovedRule(mutants.slave_horizon_ignored, "any", 1),
    RemovedRule(mutants.parts_moved_past_at_once, "any", 1),
    RemovedRule(mutants.parts_outlive_losses, "parts", 35),
    RemovedRule(mutants.lease_not_fenced, "two masters", 93),
    RemovedRule(mutants.hand_over_without_lease, "two masters", 14),
    RemovedRule(mutants.retention_ignores_the_master, "retention", 1),
    RemovedRule(mutants.marks_outlive_generations, "retention", 65),
    RemovedRule(mutants.any_epoch_is_asked, "retention", 140),
    RemovedRule(stints.stints_ignored, "restored disks", 4),
    RemovedRule(stints.stints_without_horizons, "restored disks", 6),
    RemovedRule(stints.any_stint_is_asked, "restored disks", 87),
    RemovedRule(stints.losses_not_noted, "restored disks", 4),
    RemovedRule(stints.stint_per_disk, "restored disks", 6),
    RemovedRule(mutants.damage_reaches_no_span_back, "any", 307),
    RemovedRule(mutants.recent_ignored, "any", 2),
    RemovedRule(mutants.reached_before_saved, "any", 1),
    RemovedRule(mutants.other_writers_ignored, "several writers", 51),
    RemovedRule(clocks.any_date_is_used, "clocks", 1),
    RemovedRule(clocks.repeats_never_collapse, "clocks", 1),
    RemovedRule(clocks.leases_outlive_processes, "clocks", 1),
    RemovedRule(clocks.repair_keeps_the_horizon, "clocks", 1),
    RemovedRule(clocks.repair_begins_no_generation, "clocks", 2),
    RemovedRule(clocks.repair_removes_first, "clocks", 10),
)


def try_seed(rule: RemovedRule, seed: int) -> Violation | None:
    """Return what breaks in the history of ``seed`` without the rule."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            run_history(seed, rule.mutant(patch), rule.theme)
        except Violation as violation:
            return violation
    return None


def find(rule: RemovedRule, seeds: range) -> Finding | None:
    """Return the first history of ``seeds`` that shows that the rule is missing."""
    for seed in seeds:
        violation = try_seed(rule, seed)
        if violation is not None:
            return Finding(seed, violation)
    return None


def main() -> None:
    """Print for every rule how many histories it took; exit 1 if one was never missed."""
    logging.disable(logging.CRITICAL)
    missed = 0
    print(f"{'rule taken away':<31}{'histories':<17}{'first seed':>10}  what broke")
    for rule in REMOVED_RULES:
        finding = find(rule, range(1, LIMIT + 1))
        if finding is None:
            missed += 1
            print(f"{rule.name:<31}{rule.theme:<17}{'-':>10}  nothing in {LIMIT}", flush=True)
        else:
            what = str(finding.violation)[:100]
            print(f"{rule.name:<31}{rule.theme:<17}{finding.seed:>10}  {what}", flush=True)
    count = len(REMOVED_RULES)
    print(f"rules taken away {count}, found {count - missed}, missed {missed}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
