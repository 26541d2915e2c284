"""A webhook is deleted by the command, on a running master and on its running slave."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from portable_core.cli.main import main
from tests.support.nodes.sync_nodes import TOKEN, Nodes, post, start, sync


def run(master: str, *arguments: str) -> Result:
    arguments = ("webhooks", *arguments, "--master", master)
    return CliRunner().invoke(main, arguments, env={"SYNC_TOKENS": TOKEN})


def test_a_webhook_is_deleted_everywhere(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("alpha", SPAN_S="1")
        start(slave)
        post(slave, range(3), size=50)
        master = nodes.make_master({"alpha": slave.url}, SPAN_S="1")
        start(master)
        while len(listed := run(master.url, "list").stdout.splitlines()) < 3:
            assert sync(master).status == 200
        webhook = listed[1].split()[0]
        done = run(master.url, "delete", webhook)
        assert done.stdout == f"{webhook}: deleted\n"
        assert run(master.url, "delete", webhook).stdout == f"{webhook}: was deleted before\n"
        assert run(master.url, "show", webhook).exit_code == 1
        assert run(master.url, "delete", "1-1").exit_code == 1
        assert sync(master).status == 200
        slave.stop()
        master.stop()
        for node in (slave, master):
            numbers = [record.payload[:12] for record in nodes.read(node)]
            assert numbers == [b'{"number":0,', b'{"number":2,']
