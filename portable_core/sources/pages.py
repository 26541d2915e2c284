"""What a person reads about presets: one section each, made from the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from portable_core.sources.handshakes import Handshake
from portable_core.sources.presets import Preset
from portable_core.sources.rows import SourceRow

NOT_VERIFIED = "not verified"
BY_SENDER = "depends on the sender"

_BODIES = {
    "object": "a JSON object",
    "json": "any JSON value",
    "form": "a form",
    "any": "any bytes",
}

_HEAD = """# Presets

Made from the table of presets (`portable_core/sources/presets.toml`); do not edit. Facts that
nothing verifies are left out and shown as *not verified*. [README.md](README.md) explains how to
connect a provider, and what to do for a sender that is not here.
"""


def write_document(presets: Mapping[str, Preset]) -> str:
    """Return the document of all presets in Markdown."""
    lines = [_HEAD, "| provider | preset | signature | handshake | body |", "| --- " * 5 + "|"]
    for preset in presets.values():
        handshake = "yes" if preset.row.handshakes else "none"
        lines.append(
            f"| [{preset.page.title}](#{preset.name}) | `{preset.form}` | "
            f"{_name_signature(preset.row)} | {handshake} | {_BODIES[preset.row.body]} |"
        )
    for preset in presets.values():
        lines += ["", f"## {preset.name}", "", f"{preset.page.title}.", ""]
        lines += (f"- **{name}**: {text}" for name, text in describe_preset(preset))
    return "\n".join(lines) + "\n"


def describe_preset(preset: Preset) -> Iterator[tuple[str, str]]:
    """Return what is known of a provider: pairs of a topic and a text in Markdown."""
    page, row = preset.page, preset.row
    yield "Setting", f"`SOURCES=NAME={preset.form}{':SECRET' if row.form else ''}`"
    unknown = BY_SENDER if page.any_sender else NOT_VERIFIED
    yield "At the provider", page.setup or unknown
    yield from describe_row(row)
    sources = (("Event", page.event_source), ("Id", page.id_source))
    yield from ((topic, unknown) for topic, source in sources if not source)
    yield "Addresses", page.addresses or unknown
    yield "Retries", page.retries or unknown
    yield "Log of deliveries", page.log or unknown
    yield "Facts from", page.facts
    yield "Signature verified by", page.vector
    yield from ((f"{topic} verified by", source) for topic, source in sources if source)


def describe_row(row: SourceRow) -> Iterator[tuple[str, str]]:
    """Return the columns of a row in words: pairs of a topic and a text in Markdown."""
    signature = "none: every request is accepted" if row.form is None else row.form.describe()
    yield "Signature", f"`{signature}`" if row.form else signature
    if row.form is not None and row.form.needs_url:
        yield "Signed address", "needs `PUBLIC_URL`"
    yield "Handshake", "; ".join(map(_describe_handshake, row.handshakes)) or "none"
    yield "Body", _BODIES[row.body]
    yield "Identity", f"`{row.rule.text}`" if row.rule.text else "the default"
    for topic, values in (("Event", row.event), ("Id", row.id)):
        if values:
            yield topic, " or ".join(f"`{value}`" for value in values)
    response = row.response
    if response is not None:
        body = f"`{response.body.decode()}`" if response.body else "no body"
        yield "Response", f"{response.status}, {response.type or 'no type'}, {body}"


def _name_signature(row: SourceRow) -> str:
    return "none" if row.form is None else type(row.form).__name__.removesuffix("Form").lower()


def _describe_handshake(handshake: Handshake) -> str:
    columns = handshake.columns
    conditions = _join(
        name if text == "*" else f"{name} = {text}" for name, text in columns.when.items()
    )
    request = f"{' or '.join(columns.methods)}{' with ' + conditions if conditions else ''}"
    return f"{'signed ' if columns.signed else ''}{request}: {columns.status}"


def _join(texts: Iterable[str]) -> str:
    return " and ".join(f"`{text}`" for text in texts)
