"""The value of one setting from its text; every complaint begins with the setting's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from portable_core.errors import SettingsError
from portable_core.sources.signatures import parse_sources, sign_standard

Role = Literal["slave", "master"]

#: Whoever guesses it reads every webhook; nothing slows guesses down but its length.
_CONSOLE_TOKEN_CHARACTERS = 16

#: Hosts to which plain HTTP cannot be read or changed on its way.
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """``memory:``, ``sqlite:PATH`` or ``firestore:PROJECT/DATABASE``, taken apart."""

    kind: Literal["memory", "sqlite", "firestore"]
    path: str = ""


@dataclass(frozen=True, slots=True)
class SlaveAddress:
    """A slave's name in reports and state, and the address of its root without a final slash."""

    name: str
    url: str


class SettingsReader:
    """Reads one value at a time; every complaint begins with the setting's name."""

    def __init__(self, env: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        """``defaults`` has every setting's name."""
        self._env = env
        self._defaults = defaults

    def text(self, name: str) -> str:
        """The value without surrounding space; an empty one counts as not set."""
        return self._env.get(name, "").strip() or self._defaults[name]

    def encoded(self, name: str) -> bytes:
        """The value's bytes; those of the environment that are not UTF-8 are refused (PEP 383)."""
        try:
            return self.text(name).encode()
        except UnicodeEncodeError:
            raise SettingsError(f"{name}: is not UTF-8") from None

    def flag(self, name: str) -> bool:
        return self.choice(name, ("", "0", "1")) == "1"

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise SettingsError(
                f"{name}: must be one of {', '.join(filter(None, choices))}, not {value!r}"
            )
        return value

    def items(self, name: str, *, lower: bool = False) -> tuple[str, ...]:
        text = self.text(name)
        return tuple(
            item.strip() for item in (text.lower() if lower else text).split(",") if item.strip()
        )

    def integer(self, name: str, *, minimum: int, maximum: int | None = None) -> int:
        value = self.text(name)
        if not re.fullmatch(r"[0-9]{1,15}", value):
            raise SettingsError(f"{name}: must be a whole number, not {value!r}")
        return self._within(name, int(value), minimum, maximum)

    def milliseconds(self, name: str, *, minimum: int) -> int:
        """A number of seconds, as an integer of milliseconds; ``minimum`` is in milliseconds."""
        value = self.text(name)
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,3})?", value):
            raise SettingsError(f"{name}: must be a number of seconds, not {value!r}")
        return self._within(name, round(float(value) * 1000), minimum, None)

    def url(self, name: str) -> str:
        value = self.text(name)
        return check_url(name, value) if value else ""

    def store(self, role: Role) -> StoreAddress:
        value = self.text("STORE").replace("<role>", role)
        kind, colon, path = value.partition(":")
        if not path.isprintable():  # it is told in errors and answers, which are text
            raise SettingsError(f"STORE: holds bytes or signs that are no text: {value!r}")
        if kind == "memory" and colon and not path:
            return StoreAddress("memory")
        if kind == "sqlite" and path:
            return StoreAddress("sqlite", path)
        if kind == "firestore" and re.fullmatch(r"[^/\s]+/[^/\s]+", path):
            return StoreAddress("firestore", path)
        raise SettingsError(
            f"STORE: must be memory:, sqlite:PATH or firestore:PROJECT/DATABASE, not {value!r}"
        )

    def slaves(self) -> tuple[SlaveAddress, ...]:
        slaves: dict[str, SlaveAddress] = {}
        for item in self.items("SLAVES"):
            name, equals, url = item.partition("=")
            if not equals or not is_node_name(name):
                raise SettingsError(
                    f"SLAVES: must be name=url,name=url; {_quote(item)} is not name=url"
                )
            if name in slaves:
                raise SettingsError(f"SLAVES: the name {name!r} comes twice")
            slaves[name] = SlaveAddress(name, check_url("SLAVES", url))
        return tuple(slaves.values())

    def sources(self) -> str:
        """As it stands there, but known to be what :func:`parse_sources` takes."""
        text = self.text("SOURCES")
        parse_sources(text)
        return text

    def slave_tokens(self, slaves: tuple[SlaveAddress, ...]) -> tuple[tuple[str, str], ...]:
        tokens: dict[str, str] = {}
        known = {slave.name for slave in slaves}
        for number, item in enumerate(self.items("SLAVE_TOKENS"), 1):
            name, equals, token = item.partition("=")
            # An item in the wrong place may be a token, so none is quoted.
            if not equals or name not in known or name in tokens or not is_token(token):
                raise SettingsError(
                    f"SLAVE_TOKENS: item {number} is not name=token, with a name of SLAVES, each "
                    "once, and a token of printable ASCII without spaces"
                )
            tokens[name] = token
        return tuple(tokens.items())

    def node_name(self) -> str:
        name = self.text("NODE_NAME") or self._env.get("K_SERVICE", "").strip() or "unnamed"
        if not is_node_name(name):
            raise SettingsError(
                f"NODE_NAME: must be letters, digits, '.', '_' and '-', at most 63, not {name!r}"
            )
        return name

    def console_token(self) -> str:
        token = self.text("CONSOLE_TOKEN")
        if token and (len(token) < _CONSOLE_TOKEN_CHARACTERS or not is_token(token)):
            raise SettingsError(
                f"CONSOLE_TOKEN: needs {_CONSOLE_TOKEN_CHARACTERS} characters or more, of "
                "printable ASCII without spaces"
            )
        return token

    def replay_secret(self) -> str:
        secret = self.text("REPLAY_SECRET")
        try:
            if secret:
                sign_standard(secret, "id", 0, b"")
        except ValueError as error:
            raise SettingsError(f"REPLAY_SECRET: {error}") from None
        return secret

    def certs_url(self) -> str:
        url = self.url("OIDC_CERTS_URL")
        if urlsplit(url).scheme != "https" and urlsplit(url).hostname not in _LOOPBACK:
            raise SettingsError(
                "OIDC_CERTS_URL: must be https:// (whoever can change the keys can come in)"
            )
        return url

    @staticmethod
    def _within(name: str, value: int, minimum: int, maximum: int | None) -> int:
        if value < minimum or (maximum is not None and value > maximum):
            bound = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
            raise SettingsError(f"{name}: must be {bound}, not {value}")
        return value


def is_node_name(text: str) -> bool:
    """Whether a node may be called that in ``SLAVES``, reports and addresses."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text) is not None


def is_token(token: str) -> bool:
    """Whether it can be sent as a bearer token: printable ASCII without spaces."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def check_url(name: str, url: str) -> str:
    """``url`` without a final slash. Raises :class:`SettingsError` if it is no HTTP address.

    One with a user or password is none: nodes show tokens, and addresses turn up in reports.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        whole = False
    # Bytes of the environment that are not text (PEP 383) could not be told in any report.
    if not whole or parts.query or parts.fragment or not url.isprintable():
        raise SettingsError(f"{name}: must be an http:// or https:// address, not {_quote(url)}")
    if "@" in parts.netloc:
        raise SettingsError(f"{name}: an address may hold no user or password: {_quote(url)}")
    return url.rstrip("/")


def _quote(address: str) -> str:
    """For a complaint: without what may be a secret in it, user and password, query, fragment."""
    return repr(re.sub(r"(?s)[?#].*", "", re.sub(r"(?s).*@", "***@", address)))
