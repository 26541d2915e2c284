"""Settings: defaults, errors of one line that name the setting, secrets, the table of the docs."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from portable_core.errors import SettingsError
from portable_core.payload_hash.algorithms import ALGORITHMS
from portable_core.settings import (
    SETTINGS,
    Role,
    Settings,
    SlaveAddress,
    StoreAddress,
)
from portable_core.store_kinds import STORE_KINDS

TOKEN = {"SYNC_TOKENS": "a-token"}

#: A valid value of each setting whose default is none, or not a value.
VALUES = {
    "PUBLIC_URL": "https://hooks.example.com",
    "SLAVES": "a=http://a.example",
    "COMMIT_TIMEOUT_S": "5",
    "LINGER_MS": "0",
    "SLAVE_TOKENS": "a=token",
    "SOURCES": "hub=github:secret",
    "RETENTION_S": "60",
    "SOURCES_FILE": "",
    "PROVIDER_LOGS": "log=github:acme/shop/hooks/1?token=env:HOME",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "HAND_OVER": "http://master.example",
    "K_SERVICE": "",
    "NODE_NAME": "a",
    "CONSOLE_TOKEN": "0123456789abcdef",
    "REPLAY_TARGETS": "http://shop.example",
    "REPLAY_SECRET": "whsec_MDEyMzQ1Njc4OTA=",
    "FORWARD_URL": "http://shop.example/webhooks",
    "FORWARD_OPTIONS": "--concurrency 8 --source 'a b'",
    "FORWARD_SECRET": "whsec_MDEyMzQ1Njc4OTA=",
}


def read(role: Role = "slave", **env: str) -> Settings:
    return Settings.from_env(role, {**TOKEN, **env})


def test_defaults() -> None:
    settings = read("master")
    assert settings.store == StoreAddress(STORE_KINDS["sqlite"], "./data/master")
    assert (settings.span_ms, settings.commit_timeout_ms, settings.linger_ms) == (
        120_000,
        10_000,
        0,
    )
    assert read(STORE="firestore:p/d").linger_ms == 750
    assert (settings.ack, settings.hash, settings.sync_auth) == ("committed", "crc32c", ("token",))
    assert settings.max_body_bytes == 25 * 2**20
    assert "x-github-*" in settings.keep_headers


def test_slaves_are_named() -> None:
    slaves = read("master", SLAVES="a=https://a.example/, b=http://b.example:8080/x").slaves
    assert slaves == (
        SlaveAddress("a", "https://a.example"),
        SlaveAddress("b", "http://b.example:8080/x"),
    )


def test_a_short_span_shortens_what_depends_on_it() -> None:
    assert read(SPAN_S="4").commit_timeout_ms == 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE", "mysql:x"),
        ("STORE", "sqlite:"),
        ("STORE", "sqlite:caf\udce9"),
        ("STORE", "firestore:project"),
        ("SLAVES", "a"),
        ("SLAVES", "a=ftp://b"),
        ("SLAVES", "a=http://b,a=http://c"),
        ("SPAN_S", "two"),
        ("SPAN_S", "-1"),
        ("SPAN_S", "1e3"),
        ("SPAN_S", "3601"),
        ("ACK", "soon"),
        ("LINGER_MS", "6000"),
        ("COMMIT_TIMEOUT_S", "31"),
        ("HASH", "md5"),
        ("MAX_BODY_BYTES", "1"),
        ("MAX_BODY_BYTES", "41943041"),
        ("SYNC_AUTH", "none,token"),
        ("SYNC_AUTH", "password"),
        ("SYNC_TOKENS", "pass word"),
        ("PORT", "65536"),
        ("THREADS", "1"),
        ("HAND_OVER", "master"),
        ("HAND_OVER", "http://[master"),
        ("HAND_OVER", "http://master:99999"),
        ("SOURCES", "github"),
        ("SOURCES", "github=githbu:secret"),
        ("SOURCES", "crm=standard:no-prefix"),
        ("NODE_NAME", "a b"),
        ("HASH_KEY", "\udcff"),
        ("SLAVES", "a=http://b/\udcff"),
        ("SLAVES", "a=http://b\n/"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read("master", **{name: value})
    assert str(caught.value).startswith(f"{name}:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAND_OVER", "http://user:pass-word@master.example"),
        ("HAND_OVER", "http://pass-word@master.example"),
        ("HAND_OVER", "http://user:pass/pass-word@master.example"),
        ("HAND_OVER", "user:pass-word@master.example"),
        ("HAND_OVER", "ftp://user:pass-word@master.example"),
        ("HAND_OVER", "https://master.example?key=pass-word"),
        ("SLAVES", "a=http://user:pass-word@a.example"),
        ("SLAVES", "http://user:pass-word@a.example"),
        ("OIDC_CERTS_URL", "https://user:pass-word@certs.example"),
        ("REPLAY_TARGETS", "https://user:pass-word@shop.example/"),
        ("SOURCES", "pass-word"),
        ("SOURCES", "github=pass-word"),
        ("SYNC_TOKENS", "pass-word\u00e9"),
    ],
)
def test_a_complaint_quotes_no_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}:") as caught:
        read("master", **{name: value})
    assert "pass-word" not in str(caught.value)


def test_a_missing_token_is_named_but_can_be_done_without() -> None:
    with pytest.raises(SettingsError, match="SYNC_TOKENS: missing"):
        Settings.from_env("slave", {})
    assert Settings.from_env("slave", {"SYNC_AUTH": "none"}).sync_tokens == ()


def test_a_keyed_hash_needs_its_key() -> None:
    with pytest.raises(SettingsError, match="HASH_KEY"):
        read(HASH="blake2b")
    assert read(HASH="blake2b", HASH_KEY="k").hash_key == b"k"


def test_a_flush_interval_stays_below_the_span() -> None:
    with pytest.raises(SettingsError, match="FLUSH_INTERVAL_S"):
        read(ACK="buffered", SPAN_S="10")
    assert read(ACK="buffered", SPAN_S="11").flush_interval_ms == 10_000


def test_the_registry_of_algorithms_decides_about_hash_and_its_key() -> None:
    for algorithm in ALGORITHMS.values():
        longest = "k" * algorithm.key_bytes
        assert read(HASH=algorithm.name, HASH_KEY=longest).hash == algorithm.name
        if algorithm.keyed:
            with pytest.raises(SettingsError, match=f"^HASH_KEY: .*1 to {len(longest)} bytes"):
                read(HASH=algorithm.name, HASH_KEY=longest + "k")


@pytest.mark.parametrize("role", ["slave", "master"])
def test_what_waits_in_one_process_is_not_for_a_shared_store(role: Role) -> None:
    with pytest.raises(
        SettingsError, match=r"^ACK: buffered .*firestore:.*Use ACK=committed\.$"
    ) as caught:
        read(role, ACK="buffered", STORE="firestore:p/d")
    assert "\n" not in str(caught.value)
    assert read(role, STORE="firestore:p/d").ack == "committed"
    assert read(role, ACK="buffered", STORE="sqlite:x").ack == "buffered"
    assert read(role, ACK="buffered", STORE="memory:").ack == "buffered"


@pytest.mark.parametrize("store", ["memory:", "sqlite:x"])
def test_a_store_that_dies_with_its_instance_is_refused_on_cloud_run(store: str) -> None:
    with pytest.raises(SettingsError, match=r"STORE: .*HAND_OVER"):
        read(STORE=store, K_SERVICE="slave")
    assert read(STORE=store, K_SERVICE="slave", ALLOW_EPHEMERAL="1")
    assert read(STORE=store, K_SERVICE="slave", HAND_OVER="https://m.example").hand_over
    assert read(STORE="firestore:p/d", K_SERVICE="slave")


def test_a_nodes_name_is_its_services_unless_it_is_set() -> None:
    assert read().node_name == "unnamed"
    assert read(K_SERVICE="eu", ALLOW_EPHEMERAL="1").node_name == "eu"
    assert read(K_SERVICE="eu", ALLOW_EPHEMERAL="1", NODE_NAME="eu-1").node_name == "eu-1"


# -- old names -------------------------------------------------------------------------------------


def test_an_old_name_is_understood_with_a_warning() -> None:
    settings = read(SETTLE_S="7")
    assert settings.commit_timeout_ms == 7000
    assert len(settings.warnings) == 1
    assert settings.warnings[0].startswith("SETTLE_S: ")
    assert "COMMIT_TIMEOUT_S" in settings.warnings[0]
    assert read(COMMIT_TIMEOUT_S="7", SETTLE_S=" ").warnings == ()
    assert read(COMMIT_TIMEOUT_S="7").warnings == ()


def test_an_old_name_does_not_contradict_the_new_one() -> None:
    assert read(COMMIT_TIMEOUT_S="7", SETTLE_S="7").commit_timeout_ms == 7000
    with pytest.raises(SettingsError, match=r"^COMMIT_TIMEOUT_S: .*Remove SETTLE_S\.$"):
        read(COMMIT_TIMEOUT_S="7", SETTLE_S="8")


def test_an_error_in_a_value_under_the_old_name_names_the_setting() -> None:
    with pytest.raises(SettingsError, match=r"^COMMIT_TIMEOUT_S: .*'soon'"):
        read(SETTLE_S="soon")


# -- what would have no effect, or another one -----------------------------------------------------


def test_an_entry_behind_a_line_break_is_refused() -> None:
    """One secret of three lines would be that of the first source, and the others open."""
    with pytest.raises(
        SettingsError, match=r"^SOURCES: contains a line break \(U\+000A, "
    ) as caught:
        read(SOURCES="hub=github:abc\npay=stripe:def\n*=closed")
    assert "\n" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\t", "\x01", "\x1f", "\x7f", "\x85", "\u2028", "\u2029"]
)
def test_no_setting_contains_a_control_character(character: str) -> None:
    for name in filter(None, (name for row in SETTINGS for name in (row.name, row.formerly))):
        with pytest.raises(SettingsError, match=rf"^{name}: contains a .*U\+.*, character 2\)"):
            read("master", **{name: f"1{character}1"})


@pytest.mark.parametrize("text", ["\x1f1", "1\x00", "1\x1c"])
def test_a_control_character_at_an_end_counts(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^SPAN_S: contains a control character"):
        read(SPAN_S=text)


def test_line_breaks_around_a_value_do_not_count() -> None:
    """Files of secrets end with one."""
    assert read(SYNC_TOKENS=" a-token\r\n").sync_tokens == ("a-token",)


@pytest.mark.parametrize("value", ["x", ""])
@pytest.mark.parametrize(
    ("name", "meant"),
    [("SOURCE", "SOURCES"), ("SYNC_TOKEN", "SYNC_TOKENS"), ("RETENTION_", "RETENTION_S")],
)
def test_a_misspelt_setting_is_refused(name: str, meant: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: is not a setting; {meant} is\.") as caught:
        Settings.from_env("slave", {name: value})  # without a token: this comes first
    assert "\n" not in str(caught.value)


def test_a_misspelt_name_is_quoted_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^SOURCES\\n: is not a setting"):
        read("slave", **{"SOURCES\n": "x"})


def test_a_variable_of_another_program_can_be_named() -> None:
    env = {"SOURCE": "x", "SYNC_URL": "y", "SPAN_LENGTH": "z"}
    (warning,) = read("slave", **env, OTHER_VARIABLES="SOURCE, SYNC_URL").warnings
    assert warning.startswith("SPAN_LENGTH: ")
    with pytest.raises(SettingsError, match=r"^SOURCE: "):
        read("slave", **env)


def test_an_unknown_name_that_looks_related_is_a_warning() -> None:
    (warning,) = read(SYNC_INTERVAL="60").warnings
    assert warning.startswith("SYNC_INTERVAL: is not a setting and has no effect.")


def test_a_setting_of_the_other_role_is_a_warning() -> None:
    roles: list[Role] = ["slave", "master"]
    for role, row in product(roles, SETTINGS):
        env = {row.name: VALUES.get(row.name, row.default or "1"), "HOME": "/"}
        if row.name == "SLAVE_TOKENS":
            env["SLAVES"] = VALUES["SLAVES"]
        named = [warning.partition(":")[0] for warning in read(role, **env).warnings]
        assert (row.name in named) == (row.role not in (None, role)), (role, row.name)
    assert read("master", RETENTION_LATE_S=" ").warnings == ()
    assert read("master", RETENTION_LATE_S="1").warnings == (
        "RETENTION_LATE_S: has no effect on a master. Remove it.",
    )


def test_the_address_of_a_service_of_kubernetes_is_no_port() -> None:
    settings = read(PORT="tcp://10.0.0.1:80")
    assert settings.port == 8080
    assert settings.warnings[0].startswith("PORT: ignored, ")
    assert read(SOURCES_PORT="tcp://10.0.0.1:80", SOURCES_SERVICE_HOST="10.0.0.1").warnings == ()


def test_every_fault_is_found() -> None:
    env = {"SPAN_S": "soon", "ACK": "now", "SOURCE": "x"}
    settings, faults = Settings.examine("slave", env)
    assert settings is None
    assert [str(fault).partition(":")[0] for fault in faults] == ["SOURCE", "SPAN_S", "ACK"]
    settings, faults = Settings.examine("slave", {"LINGER_MS": "9999", "HASH": "blake2b"})
    assert [str(fault).partition(":")[0] for fault in faults] == [
        "LINGER_MS",
        "HASH_KEY",
        "SYNC_TOKENS",
    ]
    settings, faults = Settings.examine("slave", TOKEN)
    assert (settings, faults) == (read(), [])


# -- the home directory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "home", "path"),
    [
        ("sqlite:~/data", "/home/me", "/home/me/data"),
        ("sqlite:~/data", "/home/me/", "/home/me/data"),
        ("sqlite:~/data", "/", "/data"),
        ("sqlite:~", "/home/me", "/home/me"),
        ("sqlite:~", "/", "/"),
        ("sqlite:~/<role>", "/home/me", "/home/me/slave"),
        ("sqlite:./~/data", "/home/me", "./~/data"),
        ("sqlite:/a~/b", "", "/a~/b"),
    ],
)
def test_a_tilde_is_the_home_directory(store: str, home: str, path: str) -> None:
    assert read(STORE=store, HOME=home).store.path == path


@pytest.mark.parametrize(
    ("store", "home", "message"),
    [
        ("sqlite:~other/data", "/home/me", "another user .*'~other/data'"),
        ("sqlite:~~/data", "/home/me", "another user"),
        ("sqlite:~/data", "", "HOME is not an absolute path"),
        ("sqlite:~/data", "me", "HOME is not an absolute path"),
    ],
)
def test_a_tilde_that_is_no_home_directory_is_refused(store: str, home: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^STORE: .*{message}"):
        read(STORE=store, HOME=home)


def test_a_file_of_sources_may_be_in_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text('[pay]\npreset = "stripe"\n')
    settings = read(SOURCES_FILE="~/sources.toml", HOME=str(tmp_path))
    assert set(settings.sources_file) == {"pay"}
    with pytest.raises(SettingsError, match=r"^SOURCES_FILE: .*another user"):
        read(SOURCES_FILE="~me/sources.toml", HOME=str(tmp_path))


# -- secrets ---------------------------------------------------------------------------------------

#: A value of each secret setting, and the secrets in it.
SECRETS = {
    "HASH_KEY": ("a,key,with,commas", {"a,key,with,commas"}),
    "SYNC_TOKENS": ("token-one, token-two", {"token-one", "token-two"}),
    "SLAVE_TOKENS": ("alpha=token-alpha", {"token-alpha"}),
    "SOURCES": (
        "hub=github:hub-secret,hub=github:b=c:d,*=closed,own=hmac-sha256@X-Sig: own-secret ",
        {"hub-secret", "b=c:d", "own-secret"},
    ),
    "PROVIDER_LOGS": ("log=github:acme/shop/hooks/1?token=env:LOG_TOKEN", {"log-secret"}),
    "CONSOLE_TOKEN": ("a-token-for-the-console", {"a-token-for-the-console"}),
    "REPLAY_SECRET": ("whsec_MDEyMzQ1Njc4OTA=", {"whsec_MDEyMzQ1Njc4OTA="}),
    "FORWARD_SECRET": ("whsec_MDEyMzQ1Njc4OTA=", {"whsec_MDEyMzQ1Njc4OTA="}),
}


def test_the_secret_settings_are_those_that_are_known() -> None:
    assert {row.name for row in SETTINGS if row.secret} == set(SECRETS)
    for row in SETTINGS:
        looks_secret = re.search("TOKEN|SECRET|KEY$|PASSWORD", row.name)
        assert row.secret or not looks_secret, row.name


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_found_by_their_row_and_never_shown(name: str) -> None:
    value, secrets = SECRETS[name]
    more = {"SLAVES": "alpha=http://alpha.example", "LOG_TOKEN": "log-secret"}
    settings = read("master", **more, **{name: value})
    assert settings.secrets() - {TOKEN["SYNC_TOKENS"]} == secrets
    for secret in secrets:
        assert secret not in repr(settings)


# -- the table of the documentation ----------------------------------------------------------------


def test_the_documentation_has_the_table_of_settings() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    _, begin, rest = page.partition("<!-- settings -->\n")
    table, end, _ = rest.partition("<!-- end of settings -->")
    assert begin
    assert end
    assert table.strip().splitlines() == make_table()


def make_table() -> list[str]:
    """The lines between the markers of ``docs/settings.md``."""
    lines = [
        "| name | default | unit | role | secret | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in SETTINGS:
        default = row.default if row.derive else f"`{row.default}`" if row.default else "none"
        cells = (f"`{row.name}`", default, row.unit, row.role or "both", "yes" * row.secret)
        lines.append(
            "".join(f"| {cell} " if cell else "| " for cell in cells) + f"| {row.meaning} |"
        )
    return lines
