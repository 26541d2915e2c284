"""``SOURCES_FILE``, presets, and what both say of identities."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.errors import SettingsError
from portable_core.payload_hash.identity import make_rule
from portable_core.settings import Settings
from portable_core.sources.kept_headers import KeptParts, strip_query
from portable_core.sources.presets import PRESETS
from portable_core.sources.rows import SourceRow

LINEAR = make_rule(without=["/webhookId", "/webhookTimestamp"])


def read(tmp_path: Path, text: str, **env: str) -> Settings:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    base = {"SYNC_AUTH": "none", "SOURCES_FILE": str(path)}
    return Settings.from_env("slave", {**base, **env})


def test_rules_come_from_presets_and_from_the_file(tmp_path: Path) -> None:
    text = """
        [linear]
        preset = "linear"
        [bb]
        identity.id = ["header:X-Request-UUID"]
        [pay]
        identity.without = ["/a/b"]
        [""]
        secret_query = ["token"]
    """
    settings = read(tmp_path, text, SOURCES="pay=stripe:whsec,other=stripe:whsec")
    assert settings.sources.rules == {
        "linear": LINEAR,
        "bb": make_rule(id=["header:x-request-uuid"]),
        "pay": make_rule(without=["/a/b"]),
        "other": make_rule(without=["/pending_webhooks"]),
    }
    assert settings.sources.rows[""] == SourceRow(secret_parameters=("token",))
    assert settings.sources.names == {"linear", "bb", "pay", "other", ""}


def test_a_preset_may_stand_for_its_signature() -> None:
    env = {"SYNC_AUTH": "none", "SOURCES": "l=linear:secret,l=linear:older"}
    sources = Settings.from_env("slave", env).sources
    assert len(sources.entries["l"]) == 2
    assert sources.rules == {"l": LINEAR}
    assert sources.secrets == ("secret", "older")


def test_every_preset_says_where_its_facts_come_from() -> None:
    for preset in PRESETS.values():
        assert len(preset.page.facts) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "sources.toml: "),
        ('a = "b"', "a must be a table"),
        ('["a/b"]\npreset="stripe"', "is not the name of a source"),
        ('["-"]\npreset="stripe"', "is not the name of a source"),
        ('["*"]\npreset="stripe"', "is not the name of a source"),
        ('[a]\npreset="other"', r"\[a\] preset: must be one of"),
        (r"[a]" "\n" r'identity.id=["body:/a\nb"]', r"\[a\] contains a line break \(U\+000A"),
        (r"[a]" "\n" r'secret_query=["a\u0001b"]', r"\[a\] contains a control character"),
        ('[a]\nsigned="x"', r"\[a\] .*signed"),
        ('[a]\nidentity.id=["cookie:a"]', r"\[a\] identity: a value is header:"),
        ('[a]\nidentity.without="/a"', r"\[a\] identity.without: must be"),
        ('[a]\nidentity.other=["/a"]', r"\[a\] .*other"),
        ('[a]\nidentity.without=["a"]', r"\[a\] identity: a JSON Pointer starts with /"),
        (
            '[a]\nidentity.id=["query:t"]\nsecret_query=["t"]',
            r"\[a\] identity: reads the query parameter 't', which is a secret",
        ),
        (
            '[a]\nidentity.id=["header:X-GitLab-Token"]',
            "rule of 'a' reads the header 'x-gitlab-token', which is a secret",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith("SOURCES_FILE: ")
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"SOURCES_FILE: .*No such file"):
        Settings.from_env("slave", {"SYNC_AUTH": "none", "SOURCES_FILE": "/nowhere/x.toml"})


def test_a_credential_is_read_where_it_is_kept(tmp_path: Path) -> None:
    text = '[a]\nidentity.id=["header:X-GitLab-Token"]'
    settings = read(tmp_path, text, KEEP_CREDENTIAL_HEADERS="x-gitlab-token")
    assert settings.sources.rules


@pytest.mark.parametrize(
    "sources", ["-=github:s", "a=stripe:s,a=linear:t", "a=nopreset:s"], ids=["dash", "two", "none"]
)
def test_wrong_sources_are_refused(sources: str) -> None:
    with pytest.raises(SettingsError, match="SOURCES: entry"):
        Settings.from_env("slave", {"SYNC_AUTH": "none", "SOURCES": sources})


def test_secret_parameters_are_not_kept() -> None:
    assert strip_query("a=1&token=x&b=2&to%6ben=y&token", ["token"]) == "a=1&b=2"
    assert strip_query("a=1", []) == "a=1"
    kept = KeptParts(("x",), (), {"s": SourceRow(secret_parameters=("t",))})
    assert (kept.query("s", "t=1&u=2"), kept.query("r", "t=1")) == ("u=2", "t=1")


def test_a_preset_with_a_parameter_is_only_for_sources(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[a\] preset: must be one of"):
        read(tmp_path, '[a]\npreset = "hmac-sha256"')
