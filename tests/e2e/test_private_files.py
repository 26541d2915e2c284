"""What a node's process creates on the disk is private, whatever its umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind
from tests.support.nodes.sync_nodes import Nodes, post, start, sync


@pytest.mark.parametrize("kind", ["container", "function"])
def test_nodes_create_no_file_that_another_user_can_read(tmp_path: Path, kind: Kind) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = os.umask(0)
    try:
        with Nodes(tmp_path / "nodes") as nodes:
            nodes.folder.mkdir()
            env = {"TMPDIR": str(temporary), "SQLITE_TMPDIR": str(temporary)}
            slave = nodes.make_slave("slave", kind, **env)
            master = nodes.make_master({"slave": slave.url}, kind, **env)
            start(slave, master)
            assert len(post(slave, range(3), size=2 * 2**20)) == 3
            assert sync(master).status == 200
            modes = read_modes(nodes.folder / "slave") | read_modes(nodes.folder / "master")
            modes |= read_modes(temporary)
    finally:
        os.umask(before)
    assert len(modes) > 10
    wide = {path: oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert wide.pop(str(temporary), None)  # made by this test
    assert wide == {}


def read_modes(folder: Path) -> dict[str, int]:
    paths = [folder, *folder.rglob("*")]
    return {str(path): stat.S_IMODE(path.stat().st_mode) for path in paths}
