"""Where the container's server listens: names, addresses, both families; and alone."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from threading import Timer

import pytest
from click.testing import CliRunner

from portable_core.adapters.edge import server
from portable_core.cli.main import main
from tests.support.nodes.sync_nodes import Nodes, start


def serve(host: str, port: int) -> str:
    """What it says, in one line, when it does not serve."""
    env = {"PORT": str(port), "SYNC_TOKENS": "secret", "STORE": "memory:"}
    result = CliRunner().invoke(main, ["serve", "--role", "slave", "--host", host], env=env)
    assert result.exit_code == 1, result.output
    (line,) = result.output.splitlines()
    return line


@pytest.mark.parametrize("host", ["nohost.invalid", "127.0.0.1:80"])
def test_a_host_that_cannot_be_found_is_refused(host: str) -> None:
    assert serve(host, 0).startswith(f"Error: HOST: cannot listen on {host}, port 0: ")


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("", ["127.0.0.1", "::1"]),
    ],
)
def test_names_and_both_families_are_listened_on(host: str, addresses: list[str]) -> None:
    sockets = server.open_sockets(host, 0)
    try:
        port = sockets[0].getsockname()[1]
        for address in addresses:
            socket.create_connection((address, port), 5).close()
    finally:
        for sock in sockets:
            sock.close()


def test_an_address_of_another_machine_is_refused() -> None:
    assert "cannot listen on 192.0.2.1, port 0" in serve("192.0.2.1", 0)


def test_no_port_is_shared_with_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PORT_S", 0.2)
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave-1")
        start(slave)
        said = serve("127.0.0.1", slave.port)
    assert said == (
        f"Error: PORT: cannot listen on 127.0.0.1, port {slave.port}: "
        f"{os.strerror(errno.EADDRINUSE)}"
    )


def test_a_port_that_is_being_left_is_waited_for() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    timer = Timer(0.5, listener.close)
    timer.start()
    for sock in server.open_sockets("127.0.0.1", port):
        sock.close()
    timer.join()
    assert listener.fileno() == -1


def test_the_port_of_the_command_has_precedence() -> None:
    env = {"PORT": "1", "SYNC_TOKENS": "secret", "STORE": "memory:"}
    command = ["serve", "--role", "slave", "--host", "192.0.2.1", "--port"]
    result = CliRunner().invoke(main, [*command, "8123"], env=env)
    assert "cannot listen on 192.0.2.1, port 8123" in result.output
    result = CliRunner().invoke(main, [*command, "x"], env=env)
    assert (result.exit_code, "PORT: " in result.output) == (1, True)
