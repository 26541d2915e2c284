"""The proxies of docs/load-balancers.md, with the configuration that stands there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from portable_core.demo.processes import find_free_port
from tests.support.missing import give_up

_PAGE = Path(__file__).parents[3] / "docs" / "load-balancers.md"

_NGINX = """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{block}
}}
"""
_CADDY = """
{{
    admin off
    auto_https off
}}
{block}
"""

#: By the language of the block: what surrounds it, and the arguments of the program.
_PROGRAMS = {
    "nginx": ("nginx", _NGINX, ("-c", "{file}")),
    "haproxy": ("haproxy", "{block}\n", ("-db", "-f", "{file}")),
    "caddyfile": ("caddy", _CADDY, ("run", "--adapter", "caddyfile", "--config", "{file}")),
}
PROXIES = tuple(_PROGRAMS)


def read_block(language: str) -> str:
    """Return the configuration for a proxy that the documentation shows."""
    match = re.search(rf"^```{language}\n(.*?)^```", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None, f"{_PAGE} has no block {language}"
    return match[1]


@contextlib.contextmanager
def run_proxy(language: str, folder: Path, node_port: int) -> Iterator[str]:
    """Return the address of a proxy in front of the node on a port of this machine."""
    port = find_free_port()
    block = read_block(language).replace("10.0.0.5:8080", f"127.0.0.1:{node_port}")
    for listening, here in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("bind :80\n", f"bind 127.0.0.1:{port}\n"),
        (":80 {", f"http://127.0.0.1:{port} {{"),
    ):
        block = block.replace(listening, here)
    with start_proxy(language, folder, block, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def start_proxy(language: str, folder: Path, block: str, port: int) -> Iterator[None]:
    """Run a proxy with this configuration, which listens on the port."""
    name, frame, arguments = _PROGRAMS[language]
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if program is None:
        give_up(f"{name} is not installed")
    folder.mkdir()
    file = folder / "configuration"
    file.write_text(frame.format(folder=folder, block=block))
    process = subprocess.Popen(
        [program, *(argument.format(file=file) for argument in arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    try:
        _wait_until_open(port, process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the proxy has ended"
            assert time.monotonic() < deadline, "the proxy does not listen"
            time.sleep(0.05)
