"""A master that ends at any write of a deletion, an import or a removal: it can be repeated.

No acknowledged webhook is lost that was not removed, a deleted or removed one never comes back, and
a repeated import is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.sqlite import SqliteStore, changer
from portable_core.adapters.sqlite.changer import Changer
from portable_core.adapters.sqlite.files import DataFile
from portable_core.adapters.sqlite.places import Places
from portable_core.adapters.sqlite.tombstones import SqliteTombstones
from portable_core.ports import BEGINNING, Tombstone
from portable_core.records import MAX_INTEGER, Meta, Record
from portable_core.sync.archiving import ArchivedStretch, digest_pairs
from portable_core.sync.floor import read_floor
from portable_core.sync.retention import MasterRetention, RemovalPlan
from tests.support.stores.crashes import crash_at, run_in_child
from tests.unit.test_master_retention import HOUR, KEPT_S, SPAN, Rig

ALL = (0, MAX_INTEGER + 1)
HOURS = 8
ERASED = (1, 6)
RECEIVED = (b'{"received":0}', b'{"received":1}')
KEEP = {"RETENTION_S": "99999999"}


class LaterRig(Rig):
    begins = Rig.begins + (HOURS + 2) * HOUR


class Template(NamedTuple):
    """A master's folder with the records of a slave, and what its operator has of them."""

    folder: Path
    records: list[Record]
    stretch: ArchivedStretch


@contextmanager
def running(folder: Path, slave: list[Record], **env: str) -> Iterator[Rig]:
    """Run a master on a folder, and a slave that has the records, hours after the last one.

    The slave's store is another one each time: everything is compared anew.
    """
    rig = LaterRig(SqliteStore(folder), **env)
    rig.disks["a"].open("crc32c")
    rig.disks["a"].append(slave)
    try:
        yield rig
    finally:
        rig.store.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    folder = tmp_path_factory.mktemp("template") / "master"
    rig = Rig(SqliteStore(folder), **KEEP)
    rig.receive(HOURS)
    assert rig.sync()["a"].saved == 2 * HOURS
    records = list(rig.store.records(*ALL))
    plan = rig.master.archiving.plan(records[-4].pair.timestamp)
    assert plan.start is not None
    old = [record.pair for record in records if record.pair.timestamp < plan.end]
    rig.store.close()
    assert len(old) >= HOURS
    return Template(folder, records, ArchivedStretch(plan.start, plan.end, *digest_pairs(old)))


class Crash(NamedTuple):
    """A crash of a child: the folder that it left, and the webhooks that it had acknowledged."""

    folder: Path
    acknowledged: list[bytes]


def use(
    path: Path,
    base: Template,
    operate: Callable[[Rig], object],
    writing: int,
    step: int,
    after: bool,
    env: Mapping[str, str],
) -> None:
    """Receive a webhook, operate, and receive another; write down what was acknowledged."""
    with running(path, base.records, **env) as rig:
        receive(rig, 0, writing)
        crash_at(step, after=after)
        operate(rig)
        receive(rig, 1, writing)


def receive(rig: Rig, number: int, writing: int) -> None:
    rig.master.receiver.receive(RECEIVED[number], Meta())
    os.write(writing, RECEIVED[number] + b"\n")


def crash_everywhere(
    folder: Path,
    base: Template,
    operate: Callable[[Rig], object],
    after: bool,
    every: int,
    **env: str,
) -> Iterator[Crash]:
    """Yield the folder after each crash of a process that operates on a copy of the template."""
    step, ended = 1, False
    while not ended:
        path = folder / str(step)
        shutil.copytree(base.folder, path)
        reading, writing = os.pipe()
        ended = run_in_child(partial(use, path, base, operate, writing, step, after, env))
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            yield Crash(path, pipe.read().splitlines())
        step += every
    assert step > 20


def check_store(rig: Rig) -> None:
    status = rig.store.status()
    pairs = list(rig.store.pairs(*ALL))
    assert status.damaged == ()
    assert status.records == len(pairs) == len({*pairs})
    assert rig.store.info().generation == 1


def old_of(base: Template) -> list[Record]:
    return [record for record in base.records if record.pair.timestamp < base.stretch.end]


def sweep(before: int, after: int) -> pytest.MarkDecorator:
    """Crash before or after every n-th write; in the deep run at each one."""
    cases = [(False, before), (True, after)]
    deep = [pytest.param(when, 1, marks=pytest.mark.deep) for when in (False, True)]
    return pytest.mark.parametrize(("after", "every"), [*cases, *deep])


@sweep(before=13, after=19)
def test_a_deletion(tmp_path: Path, template: Template, after: bool, every: int) -> None:
    erased = [template.records[number] for number in ERASED]

    def delete(rig: Rig) -> None:
        for record in erased:
            rig.master.erasing.delete(record.pair)

    for folder, acknowledged in crash_everywhere(tmp_path, template, delete, after, every, **KEEP):
        with running(folder, template.records, **KEEP) as rig:
            kept = {r.payload for r in template.records if r not in erased} | {*acknowledged}
            assert kept <= {*rig.read()}
            noted = {tombstone.pair for _, tombstone in rig.store.tombstones()}
            gone = {r.payload for r in erased} - {*rig.read()}
            assert gone <= {r.payload for r in erased if r.pair in noted}
            rig.sync()
            assert not gone & {*rig.read()}
            delete(rig)
            rig.sync()
            assert not {r.payload for r in erased} & {*rig.read()}
            assert kept <= {*rig.read()}
            slave = [record.payload for record in rig.disks["a"].records(*ALL)]
            assert not {r.payload for r in erased} & {*slave}
            check_store(rig)
        for path in folder.glob("*"):
            assert not any(r.payload in path.read_bytes() for r in erased), path.name


@sweep(before=11, after=12)
def test_the_removal_of_an_archived_stretch(
    tmp_path: Path, template: Template, after: bool, every: int
) -> None:
    stretch, old = template.stretch, old_of(template)

    def remove(rig: Rig) -> object:
        return rig.master.archiving.remove(stretch).removed

    for crash in crash_everywhere(tmp_path, template, remove, after, every, **KEEP):
        with running(crash.folder, template.records, **KEEP) as rig:
            new = {r.payload for r in template.records[len(old) :]} | {*crash.acknowledged}
            left = [r for r in rig.store.records(*ALL) if r in old]
            assert left in ([], old)
            assert new <= {*rig.read()}
            assert left or read_floor(rig.store) == stretch.end + SPAN
            rig.sync()
            assert [r for r in rig.store.records(*ALL) if r in old] == left
            assert remove(rig) == len(left)
            rig.sync()
            assert new <= {*rig.read()}
            assert {*rig.read()} - {*RECEIVED} == new - {*RECEIVED}
            assert rig.master.archiving.bring_back(old).stored == len(old)
            pairs = rig.store.pairs(stretch.start, stretch.end)
            assert digest_pairs(pairs) == (stretch.records, stretch.pairs)
            check_store(rig)


@sweep(before=29, after=37)
def test_an_import(tmp_path: Path, template: Template, after: bool, every: int) -> None:
    stretch, old = template.stretch, old_of(template)
    empty = tmp_path / "empty"
    shutil.copytree(template.folder, empty)
    with running(empty, template.records, **KEEP) as rig:
        rig.master.erasing.delete(old[2].pair)
        kept = [*old[:2], *old[3:]]
        count, digest = digest_pairs(record.pair for record in kept)
        assert rig.master.archiving.remove(
            ArchivedStretch(stretch.start, stretch.end, count, digest)
        ).removed
        end = rig.store.newest_arrival()
    base = Template(empty, template.records, stretch)

    def bring_back(rig: Rig) -> None:
        for begin in range(0, len(old), 5):
            rig.master.archiving.bring_back(old[begin : begin + 5])

    for crash in crash_everywhere(tmp_path, base, bring_back, after, every, **KEEP):
        with running(crash.folder, base.records, **KEEP) as rig:
            check_store(rig)
            new = {r.payload for r in base.records[len(old) :]} | {*crash.acknowledged}
            assert new <= {*rig.read()} <= {r.payload for r in kept} | new | {*RECEIVED}
            rig.sync()
            bring_back(rig)
            rig.sync()
            assert digest_pairs(rig.store.pairs(stretch.start, stretch.end)) == (count, digest)
            later = [arrival.record.payload for arrival in rig.store.arrivals(end)]
            assert later[: len(crash.acknowledged)] == crash.acknowledged
            assert {*later} <= {*RECEIVED}  # a consumer gets no imported record
            assert {*rig.read()} == {r.payload for r in kept} | new | {*later}
            first = [arrival.record for arrival in rig.store.arrivals(BEGINNING)][: len(kept)]
            assert first == kept
            check_store(rig)


@sweep(before=5, after=6)
def test_retention(tmp_path: Path, template: Template, after: bool, every: int) -> None:
    def retain(rig: Rig) -> None:
        rig.sync()

    for crash in crash_everywhere(tmp_path, template, retain, after, every):
        with running(crash.folder, template.records) as rig:
            cut = (rig.clock.now() - KEPT_S * 1000) // HOUR * HOUR
            due = [r.payload for r in template.records if r.pair.timestamp < cut]
            new = {r.payload for r in template.records[len(due) :]} | {*crash.acknowledged}
            left = {*rig.read()}
            assert due
            assert new <= left
            assert left - new - {*RECEIVED} in (set(), {*due})
            assert left >= {*due} or read_floor(rig.store) >= cut
            for _ in range(2):
                rig.sync()
                assert {*rig.read()} - {*RECEIVED} == new - {*RECEIVED}
                assert new <= {*rig.read()}
            assert isinstance(rig.disks["a"], MemoryStore)
            check_store(rig)


# -- without a rule ----------------------------------------------------------------------------

Mutate = Callable[[pytest.MonkeyPatch], None]


def tombstones_after_payloads(patch: pytest.MonkeyPatch) -> None:
    """The payload is erased before the tombstone is durable."""
    save = SqliteTombstones.save
    erase = SqliteStore.erase

    def erase_first(self: SqliteStore, tombstones: Sequence[Tombstone]) -> int:
        with pytest.MonkeyPatch.context() as without:
            without.setattr(SqliteTombstones, "save", lambda *arguments: None)
            erased = erase(self, tombstones)
        save(self._tombstones, tombstones, self._until())
        return erased

    patch.setattr(SqliteStore, "erase", erase_first)


def floor_after_removal(patch: pytest.MonkeyPatch) -> None:
    """Records are removed before the floor is durable."""
    remove = MasterRetention._remove

    def remove_first(self: MasterRetention, plan: RemovalPlan) -> None:
        self._store.prune(plan.cut)
        remove(self, plan)

    patch.setattr(MasterRetention, "_remove", remove_first)


def files_removed_unmarked(patch: pytest.MonkeyPatch) -> None:
    """Files are removed before the state says so."""
    retire = Changer.retire

    def remove_first(self: Changer, files: Sequence[DataFile], until: float) -> None:
        for file in files:
            changer.remove_database(self._folder / file.name)  # type: ignore[attr-defined]
        retire(self, files, until)

    patch.setattr(Changer, "retire", remove_first)


def imported_unnoted(patch: pytest.MonkeyPatch) -> None:
    """Records are imported without the note that some of the store's have no place."""
    patch.setattr(Places, "note_older", lambda self, until: None)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("sweep_", "mutate"),
    [
        (test_a_deletion, tombstones_after_payloads),
        (test_the_removal_of_an_archived_stretch, files_removed_unmarked),
        (test_an_import, imported_unnoted),
        (test_retention, floor_after_removal),
    ],
)
def test_a_sweep_finds_a_removed_rule(
    tmp_path: Path,
    template: Template,
    monkeypatch: pytest.MonkeyPatch,
    sweep_: Callable[[Path, Template, bool, int], None],
    mutate: Mutate,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        sweep_(tmp_path, template, True, 1)
