"""A disk that damages, fills up or hangs under a running node: what was acknowledged stays.

The store's own tests do the same to its classes; here it happens to real processes, seen from
outside: senders, a master, ``/health``, ``/status``, ``/metrics`` and the log.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from portable_core.demo.processes import Kind, NodeProcess
from tests.support.nodes.senders import (
    SenderResults,
    make_slave,
    read_health,
    read_numbers,
    sending,
)
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Nodes,
    ask,
    fill,
    make_record,
    now_ms,
    post,
    start,
    sync,
)
from tests.support.stores.hung_disks import hung
from tests.support.stores.samples import HOUR
from tests.support.stores.small_disks import mount_small_disk
from tests.support.stores.sqlite_damages import (
    DamageFile,
    empty,
    overwrite,
    replace_with_foreign_database,
    replace_with_text,
    truncate,
)
from tests.support.stores.sqlite_folders import list_data_files

#: Everything waited for comes within a second or two; on a machine that is busy, within this.
PATIENCE_S = 60

SENDERS = 16


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def is_unhealthy(node: NodeProcess, reason: str) -> bool:
    """Whether ``/health`` answers 503 with a text that matches ``reason``."""
    health = read_health(node.url)
    return (
        health is not None
        and health["status"] == 503
        and re.search(reason, str(health["detail"])) is not None
    )


def check_refusals(results: SenderResults) -> float:
    """Every sender got an answer, and those that were refused a 503 with a reason.

    Returns the longest time that one of them waited, in seconds.
    """
    assert results.unanswered == []
    assert {refusal.status for refusal in results.refusals} == {503}
    assert all(json.loads(refusal.text)["detail"] for refusal in results.refusals)
    return max(refusal.seconds for refusal in results.refusals)


# -- damaged files ---------------------------------------------------------------------------------

EVERY_DAMAGE = [overwrite, truncate, empty, replace_with_text, replace_with_foreign_database]


@pytest.mark.parametrize(
    ("kind", "damages"),
    [("container", [overwrite]), ("container", EVERY_DAMAGE), ("function", EVERY_DAMAGE)],
    ids=["container-overwritten", "container-every-way", "function-every-way"],
)
def test_damaged_files_are_named_and_the_rest_is_served(
    tmp_path: Path, kind: Kind, damages: list[DamageFile]
) -> None:
    """Every second file of a slave is damaged, the newest one among them."""
    per_hour, hours = 50, 2 * len(damages)
    begin = now_ms() // HOUR * HOUR - hours * HOUR
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(kind=kind)
        records = fill(
            tmp_path / "slave",
            (
                make_record(hour * per_hour + i, begin + hour * HOUR + i, size=500)
                for hour in range(hours)
                for i in range(per_hour)
            ),
        )
        files = list_data_files(tmp_path / "slave")
        assert len(files) == hours
        for damage, file in zip(damages, files[1::2], strict=True):
            damage(file)
        names = {file.name for file in files[1::2]}
        rest = [
            record
            for record in records
            if (record.pair.timestamp - begin) // HOUR % 2 == 0  # the hours that are whole
        ]

        master = nodes.make_master({"slave": slave.url})
        start(slave, master)
        report = sync(master)
        assert report.status == 200, report.body
        recovered = nodes.read(master)
        assert [record.pair for record in recovered] == [record.pair for record in rest]
        assert [record.payload for record in recovered] == [record.payload for record in rest]

        status = ask(slave, "GET", "/status").body
        assert {part["name"] for part in status["store"]["damaged"]} == names
        assert all(part["reason"] for part in status["store"]["damaged"])
        assert read_damaged_metric(slave) == names
        log = slave.log.read_text()
        assert all(f"{name} is damaged" in log for name in names)

        before = status["store"]["records"]
        assert len(post(slave, range(10_000, 10_020))) == 20
        assert ask(slave, "GET", "/status").body["store"]["records"] == before + 20
    print(
        f"{kind}: {len(names)} of {hours} files damaged and named; a sync returned "
        f"{len(recovered)} of the {len(rest)} records in the others; 20 new ones taken"
    )


def read_metrics(node: NodeProcess) -> list[Sample]:
    request = urllib.request.Request(
        f"{node.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


def is_store_up(node: NodeProcess) -> bool:
    (value,) = (s.value for s in read_metrics(node) if s.name == "webhook_sync_store_up")
    return bool(value)


def read_damaged_metric(node: NodeProcess) -> set[str]:
    """The names of the parts that ``/metrics`` tells as damaged."""
    return {
        sample.labels["part"]
        for sample in read_metrics(node)
        if sample.name == "webhook_sync_store_part_damaged" and sample.value == 1
    }


# -- a full disk -----------------------------------------------------------------------------------


def make_slave_on(disk: Path, folder: Path, kind: Kind) -> NodeProcess:
    return make_slave(folder, kind=kind, STORE=f"sqlite:{disk / 'store'}")


def fill_up(disk: Path) -> Path:
    """Leave not one free byte on a file system. Returns the file to remove."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:  # in small pieces: the node takes its share meanwhile
            file.write(bytes(4096))
    return ballast


@pytest.mark.parametrize("kind", ["container", "function"])
def test_a_full_disk_refuses_and_goes_on_when_there_is_space(tmp_path: Path, kind: Kind) -> None:
    with mount_small_disk(tmp_path / "disk") as disk:
        slave = make_slave_on(disk, tmp_path, kind)
        slave.start()
        try:
            slave.wait_until_healthy()
            with sending(lambda: slave.port, SENDERS) as results:
                wait_for("a first webhook", lambda: len(results.timestamps) > SENDERS)
                ballast = fill_up(disk)
                wait_for("refusals", lambda: len(results.refusals) > 3 * SENDERS)
                wait_for("the reason", lambda: is_unhealthy(slave, "disk is full"))
                wait_for("the metric", lambda: not is_store_up(slave))
                refused = len(results.refusals)
                # One line of the refusals, whatever their number; /health has its own.
                log = slave.log.read_text().splitlines()
                lines = [line for line in log if "webhook refused with 503" in line]
                assert 1 <= len(lines) <= 3, lines
                assert len(log) < 30, log
                ballast.unlink()
                slave.wait_until_healthy(PATIENCE_S)
                before = len(results.timestamps)
                wait_for("more", lambda: len(results.timestamps) > before + 10 * SENDERS)
            longest = check_refusals(results)
            assert slave.stop() == 0, slave.read_log_end()
        finally:
            slave.kill()
        lost = results.timestamps.keys() - set(read_numbers(disk))
    print(
        f"{kind}: {refused} times 503 while the disk was full, {longest:.2f} s at most; "
        f"{len(results.timestamps)} acknowledged, {len(lost)} of them not stored"
    )
    assert not lost


def test_a_kill_and_a_start_on_a_full_disk(tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "disk") as disk:
        slave = make_slave_on(disk, tmp_path, "container")
        slave.start()
        try:
            slave.wait_until_healthy()
            with sending(lambda: slave.port, SENDERS) as results:
                wait_for("a first webhook", lambda: len(results.timestamps) > SENDERS)
                ballast = fill_up(disk)
                wait_for("refusals", lambda: bool(results.refusals))
                slave.kill()
            slave.start()
            wait_for("the reason", lambda: is_unhealthy(slave, "full"))
            ballast.unlink()
            slave.wait_until_healthy(PATIENCE_S)
            first = max(results.timestamps) + 1000
            with sending(lambda: slave.port, SENDERS, limit=100, first=first) as later:
                pass
            assert len(later.timestamps) == 100
            assert slave.stop() == 0, slave.read_log_end()
        finally:
            slave.kill()
        acknowledged = results.timestamps.keys() | later.timestamps.keys()
        lost = acknowledged - set(read_numbers(disk))
    print(f"killed on a full disk: {len(acknowledged)} acknowledged, {len(lost)} not stored")
    assert not lost


# -- a disk that hangs -----------------------------------------------------------------------------


#: What the store says meanwhile: SQLite gave up waiting, or the deadline came before that.
REASONS = "holds a lock on this file|did not finish in time|has not finished|still under way"


@pytest.mark.parametrize(("kind", "commit_timeout_s"), [("container", "10"), ("function", "0.5")])
def test_a_store_that_hangs_refuses_in_time_and_recovers(
    tmp_path: Path, kind: Kind, commit_timeout_s: str
) -> None:
    """With a short COMMIT_TIMEOUT_S the deadline ends the wait; else SQLite's own patience does."""
    slave = make_slave(tmp_path, kind=kind, COMMIT_TIMEOUT_S=commit_timeout_s)
    slave.start()
    try:
        slave.wait_until_healthy()
        process = slave.pid
        with sending(lambda: slave.port, SENDERS) as results:
            wait_for("a first webhook", lambda: len(results.timestamps) > SENDERS)
            with hung(tmp_path / "store"):
                # A commit that came before it may still be on its way to each of the senders.
                most = len(results.timestamps) + SENDERS
                # Refusals end only because the waits are bounded: nothing else lets go.
                wait_for("refusals", lambda: len(results.refusals) >= SENDERS)
                wait_for("the reason", lambda: is_unhealthy(slave, REASONS))
                wait_for("more refusals", lambda: len(results.refusals) >= 3 * SENDERS)
                assert len(results.timestamps) <= most
            slave.wait_until_healthy(PATIENCE_S)
            assert slave.pid == process
            wait_for("more", lambda: len(results.timestamps) > most + 10 * SENDERS)
        longest = check_refusals(results)
        assert slave.stop() == 0, slave.read_log_end()
    finally:
        slave.kill()
    lost = results.timestamps.keys() - set(read_numbers(tmp_path))
    print(
        f"{kind}, COMMIT_TIMEOUT_S={commit_timeout_s}: {len(results.refusals)} times 503, "
        f"{longest:.2f} s at most; "
        f"{len(results.timestamps)} acknowledged, {len(lost)} of them not stored"
    )
    assert not lost
