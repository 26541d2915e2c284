"""``webhook-sync sources``: presets, configured sources, and why a captured request is refused."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.captured_request import Captured, parse_request
from portable_core.cli.configured_sources import add_keys, check_source_name, read_sources
from portable_core.cli.options import MOMENT, examples
from portable_core.cli.output import printable
from portable_core.errors import BadRequest, MalformedPayload, SettingsError
from portable_core.ingest.identifier import Identifier
from portable_core.records import Meta
from portable_core.sources.decision import Refuse
from portable_core.sources.handshakes import Answer
from portable_core.sources.pages import describe_preset, describe_row
from portable_core.sources.presets import PRESETS
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import SourceRow
from portable_core.sources.signatures import Sources

_LIST = ("webhook-sync sources list", "webhook-sync sources list --presets")
_SHOW = ("webhook-sync sources show github", "webhook-sync sources show slack")
_CHECK = (
    "webhook-sync sources check hub request.http",
    "webhook-sync sources check hub request.http --at 2026-01-31T09:05",
)


@click.group(
    "sources",
    short_help="Show presets and configured sources; check a captured request.",
    epilog=examples(_LIST[0], _SHOW[0], _CHECK[0]),
)
def sources_command() -> None:
    """Show presets and configured sources; check a captured request.

    The sources are those of SOURCES and SOURCES_FILE in the environment. No secret is printed.
    """


@sources_command.command(
    "list", short_help="List the configured sources, or the presets.", epilog=examples(*_LIST)
)
@click.option("--presets", is_flag=True, help="List the presets instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one source or preset per line.")
def list_command(presets: bool, as_json: bool) -> None:
    """List the sources that the environment configures, without their secrets."""
    if presets:
        rows = [
            {"preset": preset.form, "provider": preset.page.title} | _describe_row(preset.row)
            for preset in PRESETS.values()
        ]
        shown: tuple[str, ...] = ("preset", "provider", "signature")
    else:
        sources = read_sources().sources
        names = sorted({*sources.names, *sources.entries})
        rows = [{"source": name, **_describe_source(sources, name)} for name in names]
        shown = ("source", "entries", "signature", "handshake", "body", "identity")
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = Table()
    for name in shown:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(printable(row.get(name, "")) for name in shown))
    if rows:
        Console(markup=False, emoji=False).print(table)
    if not presets:
        click.echo(
            f"{len(rows)} sources are configured. Every other source is "
            f"{'held to *' if '*' in sources.entries else 'open'}."
        )


def _describe_source(sources: Sources, name: str) -> dict[str, str]:
    schemes = sources.entries.get(name, ())
    row = sources.row(name)
    texts = _describe_row(row)
    texts["signature"] = "; ".join(dict.fromkeys(s.describe() for s in schemes)) or "not verified"
    return {"entries": str(len(schemes)), **texts}


def _describe_row(row: SourceRow) -> dict[str, str]:
    return {topic.lower(): text.replace("`", "") for topic, text in describe_row(row)}


@sources_command.command("show", short_help="Show a preset.", epilog=examples(*_SHOW))
@click.argument("preset")
def show_command(preset: str) -> None:
    """Show what is known of a provider: signature, handshake, identity, what to enter where."""
    found = PRESETS.get(preset)
    if found is None:
        raise BadRequest(
            f"preset: {preset[:60]!r} is not known. webhook-sync sources list --presets lists them."
        )
    click.echo(found.page.title)
    for name, text in describe_preset(found):
        click.echo(f"{name:<22} {text.replace('`', '')}")


@sources_command.command(
    "check", short_help="Check a captured request against a source.", epilog=examples(*_CHECK)
)
@click.argument("source")
@click.argument("file", type=click.Path(allow_dash=True))
@click.option(
    "--at",
    type=MOMENT,
    help="Time at which the request came, for signatures with a time. Now by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(source: str, file: str, at: int | None, as_json: bool) -> None:
    """Report whether a captured request is a webhook of SOURCE, and why not.

    FILE is a request as HTTP/1.1 sends it: request line, headers, an empty line, the body; "-" is
    standard input. Exit code 1 if the request is refused.
    """
    configured = read_sources()
    check_source_name(configured, source)
    captured = parse_request(_read(file))
    now_ms = round(time.time() * 1000) if at is None else at
    url = ""
    if configured.public_url:
        url = f"{configured.public_url}{captured.path}"
        url += f"?{captured.query}" if captured.query else ""
    request = SourceRequest(
        captured.read_headers, captured.body, captured.method, captured.query, url
    )
    report = _check(add_keys(configured), source, captured, request, now_ms)
    if as_json:
        click.echo(json.dumps(report))
    else:
        for name, text in report.items():
            click.echo(f"{name:<10} {printable(text, keep=chr(10))}")
    sys.exit(1 if report["decision"] == "refused" else 0)


def _check(
    sources: Sources, source: str, captured: Captured, request: SourceRequest, now_ms: int
) -> dict[str, str]:
    decision = sources.decide(source, request, now_ms)
    if isinstance(decision, Refuse):
        return {"decision": "refused", "reason": str(decision.error)}
    if isinstance(decision, Answer):
        body = decision.body.decode("utf-8", "replace")
        return {"decision": "handshake", "status": str(decision.status), "body": body}
    if captured.method != "POST":
        return {"decision": "refused", "reason": f"{captured.method} is not a webhook"}
    row = sources.row(source)
    try:
        meta = Meta(source, captured.first_headers, captured.query)
        found = Identifier("crc32c", b"", {source: row.rule}).identify(captured.body, meta)
    except MalformedPayload as error:
        return {"decision": "refused", "reason": f"{error.title}: {error}"}
    verified = "admitted" if sources.schemes(source) else "admitted, not verified"
    return {"decision": verified, "key": found.meta.key, "identity": row.rule.text or "default"}


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{printable(file)}: cannot be read: {error.strerror}") from error
