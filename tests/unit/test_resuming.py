"""From where a sync continues, and which losses a master keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from portable_core.epochs import MAX_LOSSES, Loss, NotedLoss, Stint
from portable_core.ports import PartState, SlaveInfo, SlaveState
from portable_core.sync.resuming import (
    ANOTHER_STORE,
    EARLIER_STORE,
    LOSSES_WARNING,
    acknowledge_losses,
    find_loss_problems,
    find_open_losses,
    make_loss_id,
    resume,
)

UUID, OTHER = ("0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7")
A, B = "a" * 32, "b" * 32
INFO = SlaveInfo(
    UUID, 1, 5, 1000, 1001, 120, "crc32c", ("application/json",), stint=B, continues=True
)
STATE = SlaveState(
    900,
    UUID,
    1,
    window=60,
    report={"saved": 1},
    part=PartState(900, 950, 1, 2, 3),
    stint=Stint(A, 990),
)


def test_a_store_that_continues_is_synced_from_the_cursor() -> None:
    assert resume(STATE, INFO) == replace(STATE, stint=Stint(B, 1000))


def test_a_slave_that_was_never_synced_has_lost_nothing() -> None:
    state = resume(SlaveState(), structs.replace(INFO, continues=None))
    assert state == SlaveState(None, UUID, 1, stint=Stint(B, 1000))


def test_a_slave_of_an_older_release_is_synced_by_uuid_and_generation() -> None:
    older = structs.replace(INFO, stint="", continues=None)
    state = replace(STATE, stint=None)
    assert resume(state, older) == state
    another = resume(state, structs.replace(older, store=OTHER))
    assert (another.cursor, another.store, another.losses) == (None, OTHER, ())
    assert resume(state, structs.replace(older, generation=2)).cursor is None
    # After an update it has stints, and after a step back none: neither is a loss.
    updated = resume(state, structs.replace(INFO, continues=None))
    assert updated == replace(STATE, stint=Stint(B, 1000))
    assert resume(updated, older) == updated


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"continues": False}, EARLIER_STORE), ({"store": OTHER}, ANOTHER_STORE)],
)
def test_a_store_that_does_not_continue_is_compared_again(
    changes: dict[str, object], reason: str
) -> None:
    info = structs.replace(INFO, **changes)
    state = resume(STATE, info)
    assert (state.cursor, state.part, state.window) == (None, None, None)
    assert (state.store, state.stint) == (info.store, Stint(B, 1000))
    assert state.report == STATE.report
    (loss,) = state.losses
    assert (loss.reason, loss.start, loss.end) == (reason, 900, 1121)
    assert (loss.noted, loss.acknowledged, loss.reported) == (1001, None, False)
    # The same answer, because the first sync could not save this.
    assert resume(STATE, info).losses == state.losses
    ephemeral = resume(STATE, structs.replace(info, ephemeral=True))
    assert (ephemeral.cursor, ephemeral.losses) == (None, ())


def test_a_new_generation_is_compared_again_and_is_no_loss() -> None:
    state = resume(STATE, structs.replace(INFO, generation=2))
    assert (state.cursor, state.generation, state.losses) == (None, 2, ())


def test_a_repaired_store_is_remembered_by_its_new_horizon() -> None:
    """The horizon before it was ahead, so that it would be in every later state of the store."""
    ahead = replace(STATE, stint=Stint(A, 10**9))
    assert resume(ahead, structs.replace(INFO, generation=2)).stint == Stint(B, 1000)


def test_a_horizon_that_went_back_does_not_replace_the_remembered_stint() -> None:
    """The cursor may lie after that horizon."""
    assert resume(STATE, structs.replace(INFO, horizon=989)).stint == STATE.stint
    assert resume(STATE, structs.replace(INFO, horizon=0, stint="")).stint == STATE.stint


LOSS = Loss("1", "7.0.sqlite3", "it is damaged", 950, 980)


def report(*losses: Loss, **changes: object) -> SlaveInfo:
    return structs.replace(INFO, losses=losses, **changes)


def test_a_reported_loss_is_kept_until_it_is_acknowledged() -> None:
    state = resume(STATE, report(LOSS))
    (loss,) = find_open_losses(state.losses)
    assert (loss.id, loss.start, loss.end, loss.noted) == ("1", 950, 980, 1001)
    again = resume(replace(state, cursor=1000), report(LOSS, now=2000))
    assert again.losses == state.losses
    acknowledged = acknowledge_losses(again, "1", 3000)
    assert acknowledged is not None
    assert resume(acknowledged, report(LOSS)).losses[0].acknowledged == 3000
    assert resume(acknowledged, report()).losses == ()
    assert acknowledge_losses(again, "2", 3000) is None


def test_the_last_report_warns_no_longer_of_an_acknowledged_loss() -> None:
    warning = {"warning": "two are lost", "warning_type": LOSSES_WARNING, "losses": 2, "saved": 7}
    other = structs.replace(LOSS, id="2", name="8.0.sqlite3")
    state = replace(resume(STATE, report(LOSS, other)), report=warning)
    once = acknowledge_losses(state, "1", 3000)
    assert once is not None
    assert once.report["losses"] == 1
    assert "8.0.sqlite3" in str(once.report["warning"])
    both = acknowledge_losses(once, "2", 3000)
    assert both is not None
    assert both.report == {"warning": "", "warning_type": "", "losses": 0, "saved": 7}
    # A warning of another kind stays.
    state = replace(state, report={"warning": "a clock is wrong", "warning_type": ""})
    kept = acknowledge_losses(state, "1", 3000)
    assert kept is not None
    assert kept.report == state.report


def test_a_loss_before_the_cursor_is_none() -> None:
    covered = structs.replace(LOSS, end=900)
    state = resume(STATE, report(covered))
    assert find_open_losses(state.losses) == []
    # It is known, so that a later comparison of all records does not make it one.
    assert find_open_losses(resume(state, report(covered, generation=2)).losses) == []
    # In a copy of the store, records before the cursor are not those that the master has.
    (returned, lost) = find_open_losses(resume(STATE, report(covered, continues=False)).losses)
    assert {returned.id, lost.id} >= {"1"}
    assert len(find_open_losses(resume(STATE, report(structs.replace(LOSS, end=None))).losses)) == 1


def test_a_loss_begins_at_the_cursor() -> None:
    """The master has the webhooks of its first part."""
    early = structs.replace(LOSS, start=500)
    assert [loss.start for loss in resume(STATE, report(early)).losses] == [900]
    unknown = structs.replace(LOSS, start=None)
    assert [loss.start for loss in resume(STATE, report(unknown)).losses] == [None]


def test_a_loss_that_is_no_longer_reported_is_over_where_the_store_continues() -> None:
    state = resume(STATE, report(LOSS))
    assert resume(state, report()).losses == ()
    assert {loss.id for loss in resume(state, report(continues=False)).losses} >= {"1"}


def test_a_loss_that_the_master_noticed_is_kept_until_it_is_acknowledged() -> None:
    state = resume(STATE, structs.replace(INFO, continues=False))
    kept = resume(replace(state, cursor=5000), INFO)
    assert kept.losses == state.losses
    acknowledged = acknowledge_losses(kept, state.losses[0].id, 6000)
    assert acknowledged is not None
    assert resume(acknowledged, INFO).losses == ()


def test_gaps_that_the_store_joins_stay_a_loss() -> None:
    state = replace(resume(STATE, report(LOSS)), cursor=2000)
    joined = Loss("2", "gap", "removed", 940, 990)
    assert [loss.id for loss in find_open_losses(resume(state, report(joined)).losses)] == ["2"]
    elsewhere = Loss("3", "gap", "removed", 955, 990)
    assert find_open_losses(resume(state, report(elsewhere)).losses) == []


def test_many_losses_are_joined_and_none_is_forgotten() -> None:
    acknowledged = NotedLoss("f", "f", "", 1, 2, acknowledged=3, reported=False)
    state = replace(STATE, losses=(acknowledged,))
    for number in range(MAX_LOSSES + 20):
        info = structs.replace(INFO, continues=False, stint=f"{number:032x}", now=2000 + number)
        state = replace(resume(state, info), cursor=1000 + number)
    assert len(state.losses) == MAX_LOSSES
    assert (state.losses[0].start, state.losses[-1].end) == (900, 2120 + MAX_LOSSES + 19)
    assert state.losses[0].end == 2120 + 20
    assert make_loss_id(1) != make_loss_id(2)


def test_what_a_comparison_finds_before_the_next_sync() -> None:
    assert find_loss_problems(STATE, INFO) == []
    assert find_loss_problems(SlaveState(), structs.replace(INFO, store=OTHER)) == []
    assert find_loss_problems(STATE, structs.replace(INFO, continues=False)) == [EARLIER_STORE]
    (problem,) = find_loss_problems(STATE, structs.replace(INFO, store=OTHER))
    assert problem.startswith(ANOTHER_STORE)
    (problem,) = find_loss_problems(STATE, report(LOSS))
    assert "7.0.sqlite3: it is damaged (1970-01-01T00:00:00Z to 1970-01-01T00:00:00Z)" in problem
    known = resume(STATE, report(LOSS))
    assert len(find_loss_problems(known, report(LOSS))) == 1
    acknowledged = acknowledge_losses(known, "1", 5)
    assert acknowledged is not None
    assert find_loss_problems(acknowledged, report(LOSS)) == []
    assert find_loss_problems(STATE, report(structs.replace(LOSS, end=900))) == []
