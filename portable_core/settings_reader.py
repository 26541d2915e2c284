"""One setting: its row of the table, and the parsers that read its value from text.

A parser returns a value or raises ``ValueError`` with what is wrong; the row puts its name in front
of that.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from portable_core.errors import SettingsError
from portable_core.settings_text import expand_home, find_control_character

Role = Literal["slave", "master"]

#: The shortest ``CONSOLE_TOKEN``: nothing but its length slows guesses down.
CONSOLE_TOKEN_CHARACTERS = 16

#: Hosts to which plain HTTP can be neither read nor changed on its way.
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

T = TypeVar("T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# -- rows ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    - ``name``: the variable of the environment.
    - ``default``: the default as text, empty for none.
    - ``parse``: returns the value of a text, or raises ``ValueError``.
    - ``derive``: returns the default from the other settings; ``default`` then describes it.
    - ``role``: the one role that uses the setting; None for both.
    - ``secret``: whether logs must not show the value.
    - ``formerly``: the old name, which is understood with a warning.
    - ``per_role``: ``<role>`` in the text stands for the node's role.
    - ``home_after``: the text after which ``~/`` stands for the home directory; None for nowhere.
    """

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str
    unit: str
    role: Role | None
    secret: bool
    derive: Callable[[Any], Any] | None
    formerly: str
    per_role: bool
    home_after: str | None

    def read(self, env: Mapping[str, str], role: Role) -> Any:
        """Return the value; None where it is not set and ``derive`` gives the default.

        Space and line breaks around the text do not count; an empty text counts as not set.
        Raises :class:`SettingsError`.
        """
        text = self._find_text(env)
        if not text and self.derive is not None:
            return None
        text = text or self.default
        try:
            if self.home_after is not None:
                text = expand_home(text, self.home_after, env.get("HOME", ""))
            return self.parse(text.replace("<role>", role) if self.per_role else text)
        except ValueError as error:
            raise SettingsError(f"{self.name}: {error}") from None

    def complete(self, value: Any, known: Any) -> Any:
        """Return ``value``, or the derived default in its place; ``known`` has all values read."""
        if value is not None or self.derive is None:
            return value
        try:
            return self.derive(known)
        except ValueError as error:
            raise SettingsError(f"{self.name}: {error}") from None

    def is_set_in(self, env: Mapping[str, str]) -> bool:
        """Return whether ``env`` sets the setting, under either name."""
        return bool(env.get(self.name, "").strip()) or self.is_renamed_in(env)

    def is_renamed_in(self, env: Mapping[str, str]) -> bool:
        """Return whether ``env`` sets the old name."""
        return bool(self.formerly and env.get(self.formerly, "").strip())

    def _find_text(self, env: Mapping[str, str]) -> str:
        for name in filter(None, (self.name, self.formerly)):
            fault = find_control_character(env.get(name, "").strip(" \t\r\n"))
            if fault:
                raise SettingsError(f"{name}: contains {fault}. Write the value in one line.")
        text = env.get(self.name, "").strip()
        if not self.is_renamed_in(env):
            return text
        old = env[self.formerly].strip()
        if text not in ("", old):
            raise SettingsError(
                f"{self.name}: has another value than {self.formerly}, which is its old name. "
                f"Remove {self.formerly}."
            )
        return old


def setting(
    name: str,
    default: str,
    parse: Callable[[str], T],
    meaning: str,
    *,
    unit: str = "",
    role: Role | None = None,
    secret: bool = False,
    derive: Callable[[Any], T] | None = None,
    formerly: str = "",
    per_role: bool = False,
    home_after: str | None = None,
) -> T:
    """Return the dataclass field of a setting, with its row as the metadata ``setting``."""
    row = Setting(
        name,
        default,
        parse,
        meaning,
        unit,
        role,
        secret,
        derive,
        formerly,
        per_role,
        home_after,
    )
    return cast(T, field(repr=not secret, metadata={"setting": row}))


# -- parsers ---------------------------------------------------------------------------------------


def text(value: str) -> str:
    return value


def words(value: str) -> tuple[str, ...]:
    """Parse words as a shell does."""
    return tuple(shlex.split(value))


def flag(value: str) -> bool:
    return one_of(("0", "1"))(value or "0") == "1"


def one_of(choices: Collection[T]) -> Callable[[str], T]:
    """Return a parser of these texts."""

    def parse(value: str) -> T:
        for choice in choices:
            if choice == value:
                return choice
        raise ValueError(f"must be one of {', '.join(map(str, choices))} (got {value!r})")

    return parse


def networks(value: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list; an address is a network of one."""
    found = []
    for item in items(value):
        try:
            found.append(ipaddress.ip_network(item))
        except ValueError:
            raise ValueError(f"must be networks such as 10.0.0.0/8 (got {item[:60]!r})") from None
    return tuple(found)


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return ``parse`` with None for an empty text."""
    return lambda value: parse(value) if value else None


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value):
            raise ValueError(f"must be a whole number (got {value!r})")
        return _check_bounds(int(value), minimum, maximum, value)

    return parse


def seconds(minimum_ms: int = 1, maximum_ms: int | None = None) -> Callable[[str], int]:
    """Return a parser of a number of seconds; the value is in milliseconds."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,3})?", value):
            raise ValueError(f"must be a number of seconds (got {value!r})")
        return _check_bounds(round(float(value) * 1000), minimum_ms, maximum_ms, value, 1000)

    return parse


def _check_bounds(value: int, minimum: int, maximum: int | None, text: str, scale: int = 1) -> int:
    if value < minimum or (maximum is not None and value > maximum):
        low = f"{minimum / scale:g}"
        bound = f"at least {low}" if maximum is None else f"{low} to {maximum // scale}"
        raise ValueError(f"must be {bound} (got {text})")
    return value


def items(value: str) -> tuple[str, ...]:
    """Parse a list with commas; empty items do not count."""
    return tuple(item.strip() for item in value.split(",") if item.strip())


def lower_items(value: str) -> tuple[str, ...]:
    return items(value.lower())


def url(value: str) -> str:
    """Parse an HTTP address; the value has no final slash, and no user, query or fragment.

    Nodes prove who they are by tokens, and reports show addresses.
    """
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # invalid brackets or port
        whole = False
    # Bytes of the environment that are not text (PEP 383) cannot be part of a report.
    if not whole or parts.query or parts.fragment or not value.isprintable():
        raise ValueError(f"must be an http:// or https:// address (got {_quote(value)})")
    if "@" in parts.netloc:
        raise ValueError(f"an address must not contain a user or password (got {_quote(value)})")
    return value.rstrip("/")


def optional_url(value: str) -> str:
    return url(value) if value else ""


def urls(value: str) -> tuple[str, ...]:
    return tuple(map(url, items(value)))


def keys_url(value: str) -> str:
    """Parse an address of public keys, which must not be changed on its way."""
    parts = urlsplit(url(value))
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError(
            f"must be an https:// address, because its keys authenticate callers "
            f"(got {_quote(value)})"
        )
    return url(value)


def utf8(value: str) -> bytes:
    """Parse text as its bytes; bytes of the environment (PEP 383) must be UTF-8."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None


def tokens(value: str) -> tuple[str, ...]:
    if not all(map(is_token, items(value))):
        raise ValueError("a token must be printable ASCII without spaces")
    return items(value)


def parse_console_token(value: str) -> str:
    if value and (len(value) < CONSOLE_TOKEN_CHARACTERS or not is_token(value)):
        raise ValueError(
            f"must have at least {CONSOLE_TOKEN_CHARACTERS} characters, all of them printable "
            "ASCII without spaces"
        )
    return value


def parse_node_name(value: str) -> str:
    if not is_node_name(value):
        raise ValueError(
            "must be 1 to 63 letters, digits, '.', '_' and '-', the first one a letter or digit "
            f"(got {value!r})"
        )
    return value


def parse_sync_auth(value: str) -> tuple[str, ...]:
    kinds = items(value)
    if not kinds or (set(kinds) - {"token", "oidc"} and kinds != ("none",)):
        raise ValueError(f"must be token, oidc, token,oidc or none (got {value!r})")
    return kinds


@dataclass(frozen=True, slots=True)
class SlaveAddress:
    """A slave's name in reports and state, and the address of its root without a final slash."""

    name: str
    url: str


def parse_slaves(value: str) -> tuple[SlaveAddress, ...]:
    found: dict[str, SlaveAddress] = {}
    for item in items(value):
        name, equals, address = item.partition("=")
        if not equals or not is_node_name(name):
            raise ValueError(f"must be name=url,name=url (got {_quote(item)})")
        if name in found:
            raise ValueError(f"contains the name {name!r} twice")
        found[name] = SlaveAddress(name, url(address))
    return tuple(found.values())


def parse_slave_tokens(value: str) -> Mapping[str, str]:
    """Parse ``name=token,name=token``. Errors quote nothing: any part of it may be a token."""
    found: dict[str, str] = {}
    for number, item in enumerate(items(value), 1):
        name, equals, token = item.partition("=")
        if not equals or not is_node_name(name) or name in found or not is_token(token):
            raise ValueError(
                f"item {number} is not name=token, with each name once and a token of printable "
                "ASCII without spaces"
            )
        found[name] = token
    return MappingProxyType(found)


def is_node_name(text: str) -> bool:
    """Return whether ``SLAVES``, reports and addresses can name a node like this."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text) is not None


def is_token(token: str) -> bool:
    """Return whether this can be a bearer token: printable ASCII without spaces."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def _quote(address: str) -> str:
    """Quote an address without its parts that may be secret: user, password, query, fragment."""
    return repr(re.sub(r"(?s)[?#].*", "", re.sub(r"(?s).*@", "***@", address)))
