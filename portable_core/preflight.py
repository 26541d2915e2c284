"""Check the settings and the store of a node without starting it: ``webhook-sync serve --check``.

Nothing is written, locked or listened on, so a node with the same settings may be running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from portable_core.adapters.authentication.tokens import build_guard
from portable_core.adapters.edge.server import find_host
from portable_core.adapters.http.tls import make_tls
from portable_core.errors import SettingsError
from portable_core.extras import find_missing_extras
from portable_core.ingest.receiver import name_algorithm
from portable_core.settings import Role, Settings


class Findings(NamedTuple):
    """Lines of text: what would keep a node from starting, and the warnings of its start."""

    faults: list[str]
    warnings: list[str]


def check_node(role: Role, env: Mapping[str, str], host: str | None) -> Findings:
    """Return what would be wrong with a node that is started like this."""
    settings, errors = Settings.examine(role, env)
    try:
        find_host(host or (settings.host if settings is not None else ""))
    except SettingsError as error:
        errors.append(error)
    if settings is None:
        return Findings([*map(str, errors)], [])
    errors += find_missing_extras(settings)
    try:
        make_tls(settings.ca_file)
    except SettingsError as error:
        errors.append(error)
    findings = Findings([*map(str, errors)], [*settings.warnings])
    if findings.faults:
        return findings
    findings.warnings.extend(filter(None, [build_guard(settings).warning]))
    _STORE_CHECKS[settings.store.kind.name](settings, findings)
    return findings


def _check_memory(settings: Settings, findings: Findings) -> None:
    pass


def _check_sqlite(settings: Settings, findings: Findings) -> None:
    from portable_core.adapters.sqlite.preview import check_folder

    faults, warnings = check_folder(settings.store.path, name_algorithm(settings))
    findings.faults.extend(faults)
    findings.warnings.extend(warnings)


def _check_firestore(settings: Settings, findings: Findings) -> None:
    from portable_core.adapters.firestore.preview import check_database

    project, _, database = settings.store.path.partition("/")
    findings.faults.extend(check_database(project, database, name_algorithm(settings)))


#: By the kind's name: one check for each row of :data:`.STORE_KINDS`.
_STORE_CHECKS: Mapping[str, Callable[[Settings, Findings], None]] = {
    "memory": _check_memory,
    "sqlite": _check_sqlite,
    "firestore": _check_firestore,
}
