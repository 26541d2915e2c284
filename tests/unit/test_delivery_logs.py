"""The setting PROVIDER_LOGS: its grammar, its secrets, and the table of kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.adapters.providers import _LOGS
from portable_core.errors import SettingsError
from portable_core.settings import Settings
from portable_core.sources.delivery_logs import LOG_KINDS, parse_delivery_logs
from portable_core.sources.presets import PRESETS

GITHUB = "hub=github:acme/shop/hooks/1"


def read(value: str, **env: str) -> Settings:
    base = {"STORE": "memory:", "SYNC_AUTH": "none", "T": "a-secret", **env}
    return Settings.from_env("master", {**base, "PROVIDER_LOGS": value})


def test_a_log_has_its_options_and_the_defaults_of_its_kind() -> None:
    logs = read(
        f"{GITHUB}?token=env:T, pay=stripe:events?source=-&token=env:T&read=all&delay=1.5&account=a"
    ).provider_logs.logs
    hub, pay = logs["hub"], logs["pay"]
    assert (hub.source, hub.base, hub.read_all) == ("hub", "https://api.github.com", False)
    assert (hub.delay_ms, hub.token, hub.label) == (60_000, "a-secret", "github:acme/shop/hooks/1")
    assert (hub.reach_ms, pay.reach_ms) == (3 * 86_400_000, 30 * 86_400_000)
    assert (pay.source, pay.read_all, pay.delay_ms, pay.extra) == ("", True, 1500, {"account": "a"})


def test_values_are_percent_encoded() -> None:
    log = parse_delivery_logs(f"{GITHUB}?token=file:/run/a%2Cb%26c&base=https://h:8/api/v3/").logs
    assert log["hub"].token == "file:/run/a,b&c"  # a reference
    assert log["hub"].base == "https://h:8/api/v3"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("hub", "item 1 must be"),
        ("=github:app", "item 1 must be"),
        (f"{GITHUB}?token=env:T,{GITHUB}?token=env:T", "the name 'hub' twice"),
        ("hub=gitlab:1?token=env:T", "one of github, square, stripe"),
        ("hub=github:acme/shop?token=env:T", "must be github:OWNER/REPO/hooks/ID or"),
        ("hub=github:acme/../hooks/1/2?token=env:T", "must be github:OWNER/REPO/hooks/ID or"),
        (f"{GITHUB}?token=ghp_s3cret", "must be env:NAME or file:PATH"),
        (GITHUB, "token: missing"),
        (f"{GITHUB}?token=env:T&account=a", "'account' is not an option"),
        (f"{GITHUB}?token=env:T&token=env:T", "a duplicate"),
        (f"{GITHUB}?token=env:T&read=some", "read: must be failed or all"),
        ("till=square:events?token=env:T&read=failed", "read: must be all"),
        (f"{GITHUB}?token=env:T&delay=-1", "delay: must be"),
        (f"{GITHUB}?token=env:T&reach=0", "reach: must be"),
        (f"{GITHUB}?token=env:T&base=ftp://x", "base: must be"),
        (f"{GITHUB}?token=env:T&base=https://user:pw@x", "base: must be"),
        (f"{GITHUB}?token=env:T&source=a/b", "source: is not"),
        (f"{GITHUB}?token=env:NOTHING", "token names the variable 'NOTHING'"),
        (f"{GITHUB}?token=env:T&app=7&key=env:T&installation=1", "either token, or app and key"),
        (f"{GITHUB}?app=7&installation=1", "either token, or app and key"),
        (f"{GITHUB}?app=7&key=env:T", "that of a repository"),
        ("hub=github:app?app=7&key=env:T&installation=3", "needs no installation"),
        ("hub=github:app?token=env:T", "needs app and key"),
        ("a=github:app?app=7&key=env:T", None),
    ],
)
def test_a_wrong_value_is_named_and_no_secret_is_quoted(value: str, fault: str | None) -> None:
    if fault is None:
        assert read(value)
        return
    with pytest.raises(SettingsError) as wrong:
        read(value)
    text = str(wrong.value)
    assert text.startswith("PROVIDER_LOGS: ")
    assert fault in text
    assert not {"s3cret", "pw", "a-secret"} & set(text.replace("=", " ").replace("_", " ").split())


def test_a_name_is_that_of_one_slave_or_log() -> None:
    with pytest.raises(SettingsError, match="'hub' is in SLAVES too"):
        read(f"{GITHUB}?token=env:T", SLAVES="hub=http://a.example")


def test_plain_http_beyond_this_machine_is_a_warning() -> None:
    assert read(f"{GITHUB}?token=env:T&base=http://localhost:8000").warnings == ()
    (warning,) = read(f"{GITHUB}?token=env:T&base=http://git.example/api/v3").warnings
    assert warning.startswith("PROVIDER_LOGS: hub sends its token to http://git.example/api/v3")


def test_a_slave_does_not_need_the_secrets_of_a_log() -> None:
    env = {"STORE": "memory:", "SYNC_AUTH": "none", "PROVIDER_LOGS": f"{GITHUB}?token=env:NOTHING"}
    (warning,) = Settings.from_env("slave", env).warnings
    assert warning.startswith("PROVIDER_LOGS: has no effect on a slave")


def test_the_lines_of_a_private_key_are_secrets(tmp_path: Path) -> None:
    line = "MIIEpAIBAAKCAQEAvQ6K0n1r3e"
    (tmp_path / "key").write_text(f"-----BEGIN RSA PRIVATE KEY-----\n{line}\nab==\n-----END-----\n")
    found = read(f"hub=github:app?app=7&key=file:{tmp_path / 'key'}").secrets()
    assert found == {line}


def test_each_kind_has_an_adapter_a_preset_and_a_page() -> None:
    assert set(LOG_KINDS) == set(_LOGS)
    assert set(LOG_KINDS) <= set(PRESETS)
    pages = Path(__file__).parents[2] / "docs" / "provider-logs"
    overview = (pages / "README.md").read_text()
    for name, kind in LOG_KINDS.items():
        assert f"| `{name}` |" in overview
        page = (pages / f"{name}.md").read_text()
        for option in kind.options:
            assert f"{option}=" in page or f"`{option}`" in page
        for form in kind.targets:
            assert f"{name}:{form}" in page
