"""Extras of the distribution: which settings need one, and whether it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from portable_core.errors import SettingsError
from portable_core.settings import Settings


class _Extra(NamedTuple):
    """An extra of the distribution: the package it installs, and modules that need it."""

    name: str
    package: str
    modules: tuple[str, ...]


#: What needs an extra: kinds of store, kinds of ``SYNC_AUTH``, senders with published keys.
_STORE_EXTRAS = {
    "firestore": _Extra("firestore", "google-cloud-firestore", ("google.cloud.firestore_v1",))
}
_OIDC = _Extra("oidc", "google-auth[requests]", ("google.auth", "requests", "cryptography"))
_AUTH_EXTRAS = {"oidc": _OIDC}
_PUBLIC_KEYS = _Extra("public-keys", "cryptography", ("cryptography",))


def check_extras(settings: Settings) -> None:
    """Raise ``SettingsError`` if a setting needs a package that is not installed."""
    for error in find_missing_extras(settings):
        raise error


def find_missing_extras(settings: Settings) -> Iterator[SettingsError]:
    """Return an error for each setting that needs a package that is not installed."""
    needs = [("STORE", _STORE_EXTRAS.get(settings.store.kind.name))]
    needs += [("SYNC_AUTH", _AUTH_EXTRAS.get(kind)) for kind in settings.sync_auth]
    needs += [("SOURCES", _OIDC)] if settings.sources.key_addresses else []
    if any(log.key for log in settings.provider_logs.logs.values()):
        needs.append(("PROVIDER_LOGS", _PUBLIC_KEYS))
    for setting, extra in needs:
        if extra is not None and not all(map(_is_installed, extra.modules)):
            yield SettingsError(
                f"{setting}: needs the package {extra.package}, which is not installed. "
                f"Install webhook-sync[{extra.name}]."
            )


def _is_installed(module: str) -> bool:
    """Return whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
