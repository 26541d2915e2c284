"""The settings of a node: read once from a mapping of strings (the environment), then frozen.

:mod:`portable_core.settings_table` has the rows. Here are the checks that concern several of them.
An invalid or missing setting raises :class:`SettingsError` with one line that begins with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import TypeVar

from portable_core.errors import SettingsError
from portable_core.payload_hash.algorithms import check_algorithm
from portable_core.settings_names import find_misspelt, find_related, is_service_address
from portable_core.settings_reader import Network, Role, Setting, SlaveAddress, is_node_name
from portable_core.settings_table import MAX_BODY_BYTES, Ack, SettingsTable
from portable_core.sources.delivery_logs import DeliveryLogs
from portable_core.sources.kept_headers import KeptParts
from portable_core.sources.signatures import Sources
from portable_core.sources.source_file import make_secret_reader
from portable_core.store_kinds import STORE_KINDS, StoreAddress

__all__ = [
    "MAX_BODY_BYTES",
    "SETTINGS",
    "Ack",
    "Network",
    "Role",
    "Setting",
    "Settings",
    "SlaveAddress",
    "StoreAddress",
    "is_node_name",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SettingsTable):
    """All settings of one node. ``warnings`` are for the log of the process that starts it."""

    role: Role
    warnings: tuple[str, ...] = ()

    @property
    def ephemeral(self) -> bool:
        """Whether the store ends with its process or, which the settings accept, its instance."""
        kind = self.store.kind
        accepted = bool(self.hand_over) or self.allow_ephemeral
        return not kind.outlives_process or (accepted and not kind.outlives_instance)

    @classmethod
    def from_env(cls, role: Role, env: Mapping[str, str]) -> Settings:
        """Return the settings of a node of this role. Raises :class:`SettingsError`."""
        settings, faults = cls.examine(role, env)
        if settings is None:
            raise faults[0]
        return settings

    @classmethod
    def examine(
        cls, role: Role, env: Mapping[str, str]
    ) -> tuple[Settings | None, list[SettingsError]]:
        """Return the settings; or None, and what is wrong with them, in the order to correct it."""
        injected = [name for name in _NAMES if is_service_address(name, env.get(name, ""))]
        given = {name: value for name, value in env.items() if name not in injected}
        faults: list[SettingsError] = []

        def attempt(step: Callable[..., T], *arguments: object) -> T | None:
            try:
                return step(*arguments)
            except SettingsError as error:
                faults.append(error)
                return None

        known = SimpleNamespace(role=role)
        for name, row in _ROWS.items():
            setattr(known, name, attempt(row.read, given, role))
        others = known.other_variables or ()
        names = [name for name in given if name not in _OLD_NAMES and name not in others]
        faults[:0] = _find_misspelt(names)
        if faults:
            return None, faults
        for name, row in _ROWS.items():
            setattr(known, name, attempt(row.complete, getattr(known, name), known))
        if faults:
            return None, faults
        read_secret = make_secret_reader(given)
        known.sources = attempt(known.sources.join, known.sources_file, read_secret)
        if role == "master":
            known.provider_logs = attempt(_resolve_logs, known.provider_logs, read_secret)
        if faults:
            return None, faults
        warnings = (
            *map(_describe_injected, injected),
            *_find_warnings(role, given, names),
            *_find_unsigned(known.sources),
            *_find_plain_logs(known.provider_logs),
        )
        settings = cls(warnings=warnings, **vars(known))
        for check in _CHECKS:
            attempt(check, settings)
        return (None if faults else settings), faults

    def secrets(self) -> frozenset[str]:
        """Return every secret in these settings, as it would occur in a text."""
        return frozenset(
            secret
            for name, row in _ROWS.items()
            if row.secret
            for secret in _find_secrets(getattr(self, name))
            if secret
        )


#: By the field's name.
_ROWS: dict[str, Setting] = {
    item.name: item.metadata["setting"] for item in fields(Settings) if item.metadata
}

SETTINGS: tuple[Setting, ...] = tuple(_ROWS.values())


_NAMES = frozenset(row.name for row in SETTINGS)
_OLD_NAMES = frozenset(row.formerly for row in SETTINGS if row.formerly)


def _find_misspelt(names: Iterable[str]) -> Iterator[SettingsError]:
    for name, meant in find_misspelt(names, _NAMES).items():
        yield SettingsError(
            f"{_quote(name)}: is not a setting; {meant} is. Correct the name, or add it to "
            "OTHER_VARIABLES if it belongs to another program."
        )


def _quote(name: str) -> str:
    """Return a name of the environment as one printable line."""
    return ascii(name)[1:-1]


def _describe_injected(name: str) -> str:
    return (
        f"{name}: ignored, because its value is the address of a service, as Kubernetes sets it. "
        "Set enableServiceLinks to false in the pod."
    )


def _find_warnings(role: Role, env: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    for row in SETTINGS:
        if row.is_renamed_in(env):
            yield (
                f"{row.formerly}: this setting is called {row.name} now, and the next release "
                "ignores the old name. Rename it."
            )
        if row.role not in (None, role) and row.is_set_in(env):
            yield f"{row.name}: has no effect on a {role}. Remove it."
    for name in find_related(names, _NAMES):
        yield (
            f"{_quote(name)}: is not a setting and has no effect. Remove it, or add it to "
            "OTHER_VARIABLES if it belongs to another program."
        )


def _find_unsigned(sources: Sources) -> Iterator[str]:
    for name, row in sources.rows.items():
        if row.form is not None and not sources.schemes(name):
            yield (
                f"SOURCES_FILE: [{name}] has a signature and no secret, so its webhooks are not "
                "verified. Add secrets, or an entry in SOURCES."
            )


def _resolve_logs(logs: DeliveryLogs, read_secret: Callable[[str], str]) -> DeliveryLogs:
    try:
        return logs.resolve(read_secret)
    except ValueError as error:
        raise SettingsError(f"PROVIDER_LOGS: {error}") from None


def _find_plain_logs(logs: DeliveryLogs) -> Iterator[str]:
    for log in logs.logs.values():
        if log.is_exposed:
            yield (
                f"PROVIDER_LOGS: {log.name} sends its token to {log.base} without encryption. Use "
                "https://."
            )


def _find_secrets(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case bytes():
            yield value.decode()
        case Sources() | DeliveryLogs():
            yield from value.secrets
        case Mapping():
            yield from value.values()
        case tuple():
            yield from value
        case _:
            raise TypeError(f"no secret can be found in a {type(value).__name__}")


# -- checks that concern several settings ----------------------------------------------------------


def _check_times(settings: Settings) -> None:
    if settings.commit_timeout_ms > settings.span_ms // 4:
        raise SettingsError(
            f"COMMIT_TIMEOUT_S: must be at most a quarter of SPAN_S "
            f"(got {settings.commit_timeout_ms / 1000:g})"
        )
    if settings.linger_ms > settings.commit_timeout_ms // 2:
        raise SettingsError(
            f"LINGER_MS: must be at most half of COMMIT_TIMEOUT_S (got {settings.linger_ms})"
        )
    if settings.ack == "buffered" and settings.flush_interval_ms >= settings.span_ms:
        raise SettingsError(
            "FLUSH_INTERVAL_S: must be shorter than SPAN_S with ACK=buffered, or a sync fetches "
            f"webhooks that wait here (got {settings.flush_interval_ms / 1000:g})"
        )


def _check_sources(settings: Settings) -> None:
    kept = KeptParts(settings.keep_headers, settings.keep_credential_headers, settings.sources.rows)
    for source, rule in settings.sources.rules.items():
        for name in rule.headers:
            if not kept.headers(source)(name):
                raise SettingsError(
                    f"SOURCES_FILE: the identity rule of {source!r} reads the header {name!r}, "
                    "which is a secret and not kept"
                )


def _check_public_url(settings: Settings) -> None:
    for source, schemes in settings.sources.entries.items():
        if not settings.public_url and any(scheme.needs_url for scheme in schemes):
            raise SettingsError(
                f"PUBLIC_URL: missing. Set the address of this node as the sender of {source!r} "
                "knows it: its signature covers the address."
            )


def _check_hash_key(settings: Settings) -> None:
    check_algorithm(settings.hash).check_key(settings.hash_key)


def _check_authentication(settings: Settings) -> None:
    if "token" in settings.sync_auth and not settings.sync_tokens:
        raise SettingsError(
            "SYNC_TOKENS: missing. Set the token that master and slaves share; only where nothing "
            "else can reach the nodes, SYNC_AUTH=none works without."
        )
    if "oidc" in settings.sync_auth and not settings.oidc_audience:
        raise SettingsError(
            "OIDC_AUDIENCE: missing. Set the audience for which callers request tokens, usually "
            "the address of this node."
        )
    if "oidc" in settings.sync_auth and not settings.oidc_accounts:
        raise SettingsError(
            "OIDC_ACCOUNTS: missing. Set the e-mail addresses of the service accounts that may "
            "call this node; any Google account can get a token for its address."
        )


def _check_slave_tokens(settings: Settings) -> None:
    known = {slave.name for slave in settings.slaves}
    for number, name in enumerate(settings.slave_tokens, 1):
        if name not in known:  # not quoted: it may be a token in the wrong place
            raise SettingsError(f"SLAVE_TOKENS: item {number} has a name that is not in SLAVES")


def _check_provider_logs(settings: Settings) -> None:
    for name in {slave.name for slave in settings.slaves} & settings.provider_logs.logs.keys():
        raise SettingsError(f"PROVIDER_LOGS: the name {name!r} is in SLAVES too. Choose another.")


def _check_forward(settings: Settings) -> None:
    if not settings.forward_url:
        return
    kind = settings.store.kind
    if kind.shared or not kind.outlives_process:
        raise SettingsError(
            f"FORWARD_URL: needs STORE=sqlite:PATH, which keeps the position (got {kind.name}:). "
            "Run webhook-sync forward elsewhere."
        )
    if "oidc" in settings.sync_auth and "token" not in settings.sync_auth:
        raise SettingsError(
            "FORWARD_URL: needs a token, which SYNC_AUTH=oidc has not. Run webhook-sync forward "
            "elsewhere, or use SYNC_TOKENS."
        )


def _check_store(settings: Settings) -> None:
    kind = settings.store.kind
    if settings.ack == "buffered" and kind.shared:
        raise SettingsError(
            f"ACK: buffered is not supported with {kind.name}:, where another writer may have "
            "reported a horizon past the buffered webhooks. Use ACK=committed."
        )
    if (
        settings.role == "slave"
        and settings.service
        and not kind.outlives_instance
        and not settings.hand_over
        and not settings.allow_ephemeral
    ):
        lasting = " or ".join(f"{k.name}:" for k in STORE_KINDS.values() if k.outlives_instance)
        raise SettingsError(
            f"STORE: the records in {kind.name}: are lost when an instance of Cloud Run ends. Set "
            f"HAND_OVER to the master's address, use {lasting}, or accept the loss with "
            "ALLOW_EPHEMERAL=1."
        )


_CHECKS: tuple[Callable[[Settings], None], ...] = (
    _check_times,
    _check_sources,
    _check_public_url,
    _check_hash_key,
    _check_authentication,
    _check_slave_tokens,
    _check_provider_logs,
    _check_store,
    _check_forward,
)
