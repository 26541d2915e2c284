"""Providers' delivery logs: the table of kinds, and the setting ``PROVIDER_LOGS``.

A log lists what a provider has tried to deliver. The adapter of a kind is a module of
``adapters/providers`` with its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import parse_qsl, urlsplit

from portable_core.sources.signatures import is_source_name

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LogKind:
    """What the logs of one provider can list.

    - ``targets``: by the form of a target, the regular expression that it matches.
    - ``address``: the address of the provider's interface, unless ``base`` names another.
    - ``reach_ms``: for how long the log keeps a delivery, unless ``reach`` says otherwise.
    - ``identifier``: the value that names a webhook in all of its deliveries: ``header:<name>`` or
      ``body:<JSON Pointer>``.
    - ``knows_failures``: whether the log can list the deliveries that failed. Otherwise all are
      read.
    - ``options``: options of the setting besides those that every kind has.
    """

    name: str
    title: str
    targets: Mapping[str, re.Pattern[str]]
    address: str
    reach_ms: int
    identifier: str
    knows_failures: bool = True
    options: tuple[str, ...] = ()


#: The kinds by name.
LOG_KINDS: Mapping[str, LogKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            LogKind(
                "github",
                "GitHub",
                {
                    "OWNER/REPO/hooks/ID": re.compile(r"[\w.-]+/[\w.-]+/hooks/[0-9]+", re.ASCII),
                    "ORG/hooks/ID": re.compile(r"[\w.-]+/hooks/[0-9]+", re.ASCII),
                    "app": re.compile("app"),
                },
                "https://api.github.com",
                3 * _DAY_MS,
                "header:x-github-delivery",
                options=("app", "key", "installation"),
            ),
            LogKind(
                "square",
                "Square",
                {"events": re.compile("events")},
                "https://connect.squareup.com",
                28 * _DAY_MS,
                "body:/event_id",
                knows_failures=False,
            ),
            LogKind(
                "stripe",
                "Stripe",
                {"events": re.compile("events")},
                "https://api.stripe.com",
                30 * _DAY_MS,
                "body:/id",
                options=("account",),
            ),
        )
    }
)

#: Options that every kind has.
_OPTIONS = ("source", "token", "base", "read", "delay", "reach")

#: Until this long after a delivery the log may lack it, in seconds.
DEFAULT_DELAY_S = 60

#: The name of the webhooks without a source, which came to ``/webhook`` itself.
_NO_SOURCE = "-"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: Hosts to which plain HTTP cannot be read on its way.
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_REFERENCE = re.compile(r"(env|file):.+")
_DELAY = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_REACH = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """One log of ``PROVIDER_LOGS``.

    - ``name``: its name in reports, state and commands.
    - ``source``: the source whose webhooks it lists.
    - ``read_all``: read the deliveries that succeeded, too.
    - ``reach_ms``: for how long the log keeps a delivery.
    - ``token``, ``key``: secrets; references to them until :meth:`resolve`.
    - ``extra``: the options of its kind, but for ``key``.
    """

    name: str
    kind: LogKind
    target: str
    source: str
    base: str
    read_all: bool
    delay_ms: int
    reach_ms: int
    token: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The log for people: its kind and target."""
        return f"{self.kind.name}:{self.target}"

    @property
    def place(self) -> str:
        """The text that names the log: its kind, address and target."""
        return f"{self.kind.name} {self.base} {self.target}"

    @property
    def is_exposed(self) -> bool:
        """Whether the secret can be read on its way."""
        parts = urlsplit(self.base)
        return parts.scheme == "http" and parts.hostname not in _LOOPBACK

    def resolve(self, read_secret: Callable[[str], str]) -> LogSettings:
        """Return the log with its secrets. Raises ``ValueError``, which quotes no secret."""
        found = {}
        for option, reference in (("token", self.token), ("key", self.key)):
            try:
                found[option] = read_secret(reference) if reference else ""
            except ValueError as error:
                raise ValueError(f"{self.name}: {option} {error}") from None
        return replace(self, token=found["token"], key=found["key"])


@dataclass(frozen=True, slots=True)
class DeliveryLogs:
    """The logs of a master, by name."""

    logs: Mapping[str, LogSettings] = field(default_factory=dict)

    def resolve(self, read_secret: Callable[[str], str]) -> DeliveryLogs:
        """Return the logs with their secrets. Raises ``ValueError``."""
        return DeliveryLogs({name: log.resolve(read_secret) for name, log in self.logs.items()})

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(
            text
            for log in self.logs.values()
            for text in (log.token, *_find_long_lines(log.key))
            if text
        )


def _find_long_lines(key: str) -> list[str]:
    """Return the lines of a key in PEM that nothing else contains."""
    return [line for line in key.splitlines() if len(line) > 20 and not line.startswith("-----")]


def parse_delivery_logs(value: str) -> DeliveryLogs:
    """Parse ``name=kind:target?option=value&…``, comma-separated.

    Raises ``ValueError``, which quotes no value of an option: it may be a secret in the wrong form.
    """
    logs: dict[str, LogSettings] = {}
    for number, item in enumerate(filter(None, (part.strip() for part in value.split(","))), 1):
        name, equals, rest = item.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"item {number} must be name=kind:target?token=env:NAME")
        if name in logs:
            raise ValueError(f"contains the name {name!r} twice")
        try:
            logs[name] = _parse_log(name, rest)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return DeliveryLogs(logs)


def _parse_log(name: str, text: str) -> LogSettings:
    place, _, query = text.partition("?")
    kind_name, _, target = place.partition(":")
    kind = LOG_KINDS.get(kind_name)
    if kind is None:
        kinds = ", ".join(LOG_KINDS)
        raise ValueError(f"the kind of a log must be one of {kinds} (got {kind_name[:40]!r})")
    if not any(pattern.fullmatch(target) for pattern in kind.targets.values()):
        forms = " or ".join(f"{kind.name}:{form}" for form in kind.targets)
        raise ValueError(f"must be {forms} (got {place[:120]!r})")
    options = _parse_options(kind, query)
    source = options.pop("source", name)
    if source != _NO_SOURCE and not is_source_name(source):
        raise ValueError(f"source: is not the name of a source (got {source[:60]!r})")
    read = options.pop("read", "failed" if kind.knows_failures else "all")
    if read not in (("failed", "all") if kind.knows_failures else ("all",)):
        known = "failed or all" if kind.knows_failures else "all"
        raise ValueError(f"read: must be {known} (got {read[:40]!r})")
    delay = options.pop("delay", str(DEFAULT_DELAY_S))
    if not _DELAY.fullmatch(delay):
        raise ValueError(f"delay: must be a number of seconds (got {delay[:40]!r})")
    reach = options.pop("reach", str(kind.reach_ms // _DAY_MS))
    if not _REACH.fullmatch(reach):
        raise ValueError(f"reach: must be a number of days (got {reach[:40]!r})")
    base = _parse_address(options.pop("base", kind.address))
    token, key = options.pop("token", ""), options.pop("key", "")
    for option, reference in (("token", token), ("key", key)):
        if reference and not _REFERENCE.fullmatch(reference):
            raise ValueError(f"{option}: must be env:NAME or file:PATH, not the secret itself")
    log = LogSettings(
        name,
        kind,
        target,
        "" if source == _NO_SOURCE else source,
        base,
        read == "all",
        round(float(delay) * 1000),
        int(reach) * _DAY_MS,
        token,
        key,
        options,
    )
    _check_credentials(log)
    return log


def _parse_options(kind: LogKind, query: str) -> dict[str, str]:
    known = (*_OPTIONS, *kind.options)
    options: dict[str, str] = {}
    for option, text in parse_qsl(query, keep_blank_values=True):
        if option not in known or option in options or not text:
            raise ValueError(
                f"{option[:40]!r} is not an option with a value, or a duplicate. The options of "
                f"{kind.name} are {', '.join(known)}."
            )
        options[option] = text
    return options


def _parse_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.query or parts.fragment or "@" in parts.netloc or not text.isprintable():
        raise ValueError("base: must be an http:// or https:// address without user and query")
    return text.rstrip("/")


def _check_credentials(log: LogSettings) -> None:
    app = log.extra.get("app")
    if app or log.key or "installation" in log.extra:
        if log.token or not app or not log.key:
            raise ValueError("needs either token, or app and key")
        installation = log.extra.get("installation", "0")
        if not re.fullmatch(r"[A-Za-z0-9.]{1,60}", app) or not installation.isdigit():
            raise ValueError("app is the id of the app, and installation a number")
        if (log.target == "app") == ("installation" in log.extra):
            raise ValueError(
                "the log of the app itself needs no installation; that of a repository or "
                "organization needs one"
            )
    elif log.target == "app":
        raise ValueError("the log of an app needs app and key")
    elif not log.token:
        raise ValueError("token: missing. Set token=env:NAME or token=file:PATH.")
