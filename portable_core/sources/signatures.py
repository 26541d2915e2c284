"""The setting ``SOURCES``: whose webhooks must be signed, and what a source's requests become.

It names, for each source (the last part of ``/webhook/<source>``), the preset and the secret with
which its sender signs; :mod:`.presets` has the presets. A preset also says how its provider
verifies an address, what its bodies are, how its webhooks are identified, and what the response to
them is; ``SOURCES_FILE`` may say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from portable_core.errors import SettingsError
from portable_core.payload_hash.identity import DEFAULT_RULE, IdentityRule
from portable_core.sources.decision import (
    Decision,
    answer_handshake,
    check_signature,
    decide,
)
from portable_core.sources.handshakes import Answer
from portable_core.sources.jwt_signature import FindKey, JwtScheme
from portable_core.sources.request import Headers, SourceRequest
from portable_core.sources.rows import Scheme, SourceRow
from portable_core.sources.schemes import parse_scheme

#: The entry for every source without its own.
ANY_SOURCE = "*"

_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: The row of every source without its own.
PLAIN_ROW = SourceRow()


@dataclass(frozen=True, slots=True)
class Sources:
    """What is configured of sources.

    - ``entries``: the schemes of each source, of which any one admits a webhook.
    - ``secrets``: the secrets as the settings spell them.
    - ``rows``: what is known of each source, where that is not the default.
    """

    entries: Mapping[str, tuple[Scheme, ...]]
    secrets: tuple[str, ...] = field(default=(), repr=False)
    rows: Mapping[str, SourceRow] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """The sources with an entry of their own; an empty name is ``/webhook`` itself."""
        return frozenset(self.entries) - {ANY_SOURCE} | frozenset(self.rows)

    @property
    def rules(self) -> dict[str, IdentityRule]:
        """The identity rules that are not the default, by source."""
        return {name: row.rule for name, row in self.rows.items() if row.rule != DEFAULT_RULE}

    def row(self, source: str) -> SourceRow:
        """Return what is known of a source."""
        return self.rows.get(source, PLAIN_ROW)

    def schemes(self, source: str) -> tuple[Scheme, ...]:
        """Return the schemes of a source; none if it is open."""
        return self.entries.get(source) or self.entries.get(ANY_SOURCE) or ()

    def join(
        self,
        rows: Mapping[str, SourceRow],
        read_secret: Callable[[str], str] = lambda reference: reference,
    ) -> Sources:
        """Return these sources with the columns of ``SOURCES_FILE`` in place of those of presets.

        ``read_secret`` returns the secret of a reference, or raises ``ValueError``. Raises
        ``SettingsError``.
        """
        joined = dict(self.rows)
        entries, secrets = dict(self.entries), list(self.secrets)
        for source, row in rows.items():
            try:
                joined[source] = row = row.put_over(self.row(source))
            except ValueError as error:
                raise SettingsError(f"SOURCES_FILE: [{source}] {error}") from None
            for number, reference in enumerate(row.secrets, 1):
                try:
                    secret = read_secret(reference)
                    if row.form is None:
                        raise ValueError("has no signature that a secret could be for")
                    scheme = row.form.make(secret)
                except ValueError as error:
                    raise SettingsError(
                        f"SOURCES_FILE: [{source}] secrets: number {number} {error}"
                    ) from None
                entries[source] = (*entries.get(source, ()), scheme)
                secrets.append(secret)
        return replace(self, rows=joined, entries=entries, secrets=tuple(secrets))

    @property
    def key_addresses(self) -> frozenset[str]:
        """The addresses of the public keys with which senders sign JSON Web Tokens."""
        schemes = (scheme for each in self.entries.values() for scheme in each)
        keys = (s.form.columns.keys for s in schemes if isinstance(s, JwtScheme))
        return frozenset(filter(None, keys))

    def use_keys(self, find_key: FindKey) -> Sources:
        """Return these sources with public keys for JSON Web Tokens."""
        entries = {
            source: tuple(s.use_keys(find_key) if isinstance(s, JwtScheme) else s for s in schemes)
            for source, schemes in self.entries.items()
        }
        return replace(self, entries=entries)

    def decide(self, source: str, request: SourceRequest, now_ms: int) -> Decision:
        """Return what becomes of a request to ``source``, which is empty for ``/webhook`` itself.

        ``now_ms`` is the node's clock in milliseconds since the Unix epoch.
        """
        return decide(self.row(source), self.schemes(source), request, now_ms)

    def answer_handshake(self, source: str, request: SourceRequest) -> Answer | None:
        """Return the response to a handshake that is not signed; None for any other request.

        Raises ``BadRequest`` for an invalid handshake.
        """
        return answer_handshake(self.row(source), self.schemes(source), request, signed=False)

    def verify(self, source: str, headers: Headers, body: bytes, now_ms: int) -> None:
        """Return if a webhook to ``source`` has a right signature, or needs none.

        Raises ``Unauthorized``, which names the fault.
        """
        check_signature(self.schemes(source), SourceRequest(headers, body), now_ms)


def parse_sources(text: str) -> Sources:
    """Parse ``name=preset:secret,name=preset:secret``, the form of ``SOURCES``.

    A name may occur several times, with the same preset or another: any match admits a webhook, so
    that a secret can be rotated. An empty name stands for ``/webhook`` itself, ``*`` for every
    source without an entry; the scheme ``closed``, which has no secret, rejects all. A secret is
    any text without a comma; space around it does not count.

    Raises ``SettingsError``: one line that names ``SOURCES`` and the number of the entry. It quotes
    nothing, because text in the wrong place may be part of a secret.
    """
    entries: dict[str, tuple[Scheme, ...]] = {}
    secrets: list[str] = []
    rows: dict[str, SourceRow] = {}
    for number, entry in enumerate(text.split(","), 1):
        if not entry.strip():
            continue
        name, equals, rest = (part.strip() for part in entry.partition("="))
        if not equals or not (name in ("", ANY_SOURCE) or is_source_name(name)):
            raise SettingsError(
                f"SOURCES: entry {number} is not name=scheme:secret, with a name of 1 to 64 "
                "letters, digits, dots, dashes or underscores (not - alone) and a secret without "
                "commas"
            )
        try:
            row, scheme = parse_scheme(rest)
        except ValueError as error:
            raise SettingsError(f"SOURCES: entry {number} {error}") from None
        if name != ANY_SOURCE and row != PLAIN_ROW:
            try:
                rows[name] = rows.get(name, PLAIN_ROW).merge(row)
            except ValueError:
                raise SettingsError(
                    f"SOURCES: entry {number} has a preset that treats webhooks in another way "
                    "than that of an earlier entry of the same source"
                ) from None
        if scheme is not None:
            entries[name] = (*entries.get(name, ()), scheme)
            secrets.append(rest.partition(":")[2].strip())
    return Sources(entries, tuple(filter(None, secrets)), rows)


def is_source_name(text: str) -> bool:
    """Return whether a setting may name a source so. A lone ``-`` stands for no source."""
    return _SOURCE.fullmatch(text) is not None and text != "-"
