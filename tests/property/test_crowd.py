"""A crowd gets through part by part: cut between any two parts, killed at any write, resumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

import portable_core.sync.windows
from loadtests.simulation.disk import Disk
from loadtests.simulation.network import NetworkFault
from loadtests.simulation.process_store import Accident
from portable_core.ports import ALL_HASHES, Lease
from portable_core.records import Pair
from portable_core.sync.merge import RecordMerger
from portable_core.sync.windows import WindowPlan
from tests.support.laws.crowd import (
    MISSING,
    MOST_HELD,
    OURS,
    REPRESENTED,
    SPAN_MS,
    START,
    CrowdTrial,
    Samples,
    make_record,
)


@pytest.fixture(autouse=True)
def _small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 413 may reduce a request to ten pairs: everything here is a thousandth of real crowds."""
    monkeypatch.setattr(portable_core.sync.windows, "LEAST_PAIRS", 10)


KILLS = (Accident.KILL_BEFORE, Accident.KILL_TORN, Accident.KILL_AFTER)


def test_a_crowd_gets_through() -> None:
    """A slave that holds 100 hashes, and 700 within two spans."""
    trial = CrowdTrial()
    trial.sync_to_end(rounds=1)
    (report,) = trial.reports
    assert report.saved == MISSING
    assert report.parts >= (OURS + REPRESENTED) // MOST_HELD
    assert report.windows == len(trial.client.requests) < 80
    assert trial.state.part is None or not trial.state.part.done


def test_without_a_crowd_there_are_no_parts() -> None:
    trial = CrowdTrial(most_held=10_000)
    trial.sync_to_end(rounds=1)
    assert (trial.reports[0].parts, trial.reports[0].windows) == (0, 1)


def test_a_proxy_that_limits_requests_is_got_through() -> None:
    """Its 413 has no problem document, and does not change with the slave's limit."""
    trial = CrowdTrial(most_held=10_000)
    trial.client.most_pairs = 60
    trial.sync_to_end(rounds=1)
    assert len(trial.client.requests) < 80


def test_the_masters_own_limit_divides_requests_before_the_slave_rejects_them() -> None:
    trial = CrowdTrial(SYNC_WINDOW_PAIRS="50")
    trial.sync_to_end(rounds=1)
    assert trial.reports[0].cut == 0
    assert trial.reports[0].parts > (OURS + REPRESENTED) // 50


def test_the_same_webhook_again_and_again_gets_through() -> None:
    """One hash cannot be divided: of its pairs a request carries two."""
    theirs = [make_record(1, START + 10 * number) for number in range(500)]
    ours = [make_record(1, START + SPAN_MS + 10 * number) for number in range(500)]
    trial = CrowdTrial(samples=Samples(theirs, ours, []), SYNC_WINDOW_PAIRS="20")
    trial.sync_to_end(rounds=1)
    assert trial.reports[0].windows < 80


def test_hashes_that_collide_are_in_one_part() -> None:
    """Twenty hashes, each of forty webhooks: what a colliding webhook represents is not fetched."""
    theirs = [make_record(number % 20, START + 70 * number) for number in range(800)]
    ours = [make_record(number, START + 5) for number in range(0, 20, 2)]
    first: dict[int, Pair] = {}
    for record in theirs:
        first.setdefault(record.pair.hash, record.pair)
    known = {record.pair.hash for record in ours}
    samples = Samples(theirs, ours, sorted(p for h, p in first.items() if h not in known))
    trial = CrowdTrial(samples=samples, most_held=3)
    trial.sync_to_end(rounds=2)


def count_calls() -> int:
    trial = CrowdTrial()
    trial.sync_to_end(rounds=1)
    return trial.calls


@pytest.mark.parametrize("fault", ["unreachable", "request", "answer"])
def test_cut_at_every_request_and_resumed(fault: str) -> None:
    """Nothing is skipped, and what was done before the cut is not done again."""
    whole = count_calls()
    faults = {
        "unreachable": NetworkFault(unreachable=True),
        "request": NetworkFault(request_cut=300),
        "answer": NetworkFault(answer_cut=150, answer_clean=True),
    }
    for call in range(1, whole + 1):
        trial = CrowdTrial(faults={call: faults[fault]})
        trial.sync_to_end()
        assert trial.calls <= whole + 25, f"cut at {call}: {trial.calls} instead of {whole}"


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_the_master_killed_at_every_write(step: int) -> None:
    """At every third one in the usual run."""
    undisturbed = CrowdTrial()
    undisturbed.sync_to_end(rounds=1)
    assert undisturbed.writes > 40
    for number in range(1, undisturbed.writes + 1, step):
        for accident in KILLS:
            CrowdTrial(accidents={number: accident}).sync_to_end()


def test_a_sync_without_time_for_a_window_resumes_at_its_next_part() -> None:
    """Each sync is ended after two requests; the parts that were done stay done."""
    trial = CrowdTrial()
    for _ in range(60):
        trial.end_after_requests(2)
        report = trial.sync()
        assert report is not None
        if report.behind_ms == 0:
            break
    trial.sync_to_end(rounds=1)
    assert len(trial.client.requests) < 120


def test_a_slave_of_an_older_release_is_not_asked_for_parts() -> None:
    trial = CrowdTrial()
    trial.client.old = True
    report = trial.sync()
    assert report is not None
    assert "Update the slave: its release cannot compare by parts" in report.error
    assert all(request.hashes == ALL_HASHES for request in trial.client.requests)
    assert not trial.skipped


def test_a_slave_that_ignores_the_range_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older release behind the address of a newer one returns the records of other parts."""
    trial = CrowdTrial(SYNC_WINDOW_PAIRS="50")
    answer = trial.slave.answer
    monkeypatch.setattr(
        trial.slave,
        "answer",
        lambda query, theirs: answer(replace(query, hashes=ALL_HASHES), theirs),
    )
    trial.slave._max_held = 10_000
    report = trial.sync()
    assert report is not None
    assert "is not in the requested range of hashes" in report.error
    held = set(trial.disk.pairs(0, 2**53)) - {record.pair for record in trial.samples.ours}
    assert held <= set(trial.samples.missing)


def test_a_master_that_loses_records_compares_all_parts_again() -> None:
    """The parts that were done may have relied on the lost records."""
    trial = CrowdTrial(faults={count_calls() // 2: NetworkFault(unreachable=True)})
    trial.sync()
    part = trial.state.part
    assert part is not None
    assert part.done
    trial.disk.damage(part.start, part.end)
    assert trial.state.part is None
    while trial.sync().behind_ms != 0:  # type: ignore[union-attr]  # nothing kills the master
        pass
    held = {pair.hash for pair in trial.disk.pairs(part.start - SPAN_MS, part.end + SPAN_MS)}
    assert all(
        record.pair.hash in held
        for record in trial.samples.theirs
        if part.start <= record.pair.timestamp < part.end
    )


# -- the rules, taken away -------------------------------------------------------------------------


def test_a_cursor_that_moves_after_the_first_part_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = WindowPlan.advance

    def early(self: WindowPlan, step: object, *rest: int) -> None:
        advance(self, step._replace(hashes=ALL_HASHES), *rest)  # type: ignore[attr-defined]

    monkeypatch.setattr(WindowPlan, "advance", early)
    with pytest.raises(AssertionError, match="lost"):
        CrowdTrial().sync_to_end()


def test_parts_that_outlive_a_loss_of_the_master_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that loses records sets cursors back and keeps the parts."""

    def set_back(self: Disk, lost_from: int) -> None:
        self._lease = Lease(self._lease.token + 1, "", 0)

    monkeypatch.setattr(Disk, "_set_back", set_back)
    trial = CrowdTrial(faults={count_calls() // 2: NetworkFault(unreachable=True)})
    trial.sync()
    part = trial.state.part
    assert part is not None
    # What the master has of the parts that are done, a span after the cursor.
    trial.disk.damage(part.start, part.end)
    trial.sync()
    trial.sync()
    held = {pair.hash for pair in trial.disk.pairs(part.start - SPAN_MS, part.end + SPAN_MS)}
    theirs = [r.pair for r in trial.samples.theirs if part.start <= r.pair.timestamp < part.end]
    assert any(pair.hash not in held for pair in theirs if pair.hash < part.done)


def test_records_of_other_parts_that_are_stored_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = CrowdTrial(SYNC_WINDOW_PAIRS="50")
    trial.slave._max_held = 10_000
    answer = trial.slave.answer
    monkeypatch.setattr(
        trial.slave,
        "answer",
        lambda query, theirs: answer(replace(query, hashes=ALL_HASHES), theirs),
    )
    init = RecordMerger.__init__

    def careless(self: RecordMerger, *args: object) -> None:
        init(self, *args[:5])  # type: ignore[arg-type]

    monkeypatch.setattr(RecordMerger, "__init__", careless)
    with pytest.raises(AssertionError, match="stored twice"):
        trial.sync_to_end()
