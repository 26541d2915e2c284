"""The setting ``SOURCES``: whose webhooks must be signed, and whether one is.

It names, for each source (the last part of ``/webhook/<source>``), the scheme or the preset, and
the secret with which its sender signs; :mod:`.schemes` has the schemes, :mod:`.presets` the
presets. A preset also says how its provider's webhooks are identified; ``SOURCES_FILE`` may say
otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from portable_core.errors import SettingsError, Unauthorized
from portable_core.payload_hash.identity import DEFAULT_RULE, IdentityRule
from portable_core.sources.presets import PRESETS
from portable_core.sources.rows import SourceRow
from portable_core.sources.schemes import Headers, Scheme, parse_scheme

#: The entry for every source without its own.
ANY_SOURCE = "*"

_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Sources:
    """What is configured of sources.

    - ``entries``: the schemes of each source, of which any one admits a webhook.
    - ``secrets``: the secrets as the setting spells them.
    - ``rows``: how the webhooks of each source are identified, where that is not the default.
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

    def join(self, rows: Mapping[str, SourceRow]) -> Sources:
        """Return these sources with the rows of ``SOURCES_FILE`` in place of those of presets."""
        return replace(self, rows={**self.rows, **rows})

    def verify(self, source: str, headers: Headers, body: bytes, now_ms: int) -> None:
        """Return if a webhook to ``source`` has a right signature, or needs none.

        ``source`` is empty for ``/webhook`` itself. ``now_ms`` is the node's clock in milliseconds
        since the Unix epoch. Raises ``Unauthorized``, which names the fault.
        """
        schemes = self.entries.get(source) or self.entries.get(ANY_SOURCE) or ()
        faults: dict[str, None] = {}
        admitted = not schemes
        for scheme in schemes:  # all of them: the time must not show which one matched
            try:
                scheme.check(headers, body, now_ms)
                admitted = True
            except Unauthorized as fault:
                faults[str(fault)] = None
        if not admitted:
            raise Unauthorized("; ".join(faults))


def parse_sources(text: str) -> Sources:
    """Parse ``name=scheme:secret,name=scheme:secret``, the form of ``SOURCES``.

    A name may occur several times, with the same scheme or another: any match admits a webhook, so
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
        form, colon, secret = (part.strip() for part in rest.partition(":"))
        preset = PRESETS.get(form)
        if preset is not None:
            form = preset.signature
        try:
            scheme = parse_scheme(f"{form}{colon}{secret}")
        except ValueError as error:
            raise SettingsError(f"SOURCES: entry {number} {error}") from None
        if preset is not None and name != ANY_SOURCE:
            row = SourceRow(preset.rule, preset.secret_parameters)
            if rows.setdefault(name, row) != row:
                raise SettingsError(
                    f"SOURCES: entry {number} has a preset that identifies webhooks in another way "
                    "than an earlier entry of the same source"
                )
        entries[name] = (*entries.get(name, ()), scheme)
        secrets.append(secret)
    return Sources(entries, tuple(filter(None, secrets)), rows)


def is_source_name(text: str) -> bool:
    """Return whether a setting may name a source so. A lone ``-`` stands for no source."""
    return _SOURCE.fullmatch(text) is not None and text != "-"
