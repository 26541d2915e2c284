"""The file of a delivery: its position, its dead letters, its one owner, and cuts at any write."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from portable_core.adapters.delivery_state import DeliveryFile
from portable_core.errors import NotFound, StoreLocked, Unavailable
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Changes, DeadLetter
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import MAX_KEYS

KEY = "0123456789abcdef0123456789abcdef"


def make_dead_letter(number: int) -> DeadLetter[Webhook]:
    webhook = Webhook(
        position=f"p{number}",
        id=f"{number}-7",
        key=KEY,
        source="s",
        event="push",
        timestamp=number,
        headers={"x-a": "\u00e9"},
        query="a=b",
        payload=b"\x00\xff",
    )
    return DeadLetter(webhook, 3, Outcome(400, "Bad Request"))


def test_changes_are_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = DeliveryFile(path, exclusive=True)
    assert (file.position, file.done, file.dead_letters) == (None, frozenset(), 0)
    letter = make_dead_letter(5)
    file.write(Changes("p1", ("a", "b"), (), (letter,)))
    file.write(Changes(None, ("c",)))
    file.write(Changes("p2", (), ("a", "c"), (make_dead_letter(4),)))
    file.close()
    file = DeliveryFile(path, exclusive=True)
    assert (file.position, file.done, file.dead_letters) == ("p2", frozenset({"b"}), 2)
    assert file.dead_letter_bytes == 2 * letter.item.size
    first, second = file.list_dead_letters()
    assert (first.id, second.id) == ("4-7", "5-7")
    assert second.record == letter.item.record
    assert (second.event, second.attempts, second.status) == ("push", 3, 400)
    assert file.drop_dead_letter("4-7")
    assert not file.drop_dead_letter("4-7")
    with pytest.raises(NotFound):
        list(file.list_dead_letters(["4-7"]))
    file.close()


def test_the_newest_keys_are_kept(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path / "state", exclusive=True)
    for begin in range(0, MAX_KEYS + 500, 500):
        file.write(Changes(f"p{begin}", keys=tuple(str(begin + n) for n in range(500))))
    file.close()
    file = DeliveryFile(tmp_path / "state", exclusive=True)
    assert file.keys == [str(n) for n in range(500, MAX_KEYS + 500)]
    file.close()


def test_one_process_delivers_and_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    owner = DeliveryFile(path, exclusive=True)
    with pytest.raises(StoreLocked, match="in use by another process"):
        DeliveryFile(path, exclusive=True)
    reader = DeliveryFile(path, exclusive=False)
    owner.write(Changes("p1", dead=(make_dead_letter(1),)))
    assert reader.dead_letters == 1
    reader.close()
    owner.close()
    DeliveryFile(path, exclusive=True).close()


def test_the_files_are_private(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path / "state", exclusive=True)
    file.write(Changes("p1", dead=(make_dead_letter(1),)))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}
    file.close()


@pytest.mark.parametrize("content", [b"x" * 5000, None], ids=["no database", "folder"])
def test_another_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(Unavailable, match=str(path)):
        DeliveryFile(path, exclusive=True)


WRITER = """
import sys
from pathlib import Path
from portable_core.adapters.delivery_state import DeliveryFile
from portable_core.webhooks.delivery_values import Changes
from tests.adapters.test_delivery_state import make_dead_letter
file = DeliveryFile(Path(sys.argv[1]), exclusive=True)
for number in range(1, 100_000):
    dead = (make_dead_letter(number),)
    file.write(Changes(f"p{number}", (f"d{number}",), (f"d{number - 1}",), dead))
    print(number, flush=True)
"""


def test_a_kill_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for kill_after in (1, 7, 30):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        last = 0
        for line in writer.stdout:
            last = int(line)
            if last == kill_after:
                writer.kill()
        writer.wait()
        file = DeliveryFile(path, exclusive=True)
        assert file.position is not None
        number = int(file.position[1:])
        assert number in (last, last + 1)
        assert (file.done, file.dead_letters) == (frozenset({f"d{number}"}), number)
        file.close()
        for other in tmp_path.iterdir():
            other.unlink()


def test_a_full_disk_is_unavailable_and_changes_nothing(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path / "state", exclusive=True)
    file.write(Changes("p1"))
    pages = file._db.execute("PRAGMA page_count").fetchone()[0]
    file._db.execute(f"PRAGMA max_page_count={pages}")
    webhook = Webhook("p2", "2-7", payload=b"x" * 100_000)
    with pytest.raises(Unavailable, match="full"):
        file.write(Changes("p2", dead=(DeadLetter(webhook, 1, Outcome(400)),)))
    assert file.position == "p1"
    file.write(Changes("p3"))
    file.close()
    with sqlite3.connect(tmp_path / "state") as db:
        assert db.execute("SELECT value FROM state").fetchall() == [("p3",)]


def test_old_dead_letters_are_dropped_if_asked_for(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path / "state", exclusive=True)
    file.write(Changes("p1", dead=(make_dead_letter(1), make_dead_letter(2))))
    file._db.execute("UPDATE dead_letters SET died = died - 5000 WHERE timestamp = 1")
    assert file.dead_letters == 2
    left = [letter.id for letter in file.list_dead_letters()][1:]
    file.close()
    file = DeliveryFile(tmp_path / "state", exclusive=True, keep_s=4)
    assert [letter.id for letter in file.list_dead_letters()] == left
    file._db.execute("UPDATE dead_letters SET died = died - 5000")
    file.write(Changes("p2"))
    assert file.dead_letters == 0
    file.close()
