"""``serve --check``: a line for each problem; nothing is changed, locked or listened on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from portable_core.adapters.sqlite.files import STATE_NAME
from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, post, start

TOKEN = {"SYNC_TOKENS": "a-token-for-tests"}


def check(*arguments: str, role: str = "slave", **env: str) -> tuple[int, list[str], list[str]]:
    """Exit code, problems and warnings of a check in a process of its own."""
    command = [sys.executable, "-m", "portable_core", "serve", "--role", role, "--check"]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*command, *arguments], env=inherited | env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def read_tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inodes, times and contents of all files; the index of a log is only a cache."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith("-shm"):
            status = path.stat()
            found[str(path)] = (status.st_ino, status.st_mtime_ns, path.read_bytes())
    return found


@pytest.mark.parametrize("role", ["slave", "master"])
def test_nothing_is_wrong_and_nothing_is_made(tmp_path: Path, role: str) -> None:
    store = f"sqlite:{tmp_path / 'data' / 'store'}"
    assert check(role=role, STORE=store, **TOKEN) == (0, [], [])
    assert list(tmp_path.iterdir()) == []
    assert check(role=role, STORE="memory:", **TOKEN) == (0, [], [])


def test_a_node_that_forwards_nothing_does_not_load_the_command(tmp_path: Path) -> None:
    code = (
        "import sys; from portable_core.cli.main import main\n"
        "try: main(['serve', '--role', 'master', '--check'])\n"
        "finally: print({'rich', 'portable_core.cli.forward'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"STORE": "memory:", **TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_every_problem_is_a_line(tmp_path: Path) -> None:
    env = {
        "SOURCES": "hub=github:abc\npay=stripe:def\n*=closed",
        "SYNC_TOKEN": "x",
        "SPAN_S": "soon",
        "STORE": f"sqlite:{tmp_path}",
    }
    code, faults, _ = check("--host", "nohost.invalid", **env)
    assert code == 1
    names = [line.partition(":")[0] for line in faults]
    assert names == ["SYNC_TOKEN", "SPAN_S", "SOURCES", "HOST"]
    assert "abc" not in "".join(faults)


def test_the_same_problems_end_a_start(tmp_path: Path) -> None:
    for env in ({"SOURCES": "hub=github:abc\n*=closed"}, {"SOURCE": "hub=github:abc"}):
        store = {"STORE": f"sqlite:{tmp_path / 'store'}"}
        node = NodeProcess("slave", "slave", "container", TOKEN | store | env, tmp_path / "log")
        node.start()
        try:
            assert node._process is not None
            assert node._process.wait(60) == 1
        finally:
            node.kill()
        (line,) = node.log.read_text().splitlines()
        (name,) = env
        assert f"{name}: " in line
        assert "abc" not in line
        assert not (tmp_path / "store").exists()
        node.log.unlink()


def test_what_has_no_effect_is_a_warning_of_the_check_and_of_a_start(tmp_path: Path) -> None:
    env = {"RETENTION_LATE_S": "60", "SYNC_INTERVAL": "60", "SOURCES_PORT": "tcp://10.0.0.1:80"}
    code, faults, warnings = check(role="master", STORE="memory:", **TOKEN, **env)
    assert (code, faults) == (0, [])
    assert [line.split(":")[:2] for line in warnings] == [
        ["Warning", " RETENTION_LATE_S"],
        ["Warning", " SYNC_INTERVAL"],
    ]
    with Nodes(tmp_path) as nodes:
        master = nodes.make_master({}, "container", STORE="memory:", **env)
        start(master)
        log = master.log.read_text()
        for warning in warnings:
            assert log.count(warning.removeprefix("Warning: ")) == 1


def test_a_running_node_is_not_disturbed(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave")
        start(slave)
        assert len(post(slave, range(3))) == 3
        before = read_tree(tmp_path / "slave")
        env = {**TOKEN, "STORE": slave.env["STORE"], "PORT": str(slave.port)}
        assert check(**env) == (0, [], [])
        code, faults, _ = check(**env, HASH="blake2b", HASH_KEY="k")
        assert code == 1
        assert faults[0].startswith("HASH: the store in ")
        assert read_tree(tmp_path / "slave") == before
        assert len(post(slave, range(3, 6))) == 3


@pytest.mark.parametrize("state", ["closed", "killed", "copied"])
def test_a_store_is_read_without_a_change(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "slave"
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave")
        start(slave)
        post(slave, range(3))
        if state == "closed":
            assert slave.stop() == 0
        slave.kill()
    if state == "copied":
        folder = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm"))
    before = read_tree(folder)
    names = {path.name for path in folder.iterdir()}
    assert (f"{STATE_NAME}-wal" in names) == (state != "closed")
    assert check(STORE=f"sqlite:{folder}", **TOKEN) == (0, [], [])
    code, faults, _ = check(STORE=f"sqlite:{folder}", HASH="blake2b", HASH_KEY="k", **TOKEN)
    assert (code, len(faults)) == (1, 1)
    assert read_tree(folder) == before
    assert {path.name for path in folder.iterdir()} == names


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fill(tmp_path / "damaged", [make_record(1, now_ms() - 1000)])
    (tmp_path / "damaged" / STATE_NAME).write_bytes(b"not a database" * 1000)
    for path, message in {
        "file": "is not a folder",
        "file/store": "is not a folder",
        "damaged": "cannot be read",
    }.items():
        code, faults, _ = check(STORE=f"sqlite:{tmp_path / path}", **TOKEN)
        assert (code, len(faults)) == (1, 1), path
        assert faults[0].startswith("STORE: ")
        assert message in faults[0]


def test_a_folder_that_other_users_can_read_is_a_warning(tmp_path: Path) -> None:
    fill(tmp_path / "store", [make_record(1, now_ms() - 1000)])
    (tmp_path / "store").chmod(0o755)
    (tmp_path / "store" / STATE_NAME).chmod(0o644)
    code, faults, warnings = check(STORE=f"sqlite:{tmp_path / 'store'}", **TOKEN)
    assert (code, faults, len(warnings)) == (0, [], 1)
    assert warnings[0].endswith(f"chmod go-rwx {tmp_path / 'store'}")


def test_a_port_in_use_is_no_problem_of_a_check(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert check("--host", "127.0.0.1", STORE="memory:", PORT=port, **TOKEN) == (0, [], [])


def test_a_home_directory_is_that_of_the_environment(tmp_path: Path) -> None:
    env = {**TOKEN, "HOME": str(tmp_path), "STORE": "sqlite:~/file/store"}
    (tmp_path / "file").write_text("")
    code, faults, _ = check(**env)
    assert code == 1
    assert str(tmp_path / "file") in faults[0]


@pytest.mark.parametrize("command", [["webhook-sync"], ["python", "-m", "portable_core"]])
def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, command: list[str]) -> None:
    """It may belong to anyone. An empty ``PYTHONPATH`` does not add it either."""
    for name in ("click", "flask", "httptools", "msgspec", "sqlitedict", "uvloop", "werkzeug"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from this folder')")
    program = str(Path(sys.executable).with_name(command[0]))
    checked = subprocess.run(
        [program, *command[1:], "serve", "--role", "slave", "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": "", "SYNC_AUTH": "none", "STORE": f"sqlite:{tmp_path / 'store'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
