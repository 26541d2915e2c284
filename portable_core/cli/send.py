"""``webhook-sync send``: send a signed sample to a node, as the provider of a source would."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import click

from portable_core.cli.configured_sources import Configured, check_source_name, read_sources
from portable_core.cli.master_client import make_opener
from portable_core.cli.options import NodeSilent, examples
from portable_core.cli.output import printable
from portable_core.errors import BadRequest, SettingsError
from portable_core.sources.request import FORM, SourceRequest

TIMEOUT_S = 30.0

#: The longest response that is read.
_RESPONSE_BYTES = 64 * 1024


@click.command(
    "send",
    short_help="Send a signed sample of a source to a node.",
    epilog=examples(
        "webhook-sync send hub",
        "webhook-sync send hub --node https://alpha.example.com --body event.json",
    ),
)
@click.argument("source")
@click.option(
    "--node",
    metavar="URL",
    envvar="NODE_URL",
    show_envvar=True,
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Address of the node, without /webhook.",
)
@click.option("--body", "file", type=click.Path(), help="File with the body. A sample by default.")
@click.option("--type", "kind", help="Content-Type. That of the source by default.")
def send_command(source: str, node: str, file: str | None, kind: str | None) -> None:
    """Send a webhook to SOURCE with the signature of its provider, made with its first secret.

    The source is one of SOURCES or SOURCES_FILE in the environment. Exit code 1 if the node does
    not accept the webhook, 3 without a response.
    """
    configured = read_sources()
    check_source_name(configured, source)
    row = configured.sources.row(source)
    default, sample = _make_sample(row.body)
    body = sample if file is None else _read(file)
    headers = {"Content-Type": kind or default, "User-Agent": "webhook-sync-send"}
    path = f"/webhook/{source}" if source else "/webhook"
    headers |= _sign(configured, source, path, headers, body)
    request = urllib.request.Request(  # noqa: S310  # make_opener has HTTP and HTTPS alone
        f"{node.rstrip('/')}{path}", body, headers, method="POST"
    )
    status, response = _exchange(request)
    click.echo(f"{status} {printable(response.decode('utf-8', 'replace'))}")
    sys.exit(0 if 200 <= status < 300 else 1)


def _sign(
    configured: Configured, source: str, path: str, headers: dict[str, str], body: bytes
) -> dict[str, str]:
    named = {name.lower(): value for name, value in headers.items()}

    def read(name: str) -> list[str]:
        return [named[name.lower()]] if name.lower() in named else []

    request = SourceRequest(read, body, url=f"{configured.public_url}{path}")
    for scheme in configured.sources.schemes(source)[:1]:
        try:
            return scheme.sign(request, int(time.time()), f"msg_{uuid.uuid4().hex}")
        except ValueError as error:
            raise BadRequest(f"source: {source!r} {error}. No sample can be sent.") from None
    return {}


def _make_sample(kind: str) -> tuple[str, bytes]:
    """Return the type and the bytes of a body that no other sample has."""
    unique = uuid.uuid4().hex
    if kind == "form":
        return FORM, f"event=sample&id={unique}".encode()
    if kind == "any":
        return "text/xml", f"<sample id='{unique}'/>".encode()
    text = f'{{"event":"sample","id":"{unique}"}}'
    return "application/json", (f"[{text}]" if kind == "json" else text).encode()


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"--body: {printable(file)}: {error.strerror}") from error


def _exchange(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with make_opener().open(request, timeout=TIMEOUT_S) as response:
            return response.status, response.read(_RESPONSE_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_RESPONSE_BYTES)
    except (OSError, ValueError) as error:
        raise NodeSilent(f"{request.full_url}: {getattr(error, 'reason', error)}") from error
