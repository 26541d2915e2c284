"""A webhook as a command: a real shell and a real curl send the same request."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from portable_core.records import Meta, Pair, Record
from portable_core.webhooks.copying import format_curl
from tests.support.missing import give_up
from tests.support.nodes.receivers import ReplayTarget, run_receiver


@pytest.fixture(scope="module")
def receiver() -> Iterator[ReplayTarget]:
    if shutil.which("curl") is None:
        give_up("no curl: run `apt-get install curl`")
    with run_receiver(lambda body: 204) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({"content-type": "application/json", "x-a": 'it\'s "$HOME" `id` \\'}, b'{"a":"it\'s"}'),
        ({"content-type": "application/json", "x-empty": ""}, '{"ü": "\\n $(id) [1-3]"}'.encode()),
        ({"x-a": "b"}, b"@/etc/hostname"),
        ({"x-a": "b", "content-length": "3", "host": "evil.example"}, b"\x00\xff\r\n'\x1b[2J"),
        ({}, b"two\n\tlines\n"),
        ({}, b""),
    ],
)
def test_curl_sends_the_same(
    receiver: ReplayTarget, headers: dict[str, str], payload: bytes
) -> None:
    meta = Meta("shop", headers, "a=%27&b=[1]{2}'")
    command = format_curl(Record(Pair(1, 2), payload, meta))
    url, _, rest = command.partition("\n")
    assert url == "URL=http://127.0.0.1:9000/"
    receiver.taken.clear()
    subprocess.run(
        ["sh", "-c", f"URL={receiver.url}\n{rest} --silent --fail"], check=True, timeout=20
    )
    ((sent, body),) = receiver.taken
    assert body == payload
    own = ("content-length", "host")
    assert {n: sent.get(n) for n in headers if n not in own} == {
        n: v for n, v in headers.items() if n not in own
    }
    assert ("content-type" in sent) == ("content-type" in headers)
    assert sent["host"] != "evil.example"
