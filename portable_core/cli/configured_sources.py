"""The sources that the environment configures, for commands that need no node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from portable_core.errors import SettingsError
from portable_core.settings import SETTINGS
from portable_core.sources.signatures import Sources
from portable_core.sources.source_file import make_secret_reader

_READ = ("SOURCES", "SOURCES_FILE", "PUBLIC_URL", "CA_FILE")


@dataclass(frozen=True, slots=True)
class Configured:
    """What a node with these settings knows of senders."""

    sources: Sources
    public_url: str
    ca_file: str


def read_sources(env: Mapping[str, str] = os.environ) -> Configured:
    """Return what the settings of :data:`_READ` say. Raises ``SettingsError``.

    The other settings are not read: a command that checks a signature needs no token.
    """
    rows = {row.name: row for row in SETTINGS}
    values = {name: rows[name].read(env, "slave") for name in _READ}
    sources: Sources = values["SOURCES"].join(values["SOURCES_FILE"], make_secret_reader(env))
    return Configured(sources, values["PUBLIC_URL"], values["CA_FILE"])


def add_keys(configured: Configured) -> Sources:
    """Return the sources with the public keys of their senders, fetched when first needed.

    Raises ``SettingsError`` if that needs a package that is not installed.
    """
    sources = configured.sources
    if not sources.key_addresses:
        return sources
    try:
        from portable_core.adapters.authentication.source_keys import SourceKeys
        from portable_core.adapters.http.tls import make_tls
    except ImportError as error:
        raise SettingsError(
            f"SOURCES: needs the package {error.name}, which is not installed. Install "
            "webhook-sync[oidc]."
        ) from error
    tls = make_tls(configured.ca_file)
    return sources.use_keys(SourceKeys(sources.key_addresses, tls=tls).find)


def check_source_name(configured: Configured, source: str) -> None:
    """Raise ``SettingsError`` for a source that no setting names."""
    names = configured.sources.names
    if source not in names:
        known = ", ".join(sorted(name or '""' for name in names)) or "no sources"
        raise SettingsError(
            f"SOURCES: has no source {source[:60]!r} (it has {known}). Set SOURCES or SOURCES_FILE "
            "as the node has it."
        )
