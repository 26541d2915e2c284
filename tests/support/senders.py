"""Requests of real senders: the vectors of ``tests/vectors/providers``, and sent secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from portable_core.adapters.authentication.source_keys import read_jwk_set
from portable_core.sources.presets import PRESETS
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import SourceRow
from portable_core.sources.schemes import parse_scheme
from portable_core.sources.static_secret import TokenForm

VECTORS = Path(__file__).parents[1] / "vectors" / "providers"

#: Where ``{url}`` is signed, vectors were made for this address and the source ``s``.
PUBLIC_URL = "https://hooks.example.com"


@dataclass(frozen=True)
class Sent:
    """A request as a provider sends it to the source ``s``, with the secret of the source.

    ``now_s`` is the time of signing; 0 where no time is signed. ``keys`` are the public keys that
    the provider publishes, as PEM by key ID.
    """

    preset: str
    secret: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    query: str = ""
    now_s: int = 0
    method: str = "POST"
    repeated: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> SourceRequest:
        """The request; the header that ``repeated`` names comes twice."""
        named = {name.lower(): value for name, value in self.headers.items()}

        def read(name: str) -> list[str]:
            values = [named[name.lower()]] if name.lower() in named else []
            return values * (2 if name.lower() == self.repeated.lower() else 1)

        query = f"?{self.query}" if self.query else ""
        url = f"{PUBLIC_URL}/webhook/s{query}"
        return SourceRequest(read, self.body, self.method, self.query, url)


def load_vectors(name: str) -> tuple[str, list[dict[str, Any]]]:
    """The origin and the vectors of a preset; no vectors if there is no file."""
    path = VECTORS / f"{name.partition('@')[0]}.json"
    if not path.exists():
        return "", []
    document = json.loads(path.read_text())
    return document["origin"], document["vectors"]


def from_vector(preset: str, vector: Mapping[str, Any]) -> Sent:
    return Sent(
        preset,
        vector["secret"],
        vector["headers"],
        vector["body"].encode(),
        vector.get("query", ""),
        vector.get("now_s", 0),
        keys=read_jwk_set(json.dumps(vector["keys"]).encode()) if "keys" in vector else {},
    )


def send(name: str, row: SourceRow) -> Sent:
    """A request that the preset admits: its vector, or one with its secret."""
    _, vectors = load_vectors(name)
    if vectors:
        return from_vector(name, vectors[0])
    form = row.form
    kinds = {"form": "application/x-www-form-urlencoded", "any": "text/xml"}
    kind = {"Content-Type": kinds.get(row.body, "application/json")}
    bodies = {"form": b"type=subscribe&id=1", "json": b'[{"id":1}]', "any": b"<a/>"}
    sent = Sent(name, "", kind, bodies.get(row.body, b'{"id":1}'))
    if form is None:
        return sent
    assert isinstance(form, TokenForm)  # the other forms have vectors
    secret = "user:pass-word" if form.columns.basic else "pass-word"
    sent = replace(sent, secret=secret)
    if form.read.place == "query":
        return replace(sent, query=f"{form.read.name}={secret}")
    if form.read.place == "body":
        return replace(sent, body=json.dumps({"value": [{"clientState": secret}]}).encode())
    return replace(sent, headers={**kind, **form.make(secret).sign(sent.request, 0, "m")})


def list_rows() -> Iterator[tuple[str, SourceRow]]:
    """The rows of all presets by the name in ``SOURCES``, which may end with a header."""
    for preset in PRESETS.values():
        name = f"{preset.name}@X-Signature" if preset.parameter else preset.name
        yield name, parse_scheme(f"{name}:secret")[0] if preset.parameter else preset.row


ROWS = dict(list_rows())
EVERY_SENDER = {name: send(name, row) for name, row in ROWS.items()}

#: By name: the presets without a parameter.
SENDERS = {name: sent for name, sent in EVERY_SENDER.items() if name in PRESETS}
